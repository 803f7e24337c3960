//! Docker's JSON profiles (`--security-opt seccomp=<file>`): the OCI form plus conditions on capabilities,
//! architecture and kernel.

use serde::Deserialize;
use wharf_spec::runtime::{Arch as OciArch, LinuxSeccompAction, LinuxSyscall};

use super::SeccompError;
use super::policy::{FilterArch, Policy, action, rules_from_oci};
use crate::host::{Arch, HostFacts};
use crate::plan::capability;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<OciArch>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    flags: Vec<String>,
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Vec<Call>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    // Text, since a profile lists machines that we have no number table for.
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Call {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile for a container with these capabilities. `None`: it says nothing and so confines nothing.
pub(super) fn parse(
    text: &str,
    caps: u64,
    host: &HostFacts,
) -> Result<Option<Policy>, SeccompError> {
    let profile: Profile =
        serde_json::from_str(text).map_err(|e| SeccompError::Decode(e.to_string()))?;
    let Some(default) = profile.default_action else {
        if profile.syscalls.is_empty() {
            return Ok(None);
        }
        return Err(SeccompError::Invalid("invalid default action".into()));
    };
    if profile.listener_path.is_some() {
        return Err(SeccompError::Invalid(
            "a seccomp listener is not supported".into(),
        ));
    }
    let mut rules = Vec::new();
    for call in &profile.syscalls {
        if applies(call, caps, host)? {
            rules.extend(rules_from_oci(&to_oci(call)?)?);
        }
    }
    Ok(Some(Policy {
        default: action(default, profile.default_errno_ret)?,
        archs: archs(&profile, host.arch)?,
        flags: flags(&profile.flags)?,
        rules,
    }))
}

fn to_oci(call: &Call) -> Result<LinuxSyscall, SeccompError> {
    let names = match (call.name.is_empty(), call.names.is_empty()) {
        (false, false) => {
            return Err(SeccompError::Invalid(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'".into(),
            ));
        }
        (false, true) => vec![call.name.clone()],
        _ => call.names.clone(),
    };
    let mut object = call.rest.clone();
    object.insert("names".into(), names.into());
    serde_json::from_value(object.into()).map_err(|e| SeccompError::Decode(e.to_string()))
}

fn applies(call: &Call, caps: u64, host: &HostFacts) -> Result<bool, SeccompError> {
    let has_cap = |name: &String| capability::number(name).is_some_and(|n| caps >> n & 1 == 1);
    let is_ours = |arches: &Vec<String>| arches.iter().any(|a| a == go_arch(host.arch));
    if let Some(excludes) = &call.excludes {
        let arch = excludes.arches.as_ref().is_some_and(is_ours);
        let cap = excludes.caps.iter().flatten().any(has_cap);
        if arch || cap || kernel_at_least(excludes, host)? == Some(true) {
            return Ok(false);
        }
    }
    if let Some(includes) = &call.includes {
        let arch = includes
            .arches
            .as_ref()
            .is_none_or(|a| a.is_empty() || is_ours(a));
        let cap = includes.caps.iter().flatten().all(has_cap);
        if !arch || !cap || kernel_at_least(includes, host)? == Some(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn go_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    }
}

fn kernel_at_least(condition: &Condition, host: &HostFacts) -> Result<Option<bool>, SeccompError> {
    let Some(text) = &condition.min_kernel else {
        return Ok(None);
    };
    let parsed = text
        .split_once('.')
        .and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
    let wanted = parsed.filter(|v| *v != (0, 0)).ok_or_else(|| {
        SeccompError::Decode(format!(
            "invalid kernel version {text:?}, expected \"<kernel>.<major>\""
        ))
    })?;
    Ok(Some(host.kernel >= wanted))
}

fn archs(profile: &Profile, native: Arch) -> Result<Vec<FilterArch>, SeccompError> {
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(SeccompError::Invalid(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or \
             'archMap'"
                .into(),
        ));
    }
    let mut named = profile.architectures.clone();
    let native_name = match native {
        Arch::X86_64 => "SCMP_ARCH_X86_64",
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
    };
    for map in profile
        .arch_map
        .iter()
        .filter(|m| m.architecture == native_name)
    {
        let subs = map.sub_architectures.iter().flatten();
        named.extend(subs.filter_map(|a| serde_json::from_value::<OciArch>(a.clone().into()).ok()));
    }
    let mut archs = vec![FilterArch::native(native)];
    for arch in named
        .into_iter()
        .filter_map(|a| FilterArch::from_oci(a, native))
    {
        if !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    Ok(archs)
}

fn flags(names: &[String]) -> Result<u32, SeccompError> {
    let mut bits = 0;
    for name in names {
        bits |= match name.as_str() {
            // There is one thread.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
            _ => {
                return Err(SeccompError::Invalid(format!(
                    "seccomp flag {name} is not known to runc"
                )));
            }
        };
    }
    Ok(bits)
}
