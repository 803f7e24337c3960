//! The AppArmor profile that containers run under where the kernel has AppArmor (moby `daemon/apparmor_default.go`).
//!
//! The policy compiler is AppArmor's own `apparmor_parser`; it runs once per boot, when the profile is not loaded yet.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use wharf_runtime::plan::ContainerPlan;

use crate::{Engine, Error, Result};

/// Its name, Docker's, which other tools look for.
pub const DEFAULT_PROFILE: &str = "docker-default";

/// What the kernel has loaded, one `name (mode)` a line.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// What a container may not do, whatever its capabilities: mount, write to the parts of `/proc` and `/sys` that are the host's,
/// trace or signal what is outside. `/proc/sys/kernel/shm*` belongs to the IPC namespace, `/proc/<pid>` to the container, and
/// `/sys/fs/cgroup` is protected by how it is mounted. A rule that denies wins over one that allows, so exceptions are spelled out
/// as patterns that avoid them.
const PROFILE: &str = "
profile docker-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (send,receive) peer=docker-default,
  ptrace (trace,read,tracedby,readby) peer=docker-default,

  deny mount,
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
";

impl Engine {
    /// Loads the default profile if `plan` runs under it and the kernel does not have it.
    pub(crate) fn ensure_apparmor(&self, plan: &ContainerPlan) -> Result<()> {
        if plan.process.apparmor.as_deref() != Some(DEFAULT_PROFILE) || is_loaded() {
            return Ok(());
        }
        load().map_err(|reason| {
            Error::internal(format!(
                "AppArmor enabled on system but the {DEFAULT_PROFILE} profile could not be loaded: {reason}"
            ))
        })
    }
}

fn is_loaded() -> bool {
    let loaded = fs::read_to_string(LOADED).unwrap_or_default();
    names(&loaded).any(|name| name == DEFAULT_PROFILE)
}

fn names(loaded: &str) -> impl Iterator<Item = &str> {
    loaded
        .lines()
        .filter_map(|line| line.rsplit_once(" ("))
        .map(|(name, _)| name)
}

/// Compiles and loads the profile, without the parser's cache, which is the distribution's.
fn load() -> std::result::Result<(), String> {
    let mut parser = Command::new("/sbin/apparmor_parser")
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("run apparmor_parser: {error}"))?;
    if let Some(mut input) = parser.stdin.take() {
        // A parser that ends early says why.
        let _ = input.write_all(PROFILE.as_bytes());
    }
    let output = parser
        .wait_with_output()
        .map_err(|error| format!("wait for apparmor_parser: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaded_profiles_are_found_by_name() {
        let text = "docker-default (enforce)\n/usr/bin/man (enforce)\n";
        assert!(names(text).any(|name| name == DEFAULT_PROFILE));
        assert!(!names("docker-default-2 (complain)\n").any(|name| name == DEFAULT_PROFILE));
    }
}
