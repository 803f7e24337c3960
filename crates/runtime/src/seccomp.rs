//! System call filters: policy in, one compiled classic BPF program out.

mod compile;
mod default;
mod policy;
mod profile;
mod syscalls;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use wharf_spec::runtime::LinuxSeccomp;

use crate::host::HostFacts;
use crate::plan::SeccompPolicy;

/// A classic BPF program for `SECCOMP_SET_MODE_FILTER`, at most 4096 instructions (Linux `BPF_MAXINSNS`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// The instructions.
    pub filter: Vec<Insn>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Why a policy cannot become a program.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Not valid JSON, or not a profile. Docker's words.
    #[error("Decoding seccomp profile failed: {0}")]
    Decode(String),
    /// The text says something that has no meaning.
    #[error("{0}")]
    Invalid(String),
}

/// The program for a container with the given bounding set; `None` is unconfined.
pub fn plan_seccomp(
    policy: &SeccompPolicy,
    spec: Option<&LinuxSeccomp>,
    caps: u64,
    host: &HostFacts,
) -> Result<Option<SeccompProgram>, SeccompError> {
    let policy = match policy {
        SeccompPolicy::Unconfined => None,
        SeccompPolicy::Default => return default_program(caps, host).map(Some),
        SeccompPolicy::FromSpec => spec.map(|s| policy::from_oci(s, host.arch)).transpose()?,
        SeccompPolicy::Profile(text) => profile::parse(text, caps, host)?,
    };
    policy.map(|p| compile::compile(&p)).transpose()
}

/// The same filter as `linux.seccomp` of an OCI spec, for runtimes that compile it themselves; `None` is unconfined.
pub fn to_oci(
    policy: &SeccompPolicy,
    caps: u64,
    host: &HostFacts,
) -> Result<Option<serde_json::Value>, SeccompError> {
    let policy = match policy {
        SeccompPolicy::Unconfined | SeccompPolicy::FromSpec => None,
        SeccompPolicy::Default => Some(default::policy(caps, host)),
        SeccompPolicy::Profile(text) => profile::parse(text, caps, host)?,
    };
    Ok(policy.map(|policy| policy.to_oci()))
}

/// Docker's default is compiled once per capability set and kernel; the result depends on nothing else.
fn default_program(caps: u64, host: &HostFacts) -> Result<SeccompProgram, SeccompError> {
    type Key = (u64, (u32, u32), crate::host::Arch);
    static COMPILED: Mutex<Vec<(Key, SeccompProgram)>> = Mutex::new(Vec::new());
    let key = (default::relevant_caps(caps), host.kernel, host.arch);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = compiled.iter().find(|(k, _)| *k == key) {
        return Ok(program.clone());
    }
    let program = compile::compile(&default::policy(caps, host))?;
    // Capability sets come from users; a daemon must not remember every one it ever saw.
    if compiled.len() >= MAX_COMPILED {
        compiled.remove(0);
    }
    compiled.push((key, program.clone()));
    Ok(program)
}

const MAX_COMPILED: usize = 32;
