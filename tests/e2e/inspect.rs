//! `docker inspect` of containers: the fields that tools read.

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

fn inspected(engine: &Engine, name: &str) -> Value {
    engine
        .api()
        .get(&format!("/containers/{name}/json"))
        .expect(200)
        .json()
}

#[test]
fn a_created_container_has_dockers_defaults() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", "--name", "cc", BUSYBOX, "sleep", "1"]);
    let c = inspected(&engine, "cc");
    assert_eq!(c["Id"], json!(id));
    assert_eq!(c["Name"], json!("/cc"));
    assert_eq!((&c["Path"], &c["Args"]), (&json!("sleep"), &json!(["1"])));
    assert_eq!(
        c["Image"],
        json!(engine.docker_ok(&["image", "inspect", "-f", "{{.Id}}", BUSYBOX]))
    );
    assert_eq!(
        (&c["Driver"], &c["Platform"], &c["RestartCount"]),
        (&json!("overlay2"), &json!("linux"), &json!(0))
    );
    assert_eq!(
        (&c["ResolvConfPath"], &c["HostnamePath"], &c["LogPath"]),
        (&json!(""), &json!(""), &json!(""))
    );
    let state = json!({
        "Status": "created", "Running": false, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false, "Pid": 0,
        "ExitCode": 0, "Error": "", "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z",
    });
    assert_eq!(c["State"], state);
}

#[test]
fn config_is_what_was_asked_merged_with_the_image() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "create",
        "--name",
        "cc",
        "--hostname",
        "h",
        "-e",
        "A=1",
        "-l",
        "k=v",
        "-u",
        "app",
        "-w",
        "/home",
        "--expose",
        "80",
        "-it",
        BUSYBOX,
    ]);
    let config = &inspected(&engine, "cc")["Config"];
    let expected = json!({
        "Hostname": "h", "Domainname": "", "User": "app", "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
        "ExposedPorts": {"80/tcp": {}}, "Tty": true, "OpenStdin": true, "StdinOnce": true,
        "Env": ["A=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["sh"], "Image": BUSYBOX, "Volumes": null, "WorkingDir": "/home", "Entrypoint": null, "OnBuild": null, "Labels": {"k": "v"},
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&config[field], value, "{field}");
    }
}

#[test]
fn host_config_keeps_what_was_asked() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "create",
        "--name",
        "cc",
        "--memory",
        "32m",
        "--cpus",
        "1.5",
        "--pids-limit",
        "50",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "MKNOD",
        "--read-only",
        "--init",
        "--restart",
        "on-failure:3",
        "--shm-size",
        "32m",
        "--tmpfs",
        "/t:size=1m",
        "--ulimit",
        "nofile=10:20",
        "--network",
        "none",
        "--log-opt",
        "max-size=1m",
        BUSYBOX,
    ]);
    let host = &inspected(&engine, "cc")["HostConfig"];
    let expected = json!({
        "Memory": 33_554_432, "NanoCpus": 1_500_000_000, "PidsLimit": 50, "ReadonlyRootfs": true, "Init": true,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "ShmSize": 33_554_432, "Tmpfs": {"/t": "size=1m"},
        "Ulimits": [{"Name": "nofile", "Hard": 20, "Soft": 10}], "NetworkMode": "none", "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "AutoRemove": false, "Privileged": false, "PublishAllPorts": false, "Binds": null, "IpcMode": "private", "PidMode": "", "UTSMode": "", "UsernsMode": "",
        "Runtime": "runc", "Isolation": "", "OomKillDisable": false, "CgroupParent": "", "Devices": [], "VolumeDriver": "",
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&host[field], value, "{field}");
    }
    let caps = |field: &str| {
        host[field][0]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches("CAP_")
            .to_owned()
    };
    assert_eq!(
        (caps("CapAdd"), caps("CapDrop")),
        ("NET_ADMIN".to_owned(), "MKNOD".to_owned())
    );
}

#[test]
fn masked_and_read_only_paths_are_listed() {
    let engine = Engine::start();
    engine.docker_ok(&["create", "--name", "cc", BUSYBOX]);
    let host = &inspected(&engine, "cc")["HostConfig"];
    let masked: Vec<&str> = host["MaskedPaths"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for path in [
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
    ] {
        assert!(masked.contains(&path), "{path} in {masked:?}");
    }
    assert_eq!(
        host["ReadonlyPaths"],
        json!([
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger"
        ])
    );
}

#[test]
fn a_running_container_has_pid_times_and_paths() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    let c = inspected(&engine, &id);
    let pid = c["State"]["Pid"].as_u64().expect("a pid");
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a live process");
    assert_eq!(command, "sleep\x001000\0");
    assert!(
        c["State"]["StartedAt"]
            .as_str()
            .is_some_and(|t| t.starts_with("20") && t.ends_with('Z'))
    );
    let root = engine.data_root().display().to_string();
    assert_eq!(
        c["HostnamePath"],
        json!(format!("{root}/containers/{id}/hostname"))
    );
    assert_eq!(
        c["HostsPath"],
        json!(format!("{root}/containers/{id}/hosts"))
    );
    assert_eq!(
        c["ResolvConfPath"],
        json!(format!("{root}/containers/{id}/resolv.conf"))
    );
}

#[test]
fn the_bridge_endpoint_is_described() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    let bridge = &inspected(&engine, &id)["NetworkSettings"]["Networks"]["bridge"];
    let address = engine.docker_ok(&[
        "exec",
        &id,
        "sh",
        "-c",
        "ip -4 -o addr show eth0 | sed 's/.*inet //; s/ .*//'",
    ]);
    assert_eq!(
        format!(
            "{}/{}",
            bridge["IPAddress"].as_str().expect("an address"),
            bridge["IPPrefixLen"]
        ),
        address
    );
    let mac = engine.docker_ok(&["exec", &id, "cat", "/sys/class/net/eth0/address"]);
    assert_eq!(bridge["MacAddress"], json!(mac));
    let gateway = engine.docker_ok(&[
        "exec",
        &id,
        "sh",
        "-c",
        "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'",
    ]);
    assert_eq!(bridge["Gateway"], json!(gateway));
}

#[test]
fn size_is_there_when_asked_for() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &[],
        &[
            "sh",
            "-c",
            "head -c 100000 /dev/zero >/file; echo ready; sleep 1000",
        ],
    );
    wharf_e2e::deadline::wait_until("the file", wharf_e2e::deadline::LONG, || {
        engine.docker_ok(&["logs", &id]) == "ready"
    });
    assert_eq!(inspected(&engine, &id).get("SizeRw"), None);
    let sized = engine
        .api()
        .get(&format!("/containers/{id}/json?size=1"))
        .json();
    assert_eq!(sized["SizeRw"], json!(100_000));
    assert!(sized["SizeRootFs"].as_u64() > Some(1_000_000));
}

#[test]
fn graph_driver_names_existing_directories() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", BUSYBOX]);
    let driver = &inspected(&engine, &id)["GraphDriver"];
    assert_eq!(driver["Name"], json!("overlay2"));
    let data = |field: &str| driver["Data"][field].as_str().expect("a path").to_owned();
    for field in ["UpperDir", "WorkDir"] {
        assert!(std::path::Path::new(&data(field)).is_dir(), "{field}");
    }
    let lower = data("LowerDir");
    assert_eq!(
        lower.split(':').count(),
        2,
        "the init layer above the image's one layer: {lower}"
    );
    assert!(
        lower
            .split(':')
            .next()
            .is_some_and(|first| first.ends_with("-init/diff")),
        "{lower}"
    );
    assert!(data("MergedDir").ends_with("/merged"));
}
