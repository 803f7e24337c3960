//! System call filters: policy in, one compiled classic BPF program out.

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
    /// Not valid JSON, or not a profile.
    #[error("decoding seccomp profile failed: {0}")]
    Decode(String),
    /// The text says something that has no meaning.
    #[error("{0}")]
    Invalid(String),
}

/// The program for a container with the given bounding set; `None` is unconfined.
pub fn plan_seccomp(
    policy: &SeccompPolicy,
    _spec: Option<&LinuxSeccomp>,
    _caps: u64,
    _host: &HostFacts,
) -> Result<Option<SeccompProgram>, SeccompError> {
    match policy {
        SeccompPolicy::Unconfined => Ok(None),
        _ => Err(SeccompError::Invalid("not built yet".into())),
    }
}
