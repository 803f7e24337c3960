//! The systemd cgroup driver, with Debian's systemd and D-Bus as process 1 of a container that sees the host's files: it need not run on
//! the host. What is tried is in `tests/systemd/inside.sh`, which the virtual machine runs too.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use wharf_e2e::bundle::Bundle;
use wharf_e2e::engine::wharf_program;
use wharf_e2e::images;

const FILES: [(&str, &str); 6] = [
    ("inside.sh", include_str!("../systemd/inside.sh")),
    ("units/dbus.socket", include_str!("../systemd/dbus.socket")),
    (
        "units/dbus.service",
        include_str!("../systemd/dbus.service"),
    ),
    (
        "units/systemd-journald.socket",
        include_str!("../systemd/systemd-journald.socket"),
    ),
    (
        "units/systemd-journald.service",
        include_str!("../systemd/systemd-journald.service"),
    ),
    (
        "units/wharf-test.service",
        include_str!("../systemd/wharf-test.service"),
    ),
];

/// All that a service manager may do, in namespaces of its own.
fn configure(bundle: &mut Bundle, capabilities: &Value) {
    let dir = bundle.dir().to_path_buf();
    let config = &mut bundle.config;
    config["root"] = json!({"path": "merged"});
    let process = &mut config["process"];
    process["args"] = json!(["/lib/systemd/systemd", "--unit=wharf-test.service"]);
    process["env"] = json!([
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "container=wharf",
        // None of the host's units; but a reload must find those that were made on the way.
        "SYSTEMD_UNIT_PATH=/wharf-test/units:/run/systemd/transient",
    ]);
    process["noNewPrivileges"] = false.into();
    for set in ["bounding", "effective", "permitted"] {
        process["capabilities"][set] = capabilities.clone();
    }
    let linux = &mut config["linux"];
    let kinds = ["pid", "mount", "ipc", "uts", "cgroup", "network"];
    linux["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
    linux["maskedPaths"] = json!([]);
    linux["readonlyPaths"] = json!([]);
    linux["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}),
        json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs"}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}),
    ];
    for (target, source) in [
        ("/wharf-test", dir.clone()),
        ("/wharf-test/wharf", wharf_program()),
        (
            "/wharf-test/busybox.tar",
            images::directory().join("busybox.tar"),
        ),
    ] {
        mounts.push(
            json!({"destination": target, "type": "bind", "source": source, "options": ["bind"]}),
        );
    }
    config["mounts"] = mounts.into();
}

#[test]
fn scopes_of_a_running_systemd() {
    let mut bundle = Bundle::new(&["true"]);
    let dir = bundle.dir().to_path_buf();
    let features = bundle.command(&["features"]).output().expect("runs").stdout;
    let features: Value = serde_json::from_slice(&features).expect("JSON");
    configure(&mut bundle, &features["linux"]["capabilities"]);
    for place in ["units", "over", "merged"] {
        fs::create_dir_all(dir.join(place)).expect("mkdir");
    }
    for (name, text) in FILES {
        fs::write(dir.join(name), text).expect("write");
    }
    // Mounts of the outer process that go with it.
    let script = "mount -t tmpfs over over && mkdir over/upper over/work \
        && mount -t overlay over -o lowerdir=/,upperdir=over/upper,workdir=over/work merged && exec \"$@\"";
    let path = dir.to_string_lossy().into_owned();
    let run = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    let status = Command::new("timeout")
        .args([
            "--signal=KILL",
            "120",
            "unshare",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(&dir)
        .stdin(Stdio::null())
        .output()
        .expect("timeout and unshare are installed");
    let said = fs::read_to_string(dir.join("out")).unwrap_or_default();
    let daemon = || fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
    assert!(
        said.lines().any(|line| line == "systemd: 0 failed"),
        "{said}\n{}\n{status:?}",
        daemon()
    );
}
