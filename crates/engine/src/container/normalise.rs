//! Docker's defaults, filled into what the user left open, so that inspect shows what dockerd's would.

use wharf_api::container::{Config, HostConfig};

use crate::LiveConfig;

/// Docker's masked paths (moby 28 `daemon/pkg/oci/defaults.go`).
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Docker's read-only paths.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Fills in the host configuration (moby `adaptContainerSettings` and `createContainerOSSpecificSettings`).
pub fn host_config(host: &mut HostConfig, engine: &LiveConfig, cgroup_v2: bool) {
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory * 2;
    }
    if host.shm_size == 0 {
        host.shm_size = engine.shm_size;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode.clone_from(&engine.ipc_mode);
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = cgroupns_mode(host.privileged, engine, cgroup_v2);
    }
    if host.oom_kill_disable.is_none() && !cgroup_v2 {
        host.oom_kill_disable = Some(false);
    }
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    // 0 and below are "no limit", which Docker shows as null.
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    if host.runtime.is_empty() {
        host.runtime.clone_from(&engine.default_runtime);
    }
    if !host.privileged {
        host.masked_paths
            .get_or_insert_with(|| MASKED_PATHS.map(str::to_owned).into());
        host.readonly_paths
            .get_or_insert_with(|| READONLY_PATHS.map(str::to_owned).into());
    }
}

fn cgroupns_mode(privileged: bool, engine: &LiveConfig, cgroup_v2: bool) -> String {
    if privileged && !cgroup_v2 {
        return "host".into();
    }
    match &engine.cgroupns_mode {
        Some(mode) => mode.clone(),
        None if cgroup_v2 => "private".into(),
        None => "host".into(),
    }
}

/// Fills in what the container is called from inside (moby `newContainer`).
pub fn hostname(config: &mut Config, host: &HostConfig, id: &str) {
    if !config.hostname.is_empty() {
        return;
    }
    config.hostname = if host.network_mode == "host" {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    } else {
        crate::ids::short(id).to_owned()
    };
}

/// Program and arguments from entry point and command (moby `getEntrypointAndArgs`). Both empty is the caller's error.
pub fn program(config: &Config) -> Option<(String, Vec<String>)> {
    let entrypoint = config.entrypoint.iter().flatten();
    let mut words = entrypoint.chain(config.cmd.iter().flatten()).cloned();
    let program = words.next()?;
    Some((program, words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_dockers() {
        let engine = LiveConfig::default();
        let mut host = HostConfig {
            memory: 10,
            ..HostConfig::default()
        };
        host_config(&mut host, &engine, false);
        assert_eq!(host.shm_size, 67_108_864);
        assert_eq!(host.ipc_mode, "private");
        assert_eq!(host.cgroupns_mode, "host");
        assert_eq!(host.memory_swap, 20);
        assert_eq!(host.restart_policy.name, "no");
        assert_eq!(host.network_mode, "bridge");
        assert_eq!(host.oom_kill_disable, Some(false));
        assert_eq!(host.masked_paths.map(|paths| paths.len()), Some(12));
        assert_eq!(host.pids_limit, None);
    }

    #[test]
    fn privileged_containers_see_everything() {
        let engine = LiveConfig::default();
        let mut host = HostConfig {
            privileged: true,
            ..HostConfig::default()
        };
        host_config(&mut host, &engine, true);
        assert_eq!((host.masked_paths, host.readonly_paths), (None, None));
        assert_eq!(host.cgroupns_mode, "private");
    }

    #[test]
    fn entry_point_comes_before_command() {
        let words = |text: &str| Some(text.split(' ').map(str::to_owned).collect());
        let config = Config {
            entrypoint: words("a b"),
            cmd: words("c"),
            ..Config::default()
        };
        assert_eq!(
            program(&config),
            Some(("a".into(), vec!["b".into(), "c".into()]))
        );
        assert_eq!(program(&Config::default()), None);
    }
}
