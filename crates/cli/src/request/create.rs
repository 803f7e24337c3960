//! The create request of `run` and `create`.

use std::collections::BTreeMap;

use wharf_api::container::{
    Config, CreateRequest, DeviceRequest, Empty, HostConfig, LogConfig, WharfOptions,
};
use wharf_api::network::NetworkingConfig;

use super::{address, device, health, keys_values, mount, network, port, resources, security};
use crate::flags::parse::Matches;
use crate::text::size;

/// Makes the request. The first argument is the image, the others are the command; `proxies` are variables that the
/// configuration gives to every container unless the flags name them.
///
/// # Errors
/// Docker's text for flags that do not fit.
pub fn parse(matches: &Matches, proxies: &[(String, String)]) -> Result<CreateRequest, String> {
    let mac = matches.text_or_empty("mac-address");
    if !mac.is_empty() && !address::is_mac(mac.trim()) {
        return Err(format!("{mac} is not a valid mac address"));
    }
    let swappiness = matches.int("memory-swappiness").unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let ports = port::parse(matches.list("publish"), matches.list("expose"))?;
    let (binds, volumes) = mount::split_volumes(matches.list("volume"))?;
    let networks = network::parse(matches)?;
    let config = container_config(matches, &ports, volumes, proxies)?;
    let host_config = host_config(matches, ports, binds, networks.mode)?;
    if host_config.auto_remove && !matches!(host_config.restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    Ok(CreateRequest {
        config,
        host_config: Some(host_config),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(networks.endpoints),
        }),
    })
}

fn container_config(
    matches: &Matches,
    ports: &port::Ports,
    volumes: Vec<String>,
    proxies: &[(String, String)],
) -> Result<Config, String> {
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    let attach = |stream: &str| {
        matches
            .list("attach")
            .iter()
            .any(|given| given.eq_ignore_ascii_case(stream))
    };
    let attaches_nothing_given = matches.list("attach").is_empty();
    let open_stdin = matches.on("interactive");
    let attach_stdin = attach("stdin") || open_stdin;
    let (image, command) = matches
        .args
        .split_first()
        .map_or(("", &[][..]), |(image, rest)| (image.as_str(), rest));
    Ok(Config {
        hostname: text("hostname"),
        domainname: text("domainname"),
        user: text("user"),
        attach_stdin,
        attach_stdout: attach("stdout") || attaches_nothing_given,
        attach_stderr: attach("stderr") || attaches_nothing_given,
        exposed_ports: ports.exposed.clone(),
        tty: matches.on("tty"),
        open_stdin,
        // The first client to leave closes the program's standard input.
        stdin_once: open_stdin && attach_stdin,
        env: Some(environment(matches, proxies)?),
        cmd: (!command.is_empty()).then(|| command.to_vec()),
        healthcheck: health::parse_health(matches)?,
        image: image.to_owned(),
        volumes: Some(volumes.into_iter().map(|path| (path, Empty {})).collect()),
        working_dir: text("workdir"),
        entrypoint: matches
            .given("entrypoint")
            .then(|| vec![text("entrypoint")]),
        labels: Some(keys_values::labels(
            matches.list("label-file"),
            matches.list("label"),
        )?),
        stop_signal: text("stop-signal"),
        stop_timeout: matches.int("stop-timeout"),
        ..Config::default()
    })
}

fn environment(matches: &Matches, proxies: &[(String, String)]) -> Result<Vec<String>, String> {
    let own = keys_values::environment(matches.list("env-file"), matches.list("env"))?;
    let is_named = |name: &str| {
        own.iter()
            .any(|entry| entry.split('=').next() == Some(name))
    };
    let from_config = proxies
        .iter()
        .filter(|(name, _)| !is_named(name))
        .map(|(name, value)| format!("{name}={value}"));
    Ok(from_config.chain(own.iter().cloned()).collect())
}

fn host_config(
    matches: &Matches,
    ports: port::Ports,
    binds: Vec<String>,
    network_mode: String,
) -> Result<HostConfig, String> {
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    let list = |name: &str| matches.list(name).to_vec();
    let optional = |name: &str| Some(list(name)).filter(|list| !list.is_empty());
    let security = security::parse(matches.list("security-opt"))?;
    let mut host = HostConfig {
        binds: Some(binds).filter(|binds| !binds.is_empty()),
        container_id_file: text("cidfile"),
        log_config: log_config(matches)?,
        network_mode,
        port_bindings: Some(ports.bindings),
        restart_policy: resources::parse_restart(matches.text("restart").unwrap_or("no"))?,
        auto_remove: matches.on("rm"),
        volume_driver: text("volume-driver"),
        volumes_from: optional("volumes-from"),
        annotations: keys_values::map(matches.list("annotation")),
        cap_add: optional("cap-add"),
        cap_drop: optional("cap-drop"),
        cgroupns_mode: mode(
            matches,
            "cgroupns",
            &["", "host", "private"],
            "--cgroupns: invalid CGROUP mode",
        )?,
        dns: Some(list("dns")),
        dns_options: Some([list("dns-option"), list("dns-opt")].concat()),
        dns_search: Some(list("dns-search")),
        extra_hosts: Some(
            matches
                .list("add-host")
                .iter()
                .map(|value| address::extra_host(value))
                .collect::<Result<Vec<_>, _>>()?,
        )
        .filter(|hosts| !hosts.is_empty()),
        group_add: optional("group-add"),
        ipc_mode: text("ipc"),
        links: optional("link"),
        oom_score_adj: matches.int("oom-score-adj").unwrap_or(0),
        pid_mode: pid_mode(matches)?,
        privileged: matches.on("privileged"),
        publish_all_ports: matches.on("publish-all"),
        readonly_rootfs: matches.on("read-only"),
        security_opt: Some(security.options).filter(|options| !options.is_empty()),
        storage_opt: storage_options(matches.list("storage-opt"))?,
        tmpfs: tmpfs(matches.list("tmpfs")),
        uts_mode: mode(matches, "uts", &["", "host"], "--uts: invalid UTS mode")?,
        userns_mode: userns_mode(matches)?,
        shm_size: matches
            .text("shm-size")
            .and_then(|value| size::parse_binary(value).ok())
            .unwrap_or(0),
        sysctls: keys_values::map(matches.list("sysctl")),
        runtime: text("runtime"),
        isolation: text("isolation"),
        mounts: matches
            .list("mount")
            .iter()
            .map(|value| mount::parse(value))
            .collect::<Result<_, _>>()?,
        masked_paths: security.unconfined_paths.then(Vec::new),
        readonly_paths: security.unconfined_paths.then(Vec::new),
        init: matches.given("init").then(|| matches.on("init")),
        wharf: WharfOptions {
            health_on_failure: text("health-on-failure"),
            unified: resources::pairs(matches.list("cgroup-conf")),
            hugepage_limits: resources::numbers(matches.list("hugepage-limit"))?,
            time_offsets: resources::numbers(matches.list("time-offset"))?,
            ..WharfOptions::default()
        },
        ..HostConfig::default()
    };
    resources::fill(&mut host, matches);
    fill_devices(&mut host, matches)?;
    host.cgroup_parent = text("cgroup-parent");
    host.memory_swappiness = Some(matches.int("memory-swappiness").unwrap_or(-1));
    host.oom_kill_disable = Some(matches.on("oom-kill-disable"));
    host.pids_limit = Some(matches.int("pids-limit").unwrap_or(0));
    host.ulimits = Some(ulimits(matches.list("ulimit"))?);
    Ok(host)
}

/// Docker's modes, and this engine's `auto[:size=n]` and `container:<name>`.
fn userns_mode(matches: &Matches) -> Result<String, String> {
    let given = matches.text_or_empty("userns");
    if given == "auto" || given.starts_with("auto:") || given.starts_with("container:") {
        return Ok(given.to_owned());
    }
    mode(
        matches,
        "userns",
        &["", "host"],
        "--userns: invalid USER mode",
    )
}

fn fill_devices(host: &mut HostConfig, matches: &Matches) -> Result<(), String> {
    let (cdi, plain): (Vec<&String>, Vec<&String>) = matches
        .list("device")
        .iter()
        .partition(|value| device::is_cdi_name(value));
    host.devices = Some(
        plain
            .into_iter()
            .map(|value| device::parse_device(value))
            .collect::<Result<_, _>>()?,
    );
    let mut requests: Vec<DeviceRequest> = matches
        .list("gpus")
        .iter()
        .map(|value| device::parse_gpus(value))
        .collect::<Result<_, _>>()?;
    if !cdi.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(cdi.into_iter().cloned().collect()),
            ..DeviceRequest::default()
        });
    }
    host.device_requests = Some(requests).filter(|requests| !requests.is_empty());
    host.device_cgroup_rules =
        Some(matches.list("device-cgroup-rule").to_vec()).filter(|rules| !rules.is_empty());
    let rates = |name: &str, parse: fn(&str) -> Result<_, String>| {
        matches
            .list(name)
            .iter()
            .map(|value| parse(value))
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    };
    host.blkio_device_read_bps = rates("device-read-bps", device::parse_bps)?;
    host.blkio_device_write_bps = rates("device-write-bps", device::parse_bps)?;
    host.blkio_device_read_iops = rates("device-read-iops", device::parse_iops)?;
    host.blkio_device_write_iops = rates("device-write-iops", device::parse_iops)?;
    let weights = matches
        .list("blkio-weight-device")
        .iter()
        .map(|value| device::parse_weight(value));
    host.blkio_weight_device = Some(weights.collect::<Result<_, _>>()?);
    Ok(())
}

fn log_config(matches: &Matches) -> Result<LogConfig, String> {
    let driver = matches.text_or_empty("log-driver");
    let options = matches.list("log-opt");
    if driver == "none" && !options.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(LogConfig {
        kind: driver.to_owned(),
        config: Some(keys_values::map(options)),
    })
}

/// `--pid`: empty, the host's, or another container's.
fn pid_mode(matches: &Matches) -> Result<String, String> {
    let mode = matches.text_or_empty("pid");
    let fits = mode.is_empty()
        || mode == "host"
        || mode
            .strip_prefix("container:")
            .is_some_and(|name| !name.is_empty());
    if fits {
        Ok(mode.to_owned())
    } else {
        Err("--pid: invalid PID mode".into())
    }
}

fn mode(matches: &Matches, flag: &str, known: &[&str], error: &str) -> Result<String, String> {
    let mode = matches.text_or_empty(flag);
    if known.contains(&mode) {
        Ok(mode.to_owned())
    } else {
        Err(error.to_owned())
    }
}

fn storage_options(values: &[String]) -> Result<BTreeMap<String, String>, String> {
    let pair = |value: &String| {
        value
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .ok_or("invalid storage option")
    };
    Ok(values.iter().map(pair).collect::<Result<_, _>>()?)
}

fn tmpfs(values: &[String]) -> BTreeMap<String, String> {
    let pair = |value: &String| {
        let (path, options) = value.split_once(':').unwrap_or((value, ""));
        (path.to_owned(), options.to_owned())
    };
    values.iter().map(pair).collect()
}

/// By name, the last one of each counts.
fn ulimits(values: &[String]) -> Result<Vec<wharf_api::container::Ulimit>, String> {
    let mut by_name = BTreeMap::new();
    for value in values {
        let ulimit = resources::parse_ulimit(value)?;
        by_name.insert(ulimit.name.clone(), ulimit);
    }
    Ok(by_name.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::parse as words;
    use crate::flags::spec::Flag;
    use serde_json::Value;

    fn request(line: &[&str]) -> Result<Value, String> {
        let groups = [
            super::super::flags::RESOURCES,
            super::super::flags::PROCESS,
            super::super::flags::ISOLATION,
            super::super::flags::SURROUNDINGS,
        ];
        let flags: Vec<&'static Flag> = groups.into_iter().flatten().collect();
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let matches = words::parse(&flags, true, &line).map_err(|error| error.to_string())?;
        parse(&matches, &[("HTTP_PROXY".into(), "http://p".into())])
            .map(|request| serde_json::to_value(request).expect("plain data"))
    }

    /// Every row: a command line, a pointer into the request, what stands there.
    #[test]
    fn flags_reach_the_request() {
        for (line, pointer, expected) in [
            (&["busybox"][..], "/Image", r#""busybox""#),
            (&["busybox"], "/Cmd", "null"),
            (&["busybox"], "/AttachStdout", "true"),
            (&["busybox"], "/AttachStdin", "false"),
            (&["busybox"], "/Env", r#"["HTTP_PROXY=http://p"]"#),
            (&["busybox"], "/HostConfig/NetworkMode", r#""default""#),
            (
                &["busybox"],
                "/HostConfig/RestartPolicy",
                r#"{"Name":"no","MaximumRetryCount":0}"#,
            ),
            (&["busybox"], "/HostConfig/MemorySwappiness", "-1"),
            (&["busybox"], "/HostConfig/Dns", "[]"),
            (
                &["busybox"],
                "/NetworkingConfig/EndpointsConfig/default/IPAMConfig",
                "null",
            ),
            (&["-i", "busybox"], "/StdinOnce", "true"),
            (
                &["-it", "busybox", "sh", "-c", "true"],
                "/Cmd",
                r#"["sh","-c","true"]"#,
            ),
            (&["-it", "busybox"], "/Tty", "true"),
            (&["-a", "STDERR", "busybox"], "/AttachStdout", "false"),
            (&["-a", "STDERR", "busybox"], "/AttachStderr", "true"),
            (&["--entrypoint", "", "x"], "/Entrypoint", r#"[""]"#),
            (&["--entrypoint", "/e", "x"], "/Entrypoint", r#"["/e"]"#),
            (
                &["-e", "A=1", "-e", "HTTP_PROXY=mine", "x"],
                "/Env",
                r#"["A=1","HTTP_PROXY=mine"]"#,
            ),
            (
                &["-l", "a", "-l", "b=c", "x"],
                "/Labels",
                r#"{"a":"","b":"c"}"#,
            ),
            (
                &["-m", "64m", "--memory-swap", "-1", "x"],
                "/HostConfig/Memory",
                "67108864",
            ),
            (
                &["-m", "64m", "--memory-swap", "-1", "x"],
                "/HostConfig/MemorySwap",
                "-1",
            ),
            (
                &["--cpus", "1.5", "x"],
                "/HostConfig/NanoCpus",
                "1500000000",
            ),
            (
                &["-p", "8080:80", "x"],
                "/HostConfig/PortBindings",
                r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#,
            ),
            (&["-p", "8080:80", "x"], "/ExposedPorts", r#"{"80/tcp":{}}"#),
            (
                &["-v", "/a:/b:ro", "-v", "/c", "x"],
                "/HostConfig/Binds",
                r#"["/a:/b:ro"]"#,
            ),
            (
                &["-v", "/a:/b:ro", "-v", "/c", "x"],
                "/Volumes",
                r#"{"/c":{}}"#,
            ),
            (
                &["--tmpfs", "/t:size=1m", "x"],
                "/HostConfig/Tmpfs",
                r#"{"/t":"size=1m"}"#,
            ),
            (
                &["--ulimit", "nofile=1:2", "x"],
                "/HostConfig/Ulimits",
                r#"[{"Name":"nofile","Hard":2,"Soft":1}]"#,
            ),
            (
                &["--network", "host", "x"],
                "/HostConfig/NetworkMode",
                r#""host""#,
            ),
            (
                &["--network", "host", "x"],
                "/NetworkingConfig/EndpointsConfig",
                "{}",
            ),
            (
                &["--network", "n", "--network-alias", "a", "x"],
                "/NetworkingConfig/EndpointsConfig/n/Aliases",
                r#"["a"]"#,
            ),
            (
                &["--health-cmd", "true", "--health-interval", "5s", "x"],
                "/Healthcheck",
                r#"{"Test":["CMD-SHELL","true"],"Interval":5000000000}"#,
            ),
            (
                &["--no-healthcheck", "x"],
                "/Healthcheck",
                r#"{"Test":["NONE"]}"#,
            ),
            (&["--init", "x"], "/HostConfig/Init", "true"),
            (&["--stop-timeout", "3", "x"], "/StopTimeout", "3"),
            (
                &["--security-opt", "systempaths=unconfined", "x"],
                "/HostConfig/MaskedPaths",
                "[]",
            ),
            (
                &["--device", "/dev/fuse", "x"],
                "/HostConfig/Devices",
                r#"[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse","CgroupPermissions":"rwm"}]"#,
            ),
            (
                &["--log-opt", "max-size=1m", "x"],
                "/HostConfig/LogConfig",
                r#"{"Type":"","Config":{"max-size":"1m"}}"#,
            ),
            (&["--rm", "x"], "/HostConfig/AutoRemove", "true"),
        ] {
            let request = request(line).expect("fits");
            let found = request.pointer(pointer).map(Value::to_string);
            assert_eq!(found.as_deref(), Some(expected), "{line:?} {pointer}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (line, expected) in [
            (
                &["--rm", "--restart", "always", "x"][..],
                "conflicting options: cannot specify both --restart and --rm",
            ),
            (
                &["--mac-address", "zz", "x"],
                "zz is not a valid mac address",
            ),
            (
                &["--memory-swappiness", "101", "x"],
                "invalid value: 101. Valid memory swappiness range is 0-100",
            ),
            (&["--pid", "foo", "x"], "--pid: invalid PID mode"),
            (&["--uts", "foo", "x"], "--uts: invalid UTS mode"),
            (
                &["--network-alias", "a", "x"],
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (
                &["--no-healthcheck", "--health-cmd", "x", "x"],
                "--no-healthcheck conflicts with --health-* options",
            ),
            (
                &["--env-file", "/nonexistent", "x"],
                "open /nonexistent: no such file or directory",
            ),
            (
                &["-m", "abc", "x"],
                "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'",
            ),
        ] {
            assert_eq!(request(line), Err(expected.to_owned()), "{line:?}");
        }
    }
}
