//! The systemd cgroup driver, with Debian's systemd, D-Bus and journal as process 1 of a container that sees the host's files: they need
//! not run on the host. What is tried is in `tests/systemd/inside.sh`, which the virtual machine runs too.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use wharf_e2e::bundle::Bundle;
use wharf_e2e::images;

const FILES: [(&str, &str); 6] = [
    ("inside.sh", include_str!("../systemd/inside.sh")),
    (
        "units/dbus.socket",
        include_str!("../systemd/units/dbus.socket"),
    ),
    (
        "units/dbus.service",
        include_str!("../systemd/units/dbus.service"),
    ),
    (
        "units/systemd-journald.socket",
        include_str!("../systemd/units/systemd-journald.socket"),
    ),
    (
        "units/systemd-journald.service",
        include_str!("../systemd/units/systemd-journald.service"),
    ),
    (
        "units/wharf-test.service",
        include_str!("../systemd/units/wharf-test.service"),
    ),
];

#[test]
fn scopes_of_a_running_systemd() {
    let mut bundle = Bundle::new(&["true"]);
    let config = include_str!("../systemd/config.json");
    bundle.config = serde_json::from_str(config).expect("JSON");
    let dir = bundle.dir().to_path_buf();
    for place in ["units", "over", "merged"] {
        fs::create_dir_all(dir.join(place)).expect("mkdir");
    }
    for (name, text) in FILES {
        fs::write(dir.join(name), text).expect("write");
    }
    let image = images::directory().join("busybox.tar");
    symlink(image, dir.join("image.tar")).expect("link");
    // Mounts of the outer process that go with it.
    let script = "mount -t tmpfs over over && mkdir over/upper over/work \
        && mount -t overlay over -o lowerdir=/,upperdir=over/upper,workdir=over/work merged && exec \"$@\"";
    let path = dir.to_string_lossy().into_owned();
    let run = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    let status = Command::new("timeout")
        .args(["--signal=KILL", "120"])
        .args(["unshare", "--mount", "sh", "-c", script, "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(&dir)
        .stdin(Stdio::null())
        .output()
        .expect("timeout and unshare are installed");
    let said = fs::read_to_string(dir.join("out")).unwrap_or_default();
    let daemon = fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
    assert!(
        said.lines().any(|line| line == "systemd: 0 failed"),
        "{said}\n{daemon}\n{status:?}"
    );
}
