//! Other engines with this runtime: podman, and a Docker daemon whose default runtime it is.

use std::process::{Command, Output};

use wharf_e2e::bundle::Bundle;
use wharf_e2e::images;

/// Podman with storage of its own, below a bundle's directory.
struct Podman {
    bundle: Bundle,
}

impl Podman {
    fn new() -> Podman {
        let podman = Podman {
            bundle: Bundle::new(&["true"]),
        };
        let archive = images::directory().join("busybox.tar");
        let loaded = podman.run(&["load", "--input", &archive.to_string_lossy()]);
        assert!(loaded.status.success(), "{loaded:?}");
        podman
    }

    fn run(&self, words: &[&str]) -> Output {
        let dir = self.bundle.dir();
        Command::new("podman")
            .arg("--root")
            .arg(dir.join("podman"))
            .arg("--runroot")
            .arg(dir.join("podman-run"))
            .args([
                "--cgroup-manager",
                "cgroupfs",
                "--events-backend",
                "none",
                "--storage-driver",
                "overlay",
            ])
            .arg("--runtime")
            .arg(self.bundle.program())
            .args(words)
            .output()
            .expect("podman is installed")
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all", "--force", "--time", "0"]);
        let overlay = self.bundle.dir().join("podman/overlay");
        let _ = Command::new("umount").arg(overlay).output();
    }
}

/// Raising limits takes CAP_SYS_RESOURCE, which podman's own defaults expect.
const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
];

#[test]
fn podman_runs_executes_limits_and_removes() {
    let podman = Podman::new();
    let image = images::BUSYBOX;
    let with = |words: &[&'static str]| -> Vec<&'static str> {
        let (first, rest) = words.split_first().expect("a command");
        let mut all = vec![*first, "--network", "host"];
        all.extend(LIMITS);
        all.extend(rest);
        all
    };
    let mut words = with(&["run", "--rm"]);
    words.extend([image, "echo", "hello"]);
    assert_eq!(podman.ok(&words), "hello\n");
    let mut words = with(&["run", "--detach", "--name", "limited", "--memory", "64m"]);
    words.extend([image, "sleep", "1000"]);
    podman.ok(&words);
    assert_eq!(
        podman.ok(&["exec", "limited", "echo", "inside"]),
        "inside\n"
    );
    assert_eq!(
        podman
            .run(&["exec", "limited", "sh", "-c", "exit 3"])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(
        podman.run(&["exec", "limited", "nosuch"]).status.code(),
        Some(127)
    );
    let limit = podman.ok(&["inspect", "--format", "{{.HostConfig.Memory}}", "limited"]);
    assert_eq!(limit.trim(), "67108864");
    let usage = podman.ok(&["exec", "limited", "sh", "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"]);
    assert_eq!(usage.trim(), "67108864");
    podman.ok(&["rm", "--force", "--time", "0", "limited"]);
    let mut words = with(&["run", "--rm"]);
    words.extend([image, "nosuch"]);
    assert_eq!(podman.run(&words).status.code(), Some(127));
}
