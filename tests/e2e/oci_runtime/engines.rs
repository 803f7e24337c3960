//! Other engines with this runtime: podman, containerd, and a Docker daemon whose default runtime it is.

use std::fs;
use std::process::{Child, Command, Output};

use wharf_e2e::bundle::Bundle;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::{Engine, Kind, images};

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

/// Debian's containerd, which calls the runtime through `io.containerd.runc.v2`.
struct Containerd {
    bundle: Bundle,
    daemon: Child,
}

impl Containerd {
    fn start() -> Containerd {
        let bundle = Bundle::new(&["true"]);
        let dir = bundle.dir();
        let config = format!(
            "version = 2\nroot = \"{0}/ctr-root\"\nstate = \"{0}/ctr-state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{0}/ctr.sock\"\n",
            dir.display()
        );
        fs::write(dir.join("ctr.toml"), config).expect("write");
        let log = fs::File::create(dir.join("ctr.log")).expect("a log");
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(dir.join("ctr.toml"))
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("containerd is installed");
        let containerd = Containerd { bundle, daemon };
        wait_until("containerd to answer", LONG, || {
            containerd.ctr(&["version"]).status.success()
        });
        let archive = images::directory().join("busybox-oci.tar");
        let import = ["images", "import", "--snapshotter", "native"];
        let done = containerd.ctr(&[&import[..], &[&archive.to_string_lossy()]].concat());
        assert!(done.status.success(), "{done:?}");
        containerd
    }

    fn ctr(&self, words: &[&str]) -> Output {
        Command::new("ctr")
            .arg("--address")
            .arg(self.bundle.dir().join("ctr.sock"))
            .args(words)
            .output()
            .expect("ctr is installed")
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.ctr(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn run(&self, flags: &[&str], command: &[&str]) -> Output {
        let program = self.bundle.program();
        let program = program.to_string_lossy();
        let start = [
            "run",
            "--snapshotter",
            "native",
            "--runtime",
            "io.containerd.runc.v2",
            "--runc-binary",
            &program,
        ];
        let image = format!("docker.io/library/{}", images::BUSYBOX);
        self.ctr(&[&start[..], flags, &[&image], command].concat())
    }

    fn status(&self) -> String {
        self.ok(&["tasks", "list"])
            .lines()
            .find(|line| line.starts_with("two "))
            .and_then(|line| line.split_whitespace().nth(2))
            .unwrap_or_default()
            .to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.ctr(&["tasks", "rm", "--force", "two"]);
        let _ = self.ctr(&["containers", "rm", "two"]);
        wharf_e2e::engine::terminate(self.daemon.id());
        let _ = self.daemon.wait();
    }
}

#[test]
fn containerd_runs_executes_limits_pauses_and_deletes() {
    let containerd = Containerd::start();
    let output = containerd.run(&["--rm"], &["one", "sh", "-c", "echo hello; exit 4"]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(4), &b"hello\n"[..]),
        "{output:?}"
    );
    let limit = (64 << 20).to_string();
    let output = containerd.run(
        &["--detach", "--memory-limit", &limit],
        &["two", "sleep", "1000"],
    );
    assert!(output.status.success(), "{output:?}");
    let exec = ["tasks", "exec", "--exec-id"];
    let inside = [&exec[..], &["a", "two", "echo", "inside"]].concat();
    assert_eq!(containerd.ok(&inside), "inside\n");
    let failing = [&exec[..], &["b", "two", "sh", "-c", "exit 3"]].concat();
    assert_eq!(containerd.ctr(&failing).status.code(), Some(3));
    let metrics = containerd.ok(&["tasks", "metrics", "--format", "json", "two"]);
    assert!(metrics.contains(&limit), "{metrics}");
    containerd.ok(&["tasks", "pause", "two"]);
    assert_eq!(containerd.status(), "PAUSED");
    containerd.ok(&["tasks", "resume", "two"]);
    assert_eq!(containerd.status(), "RUNNING");
    containerd.ok(&["tasks", "kill", "--signal", "SIGKILL", "two"]);
    wait_until("the end", LONG, || containerd.status() == "STOPPED");
    // Its answer is the container's exit code.
    let _ = containerd.ctr(&["tasks", "rm", "two"]);
    containerd.ok(&["containers", "rm", "two"]);
    assert_eq!(containerd.ok(&["containers", "list", "--quiet"]), "");
}

/// Debian's dockerd, every container of which is made by this runtime.
#[test]
fn dockerd_runs_executes_limits_and_deletes() {
    let bundle = Bundle::new(&["true"]);
    let engine = Engine::options()
        .kind(Kind::Reference)
        .flag(&format!(
            "--add-runtime=other={}",
            bundle.program().display()
        ))
        .flag("--default-runtime=other")
        .start();
    engine.load("busybox.tar");
    let run = |flags: &[&str], command: &[&str]| {
        engine.docker(&[&["run", "--rm"][..], flags, &[images::BUSYBOX], command].concat())
    };
    let output = run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    assert_eq!(run(&[], &["nosuch"]).code, 127);
    assert_eq!(run(&["-u", "5:6"], &["id", "-u"]).stdout, "5\n");
    assert_eq!(run(&["--init"], &["cat", "/proc/1/comm"]).code, 0);
    let filter = ["grep", "Seccomp:", "/proc/self/status"];
    assert_eq!(run(&[], &filter).stdout, "Seccomp:\t2\n");
    let id = engine.run_detached(&["--memory", "64m"], &["sleep", "1000"]);
    assert_eq!(engine.inspect(&id, "{{.HostConfig.Runtime}}"), "other");
    assert_eq!(engine.docker_ok(&["exec", &id, "echo", "inside"]), "inside");
    assert_eq!(engine.docker(&["exec", &id, "sh", "-c", "exit 9"]).code, 9);
    let stats = engine.docker_ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &id]);
    assert!(stats.ends_with("/ 64MiB"), "{stats}");
    engine.docker_ok(&["update", "--memory", "32m", "--memory-swap", "32m", &id]);
    let stats = engine.docker_ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &id]);
    assert!(stats.ends_with("/ 32MiB"), "{stats}");
    engine.docker_ok(&["pause", &id]);
    engine.docker_ok(&["unpause", &id]);
    let hog = "head -c 200m /dev/zero | tail";
    assert_eq!(engine.docker(&["exec", &id, "sh", "-c", hog]).code, 137);
    engine.docker_ok(&["rm", "-f", &id]);
    assert_eq!(engine.docker_ok(&["ps", "-aq"]), "");
}
