//! What is refused at create, in Docker's words (moby `daemon/container.go` and `daemon/daemon_unix.go`).

use wharf_api::container::{Config, HealthConfig, HostConfig};

use super::abilities::Abilities;
use super::health::OnFailure;
use super::{limits, mounts, restart_policy, signals};
use crate::{Error, Result};

/// Longest host name the kernel takes.
const MAX_HOSTNAME: usize = 64;
/// Least duration of health checks, nanoseconds.
const MIN_HEALTH: i64 = 1_000_000;

/// Checks and cleans the container's own configuration.
pub fn config(config: &mut Config) -> Result<()> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            )));
        }
        config.working_dir = clean(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        signals::parse(&config.stop_signal).map_err(|error| Error::invalid(error.to_string()))?;
    }
    if let Some(bad) = config
        .env
        .iter()
        .flatten()
        .find(|entry| entry.is_empty() || entry.starts_with('='))
    {
        return Err(Error::invalid(format!(
            "invalid environment variable: {bad}"
        )));
    }
    if let Some(health) = &config.healthcheck {
        health_check(health)?;
    }
    if config.hostname.len() > MAX_HOSTNAME {
        return Err(Error::invalid(format!(
            "hostname {:?} is too long (maximum {MAX_HOSTNAME} bytes)",
            config.hostname
        )));
    }
    Ok(())
}

/// Go's `path.Clean` for absolute paths.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn health_check(health: &HealthConfig) -> Result<()> {
    let durations = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match durations
        .iter()
        .find(|(_, ns)| *ns != 0 && *ns < MIN_HEALTH)
    {
        Some((name, _)) => Err(Error::invalid(format!(
            "{name} in Healthcheck cannot be less than 1ms"
        ))),
        None => Ok(()),
    }
}

/// Checks the host configuration; gives warnings. Values that this host cannot honour are taken back, as Docker does.
pub fn host_config(host: &mut HostConfig, can: &Abilities) -> Result<Vec<String>> {
    let restarts = !matches!(host.restart_policy.name.as_str(), "" | "no");
    if host.auto_remove && restarts {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    restart_policy::validate(&host.restart_policy).map_err(Error::invalid)?;
    OnFailure::parse(&host.wharf.health_on_failure)?;
    let mut warnings = limits::validate(host, can, false)?;
    for destination in host.tmpfs.keys() {
        mounts::check_target(destination).map_err(Error::invalid)?;
    }
    modes(host)?;
    warnings.extend(security(host, can)?);
    if host.network_mode == "host"
        && host
            .port_bindings
            .as_ref()
            .is_some_and(|ports| !ports.is_empty())
    {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    Ok(warnings)
}

/// Refuses options that contradict a shared network or host name (moby `daemon/internal/runconfig`).
pub fn conflicts(config: &Config, host: &HostConfig) -> Result<()> {
    let refuse = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return refuse("hostname and the UTS mode");
    }
    let Some(owner) = host.network_mode.strip_prefix("container:") else {
        return Ok(());
    };
    if owner.is_empty() {
        return Err(Error::invalid(
            "invalid network mode: invalid container format container:<name|id>",
        ));
    }
    let publishes = host
        .port_bindings
        .as_ref()
        .is_some_and(|ports| !ports.is_empty());
    let conflicts = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (some(&host.dns), "dns and the network mode"),
        (
            some(&host.extra_hosts),
            "custom host-to-IP mapping and the network mode",
        ),
        (
            !config.mac_address.is_empty(),
            "mac-address and the network mode",
        ),
        (
            publishes || host.publish_all_ports,
            "port publishing and the container type network mode",
        ),
        (
            !config.exposed_ports.is_empty(),
            "port exposing and the container type network mode",
        ),
    ];
    match conflicts.iter().find(|(given, _)| *given) {
        Some((_, what)) => refuse(what),
        None => Ok(()),
    }
}

fn modes(host: &HostConfig) -> Result<()> {
    let joins = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    let ipc = host.ipc_mode.as_str();
    if !matches!(ipc, "" | "none" | "private" | "host" | "shareable") && !joins(ipc) {
        return Err(Error::invalid(format!("invalid IPC mode: {ipc}")));
    }
    let pid = host.pid_mode.as_str();
    if !matches!(pid, "" | "host") && !joins(pid) {
        return Err(Error::invalid(format!("invalid PID mode: {pid}")));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!(
            "invalid UTS mode: {}",
            host.uts_mode
        )));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return Err(Error::invalid(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        )));
    }
    if crate::userns::Mode::parse(&host.userns_mode).is_none() {
        return Err(Error::invalid(format!(
            "invalid USER mode: {}",
            host.userns_mode
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "invalid isolation '{}' on linux",
            host.isolation
        )));
    }
    if host.annotations.contains_key("") {
        return Err(Error::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    Ok(())
}

/// Security options (moby `parseSecurityOpt`). Labels and profiles of security modules that are not active have no effect, as
/// under Docker, but the client is told.
fn security(host: &HostConfig, can: &Abilities) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for option in host.security_opt.iter().flatten() {
        if matches!(
            option.as_str(),
            "no-new-privileges" | "writable-cgroups" | "disable"
        ) {
            continue;
        }
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        let Some((key, value)) = pair else {
            return Err(Error::invalid(format!(
                "invalid --security-opt 1: {option:?}"
            )));
        };
        match key {
            "no-new-privileges" | "writable-cgroups" if parse_bool(value).is_some() => {}
            "seccomp" => {}
            "label" if value == "disable" || can.selinux => {}
            "label" => warnings.push(format!(
                "SELinux is not enabled: label {value:?} has no effect"
            )),
            "apparmor" if matches!(value, "" | "unconfined") || can.apparmor => {}
            "apparmor" => warnings.push(format!(
                "AppArmor is not enabled: profile {value:?} has no effect"
            )),
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 2: {option:?}"
                )));
            }
        }
    }
    Ok(warnings)
}

/// systemd's groups have names of its own (moby `verifyPlatformContainerSettings`).
pub fn cgroup_parent(host: &HostConfig, driver: &str) -> Result<()> {
    let parent = host.cgroup_parent.as_str();
    if driver != "systemd" || parent.is_empty() || wharf_runtime::plan::is_slice(parent) {
        return Ok(());
    }
    Err(Error::invalid(
        "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
    ))
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can() -> Abilities {
        Abilities {
            cpus: 2,
            memory: true,
            swap: true,
            cpu_quota: true,
            cpuset: true,
            cpu_list: "0-1".into(),
            memory_nodes: "0".into(),
            ..Abilities::default()
        }
    }

    fn refused(edit: impl FnOnce(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        edit(&mut host);
        host_config(&mut host, &can()).map_or_else(|error| error.to_string(), |_| "accepted".into())
    }

    #[test]
    fn senseless_limits_are_refused_in_dockers_words() {
        assert_eq!(
            refused(|host| host.memory = 1),
            "Minimum memory limit allowed is 6MB"
        );
        assert_eq!(
            refused(|host| host.nano_cpus = 3_000_000_000),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
        assert_eq!(
            refused(|host| host.cpuset_cpus = "0-5".into()),
            "Requested CPUs are not available - requested 0-5, available: 0-1"
        );
        assert_eq!(
            refused(|host| host.cpuset_cpus = "x".into()),
            "Invalid value x for cpuset cpus: invalid format: x"
        );
        assert_eq!(
            refused(|host| host.ipc_mode = "odd".into()),
            "invalid IPC mode: odd"
        );
        assert_eq!(
            refused(|host| host.pid_mode = "container:".into()),
            "invalid PID mode: container:"
        );
        assert_eq!(
            refused(|host| host.security_opt = Some(vec!["nope".into()])),
            "invalid --security-opt 1: \"nope\""
        );
        assert_eq!(
            refused(|host| {
                host.auto_remove = true;
                host.restart_policy.name = "always".into();
            }),
            "can't create 'AutoRemove' container with restart policy"
        );
        assert_eq!(refused(|host| host.memory = 6 << 20), "accepted");
    }

    #[test]
    fn a_shared_network_takes_no_network_options() {
        let host = HostConfig {
            network_mode: "container:x".into(),
            ..HostConfig::default()
        };
        let named = Config {
            hostname: "h".into(),
            ..Config::default()
        };
        assert!(conflicts(&Config::default(), &host).is_ok());
        assert_eq!(
            conflicts(&named, &host).expect_err("hostname").to_string(),
            "conflicting options: hostname and the network mode"
        );
        assert!(conflicts(&named, &HostConfig::default()).is_ok());
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("/", "/"),
            ("/a//b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../x", "/x"),
        ] {
            assert_eq!(clean(path), expected);
        }
        let mut relative = Config {
            working_dir: "x".into(),
            ..Config::default()
        };
        assert!(config(&mut relative).is_err());
    }
}
