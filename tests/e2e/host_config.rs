//! Every field of `HostConfig`: what it does is seen from inside, or it is refused, or it is the client's own business.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind, leftovers};

/// How a field shows that it is obeyed.
enum Proof {
    /// What a script inside prints; alternatives (of cgroup v1 and v2) are separated by `|`.
    Says(&'static str, String),
    /// The same, unless the answer to the create says that this kernel cannot.
    Limits(&'static str, &'static str),
    /// What the running container's inspect has.
    Inspect(&'static str, &'static str),
    /// The create or the start is refused, in these words.
    Refused(&'static str),
    /// Kept and shown, and nothing else: for clients, or for Windows.
    Shown,
}

use Proof::{Inspect, Limits, Refused, Says, Shown};

struct Row {
    field: &'static str,
    value: Value,
    /// Further fields: of `HostConfig`, and of the configuration beside it.
    with: Value,
    config: Value,
    proof: Proof,
}

fn row(field: &'static str, value: Value, proof: Proof) -> Row {
    Row {
        field,
        value,
        with: json!({}),
        config: json!({}),
        proof,
    }
}

impl Row {
    fn with(mut self, with: Value) -> Row {
        self.with = with;
        self
    }

    fn config(mut self, config: Value) -> Row {
        self.config = config;
        self
    }
}

fn says(script: &'static str, expected: &str) -> Proof {
    Says(script, expected.to_owned())
}

/// A script may call `g <v1 file> <v2 file>` for a file of its control group.
const PRELUDE: &str =
    "g() { cat /sys/fs/cgroup/$1 2>/dev/null || cat /sys/fs/cgroup/$2 2>/dev/null; }; ";

/// The disk that a path is on: its device file and numbers.
fn disk_of(path: &Path) -> (String, String) {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(path).expect("there").dev();
    let numbers = |dir: &str| -> Option<(String, String)> {
        let uevent = std::fs::read_to_string(format!("{dir}/uevent")).ok()?;
        let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key));
        Some((
            format!("/dev/{}", value("DEVNAME=")?),
            format!("{}:{}", value("MAJOR=")?, value("MINOR=")?),
        ))
    };
    let own = format!(
        "/sys/dev/block/{}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    // Limits are those of whole disks.
    match Path::new(&own).join("partition").exists() {
        true => numbers(&format!("{own}/..")),
        false => numbers(&own),
    }
    .expect("tests run on a disk")
}

fn modes(engine: &Engine) -> Vec<Row> {
    let host = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("readable");
        link.to_string_lossy().into_owned()
    };
    vec![
        row(
            "NetworkMode",
            json!("none"),
            says("ls /sys/class/net", "lo"),
        ),
        row(
            "IpcMode",
            json!("host"),
            Says("readlink /proc/self/ns/ipc", host("ipc")),
        ),
        row(
            "PidMode",
            json!("host"),
            Says("readlink /proc/self/ns/pid", host("pid")),
        ),
        row(
            "UTSMode",
            json!("host"),
            Says("readlink /proc/self/ns/uts", host("uts")),
        ),
        row(
            "UsernsMode",
            json!("odd"),
            Refused("invalid USER mode: odd"),
        ),
        row(
            "CgroupnsMode",
            json!("private"),
            says("grep -vc ':/$' /proc/self/cgroup", "0"),
        ),
        row(
            "Runtime",
            json!("odd"),
            Refused("unknown or invalid runtime name: odd"),
        ),
        row(
            "Isolation",
            json!("hyperv"),
            Refused("invalid isolation 'hyperv' on linux"),
        ),
        row(
            "Privileged",
            json!(true),
            says("grep Seccomp: /proc/self/status | cut -f2", "0"),
        ),
        row("Init", json!(true), says("cat /proc/1/comm", "docker-init")),
        row(
            "CgroupParent",
            json!(format!("/{}/below", engine.cgroup_parent())),
            says("grep -vc /below/ /proc/self/cgroup", "0"),
        )
        .with(json!({"CgroupnsMode": "host"})),
        // The v1 API's word for another container's group, which no daemon has read since.
        row("Cgroup", json!("container:x"), Shown),
    ]
}

fn process() -> Vec<Row> {
    vec![
        row(
            "CapAdd",
            json!(["SYS_TIME"]),
            says(
                "grep CapBnd /proc/self/status | cut -f2",
                "00000000aa0425fb",
            ),
        ),
        row(
            "CapDrop",
            json!(["ALL"]),
            says(
                "grep CapBnd /proc/self/status | cut -f2",
                "0000000000000000",
            ),
        ),
        row(
            "GroupAdd",
            json!(["777"]),
            says("id -G | tr ' ' '\\n' | grep 777", "777"),
        ),
        row(
            "OomScoreAdj",
            json!(500),
            says("cat /proc/self/oom_score_adj", "500"),
        ),
        row(
            "SecurityOpt",
            json!(["no-new-privileges"]),
            says("grep NoNewPrivs /proc/self/status | cut -f2", "1"),
        ),
        row(
            "Ulimits",
            json!([{"Name": "nofile", "Soft": 100, "Hard": 200}]),
            says("ulimit -n; ulimit -Hn", "100\n200"),
        ),
        row(
            "Sysctls",
            json!({"net.ipv4.ip_default_ttl": "77"}),
            says("cat /proc/sys/net/ipv4/ip_default_ttl", "77"),
        ),
        row(
            "MaskedPaths",
            json!(["/etc/passwd"]),
            says("wc -c </etc/passwd", "0"),
        ),
        row(
            "ReadonlyPaths",
            json!(["/home"]),
            says("touch /home/x 2>&1 | grep -c Read-only", "1"),
        ),
        row(
            "ConsoleSize",
            json!([30, 100]),
            Inspect("{{.HostConfig.ConsoleSize}}", "[30 100]"),
        )
        .config(json!({"Tty": true})),
        row(
            "Annotations",
            json!({"a": "b"}),
            Inspect("{{.HostConfig.Annotations.a}}", "b"),
        ),
        row("ContainerIDFile", json!("/x"), Shown),
        row(
            "LogConfig",
            json!({"Type": "local", "Config": {}}),
            Inspect("{{.LogPath}}|", "|"),
        ),
        row(
            "RestartPolicy",
            json!({"Name": "on-failure", "MaximumRetryCount": 1}),
            Inspect("{{.RestartCount}} {{.State.Running}}", "1 false"),
        )
        .config(json!({"Cmd": ["false"]})),
        row("AutoRemove", json!(true), Shown),
        row(
            "Devices",
            json!([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/other", "CgroupPermissions": "rwm"}]),
            says("test -c /dev/other && echo there", "there"),
        ),
        row(
            "DeviceCgroupRules",
            json!(["c 1:11 r"]),
            says(
                "mknod /k c 1 11 && head -c 1 /k >/dev/null 2>&1 && echo read",
                "read",
            ),
        )
        .with(json!({"CapAdd": ["SYSLOG"]})),
        row(
            "DeviceRequests",
            json!([{"Driver": "odd", "Count": 1}]),
            Refused("could not select device driver \"odd\""),
        ),
    ]
}

fn files(dir: &str, other: &str) -> Vec<Row> {
    vec![
        row(
            "Binds",
            json!([format!("{dir}:/b:ro")]),
            says(
                "cat /b/file; touch /b/x 2>&1 | grep -c Read-only",
                "bound\n1",
            ),
        ),
        row(
            "Mounts",
            json!([{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1_048_576}}]),
            says("grep ' /m ' /proc/mounts | grep -c size=1024k", "1"),
        ),
        row(
            "Tmpfs",
            json!({"/t": "size=1m"}),
            says("grep ' /t ' /proc/mounts | grep -c size=1024k", "1"),
        ),
        row(
            "VolumesFrom",
            json!([other]),
            says("test -d /volume && grep -c ' /volume ' /proc/mounts", "1"),
        ),
        row("VolumeDriver", json!("odd"), Refused("odd")).config(json!({"Volumes": {"/v": {}}})),
        row(
            "ReadonlyRootfs",
            json!(true),
            says("touch /x 2>&1 | grep -c Read-only", "1"),
        ),
        row(
            "ShmSize",
            json!(1_048_576),
            says("grep ' /dev/shm ' /proc/mounts | grep -c size=1024k", "1"),
        ),
        row("StorageOpt", json!({"odd": "1"}), Refused("nknown option")),
    ]
}

fn network(other: &str) -> Vec<Row> {
    let bridge = json!({"NetworkMode": "bridge"});
    let exposed = json!({"ExposedPorts": {"80/tcp": {}}});
    let first = "{{(index .NetworkSettings.Ports \"80/tcp\" 0).HostIp}}";
    vec![
        row(
            "Dns",
            json!(["10.9.8.7"]),
            says("grep -c '^nameserver 10.9.8.7$' /etc/resolv.conf", "1"),
        )
        .with(bridge.clone()),
        row(
            "DnsOptions",
            json!(["ndots:7"]),
            says("grep -c '^options ndots:7$' /etc/resolv.conf", "1"),
        )
        .with(bridge.clone()),
        row(
            "DnsSearch",
            json!(["s.example"]),
            says("grep -c '^search s.example$' /etc/resolv.conf", "1"),
        )
        .with(bridge.clone()),
        row(
            "ExtraHosts",
            json!(["h:1.2.3.4"]),
            says("grep 1.2.3.4 /etc/hosts", "1.2.3.4\th"),
        )
        .with(bridge.clone()),
        row(
            "Links",
            json!([format!("{other}:alias")]),
            says("grep -c alias /etc/hosts", "1"),
        )
        .with(bridge.clone()),
        row(
            "PortBindings",
            json!({"80/tcp": [{"HostPort": ""}]}),
            Inspect(first, "0.0.0.0"),
        )
        .with(bridge.clone())
        .config(exposed.clone()),
        row("PublishAllPorts", json!(true), Inspect(first, "0.0.0.0"))
            .with(bridge)
            .config(exposed),
    ]
}

fn limits(disk: &str) -> Vec<Row> {
    let swap = json!({"Memory": 64 << 20});
    let throttle = json!([{"Path": disk, "Rate": 1_048_576}]);
    vec![
        row(
            "CpuShares",
            json!(512),
            Limits("g cpu/cpu.shares cpu.weight", "512|20"),
        ),
        row(
            "Memory",
            json!(64 << 20),
            Limits("g memory/memory.limit_in_bytes memory.max", "67108864"),
        ),
        row(
            "MemoryReservation",
            json!(32 << 20),
            Limits("g memory/memory.soft_limit_in_bytes memory.low", "33554432"),
        )
        .with(swap.clone()),
        row(
            "MemorySwap",
            json!(96 << 20),
            Limits(
                "g memory/memory.memsw.limit_in_bytes memory.swap.max",
                "100663296|33554432",
            ),
        )
        .with(swap.clone()),
        row(
            "MemorySwappiness",
            json!(10),
            Limits("g memory/memory.swappiness", "10"),
        ),
        row(
            "KernelMemoryTCP",
            json!(8 << 20),
            Limits("g memory/memory.kmem.tcp.limit_in_bytes", "8388608"),
        ),
        row(
            "OomKillDisable",
            json!(true),
            Limits(
                "g memory/memory.oom_control | grep -c 'oom_kill_disable 1'",
                "1",
            ),
        )
        .with(swap),
        row(
            "NanoCpus",
            json!(500_000_000),
            Limits("g cpu/cpu.cfs_quota_us cpu.max", "50000|50000 100000"),
        ),
        row(
            "CpuPeriod",
            json!(50_000),
            Limits("g cpu/cpu.cfs_period_us cpu.max", "50000|max 50000"),
        ),
        row(
            "CpuQuota",
            json!(25_000),
            Limits("g cpu/cpu.cfs_quota_us cpu.max", "25000|25000 100000"),
        ),
        row(
            "CpuRealtimePeriod",
            json!(900_000),
            Limits("g cpu/cpu.rt_period_us", "900000"),
        ),
        row("CpuRealtimeRuntime", json!(0), Limits("echo 0", "0")),
        row(
            "CpusetCpus",
            json!("0"),
            Limits("g cpuset/cpuset.cpus cpuset.cpus", "0"),
        ),
        row(
            "CpusetMems",
            json!("0"),
            Limits("g cpuset/cpuset.mems cpuset.mems", "0"),
        ),
        row(
            "PidsLimit",
            json!(42),
            Limits("g pids/pids.max pids.max", "42"),
        ),
        row(
            "BlkioWeight",
            json!(300),
            Limits(
                "g blkio/blkio.bfq.weight io.bfq.weight | tr -d a-z\\ ; g blkio/blkio.weight",
                "300",
            ),
        ),
        row(
            "BlkioWeightDevice",
            json!([{"Path": disk, "Weight": 300}]),
            Limits(
                "g blkio/blkio.bfq.weight_device io.bfq.weight | grep -c 300",
                "1",
            ),
        ),
        row(
            "BlkioDeviceReadBps",
            throttle.clone(),
            Limits(
                "g blkio/blkio.throttle.read_bps_device io.max | grep -c 1048576",
                "1",
            ),
        ),
        row(
            "BlkioDeviceWriteBps",
            throttle.clone(),
            Limits(
                "g blkio/blkio.throttle.write_bps_device io.max | grep -c 1048576",
                "1",
            ),
        ),
        row(
            "BlkioDeviceReadIOps",
            throttle.clone(),
            Limits(
                "g blkio/blkio.throttle.read_iops_device io.max | grep -c 1048576",
                "1",
            ),
        ),
        row(
            "BlkioDeviceWriteIOps",
            throttle,
            Limits(
                "g blkio/blkio.throttle.write_iops_device io.max | grep -c 1048576",
                "1",
            ),
        ),
        // Of Windows.
        row("CpuCount", json!(1), Shown),
        row("CpuPercent", json!(1), Limits("true", "")),
        row(
            "IOMaximumIOps",
            json!(1),
            Refused("linux does not support Maximum IO Bandwidth or Maximum IO IOps"),
        ),
        row(
            "IOMaximumBandwidth",
            json!(1),
            Refused("linux does not support Maximum IO Bandwidth or Maximum IO IOps"),
        ),
    ]
}

/// Creates, starts and proves. The complaint, or nothing.
fn try_row(engine: &Engine, row: &Row) -> Option<String> {
    let mut host = json!({"NetworkMode": "none"});
    let script = match &row.proof {
        Says(script, _) | Limits(script, _) => format!("{PRELUDE}{script}"),
        _ => "sleep 1000".to_owned(),
    };
    let mut body = json!({"Image": BUSYBOX, "Cmd": ["sh", "-c", script]});
    for (target, more) in [(&mut host, &row.with), (&mut body, &row.config)] {
        for (key, value) in more.as_object().expect("an object") {
            target[key] = value.clone();
        }
    }
    host[row.field] = row.value.clone();
    body["HostConfig"] = host;
    let api = engine.api();
    let made = api.post("/containers/create", &body);
    let complaint = |text: String| Some(format!("{}: {text}", row.field));
    if made.status() != 201 {
        return match &row.proof {
            Refused(words) if made.message().contains(words) => None,
            _ => complaint(format!("create: {} {}", made.status(), made.message())),
        };
    }
    let made = made.json();
    let id = made["Id"].as_str().expect("an id");
    let shown = api
        .get(&format!("/containers/{id}/json"))
        .expect(200)
        .json();
    if matches!(row.proof, Shown) {
        return match &shown["HostConfig"][row.field] {
            value if *value == row.value => None,
            value => complaint(format!("shown as {value}")),
        };
    }
    let started = api.post_empty(&format!("/containers/{id}/start"));
    if started.status() != 204 {
        return match &row.proof {
            Refused(words) if started.message().contains(words) => None,
            // A disk whose scheduler knows no weights says so.
            Limits(..) if started.message().contains("weight_device") => None,
            _ => complaint(format!("start: {}", started.message())),
        };
    }
    match &row.proof {
        Refused(words) => complaint(format!("not refused with {words:?}")),
        Shown => None,
        Inspect(format, expected) => {
            let mut last = String::new();
            wait_until(row.field, LONG, || {
                last = engine.inspect(id, format);
                last == *expected
            });
            None
        }
        Says(_, expected) => said(engine, id, expected).and_then(complaint),
        Limits(_, expected) => match made["Warnings"].as_array().map_or(0, Vec::len) {
            0 => said(engine, id, expected).and_then(complaint),
            _ => None,
        },
    }
}

fn said(engine: &Engine, id: &str, expected: &str) -> Option<String> {
    engine.docker_ok(&["wait", id]);
    let output = engine.docker(&["logs", id]);
    let text = output.stdout.trim();
    let fits = expected.split('|').any(|one| one == text);
    (!fits).then(|| format!("{text:?} instead of {expected:?} {}", output.stderr))
}

#[test]
fn no_field_is_ignored() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let engine = Engine::start();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("file"), "bound\n").expect("write");
    let other = engine.run_detached(&["-v", "/volume"], &["sleep", "1000"]);
    let (disk, _) = disk_of(engine.data_root());
    let rows: Vec<Row> = [
        modes(&engine),
        process(),
        files(&dir.path().to_string_lossy(), &other),
        network(&other),
        limits(&disk),
    ]
    .into_iter()
    .flatten()
    .collect();
    let tried: BTreeSet<&str> = rows.iter().map(|row| row.field).collect();
    let known = engine
        .api()
        .get(&format!("/containers/{other}/json"))
        .expect(200)
        .json();
    let known = known["HostConfig"].as_object().expect("an object").keys();
    let untried: Vec<&String> = known.filter(|key| !tried.contains(key.as_str())).collect();
    assert!(untried.is_empty(), "fields without a row: {untried:?}");
    let complaints: Vec<String> = rows
        .iter()
        .filter_map(|row| try_row(&engine, row))
        .collect();
    engine.remove_all();
    // A parent that was asked for stays, as under Docker.
    for parent in leftovers::cgroup_parents(engine.cgroup_parent()) {
        let _ = std::fs::remove_dir(parent.join("below"));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}
