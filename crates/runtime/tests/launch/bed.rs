//! A test bed: a busybox root, Docker's default spec, and a way to run one and read its output.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, WaitOptions};
use serde_json::{Value, json};
use wharf_runtime::cgroup::CgroupPath;
use wharf_runtime::host::HostFacts;
use wharf_runtime::launch::{LaunchError, LaunchStdio, Launched, launch, launch_exec};
use wharf_runtime::plan::{
    ContainerPlan, ExecOptions, OciExtra, PlanExtra, SeccompPolicy, UserSpec, plan, plan_exec,
};
use wharf_spec::rootfs::RootfsMount;

const APPLETS: [&str; 32] = [
    "sh", "cat", "ls", "id", "env", "mount", "hostname", "true", "false", "sleep", "pwd", "echo",
    "touch", "stat", "ps", "tty", "stty", "kill", "grep", "mkdir", "readlink", "dd", "head",
    "chroot", "unshare", "ulimit", "sync", "wc", "test", "mknod", "cut", "tr",
];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Why the tests cannot run here.
pub fn cannot_run() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root");
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("no /bin/busybox (install busybox-static)");
    }
    None
}

/// Whether this host has the unified hierarchy only.
pub fn is_v2() -> bool {
    HostFacts::probe().expect("host facts").cgroup.version() == "2"
}

/// One container's directories and spec. Everything is removed at the end.
pub struct Bed {
    pub dir: PathBuf,
    pub id: String,
    pub spec: Value,
    pub extra: PlanExtra,
    pub host: HostFacts,
}

/// What a finished container said.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl Bed {
    pub fn new(args: &[&str]) -> Bed {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("wharf-test-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        let lower = dir.join("lower");
        make_root(&lower);
        for name in ["upper", "work"] {
            fs::create_dir_all(dir.join(name)).expect("scratch directory");
        }
        let extra = PlanExtra {
            rootfs: RootfsMount::Overlay {
                lower: vec![lower],
                upper: dir.join("upper"),
                work: dir.join("work"),
                options: vec![],
            },
            user: Some(UserSpec::default()),
            create_cwd: true,
            init: false,
            seccomp: SeccompPolicy::Default,
            oci: OciExtra::default(),
        };
        let host = HostFacts::probe().expect("host facts");
        Bed {
            spec: default_spec(&id, args),
            dir,
            id,
            extra,
            host,
        }
    }

    pub fn lower(&self) -> PathBuf {
        self.dir.join("lower")
    }

    /// Adds a mount to the spec.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        let mount =
            json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.spec["mounts"]
            .as_array_mut()
            .expect("mounts are a list")
            .push(mount);
    }

    pub fn plan(&self) -> ContainerPlan {
        let spec = serde_json::from_value(self.spec.clone()).expect("valid spec");
        plan(&spec, self.extra.clone(), &self.host).expect("plannable")
    }

    /// The container's cgroup directories.
    pub fn cgroup_dirs(&self) -> Vec<PathBuf> {
        match self.plan().cgroup.path {
            CgroupPath::V1(dirs) => dirs.into_iter().map(|d| d.dir).collect(),
            CgroupPath::V2(dir) => vec![dir],
        }
    }

    pub fn start(&self, stdio: LaunchStdio) -> Result<Launched, LaunchError> {
        launch(&self.plan(), stdio, None)
    }

    /// Runs to the end.
    pub fn run(&self) -> Output {
        self.try_run().expect("launched")
    }

    pub fn try_run(&self) -> Result<Output, LaunchError> {
        let (stdio, streams) = pipes();
        let launched = self.start(stdio)?;
        let output = streams.finish(&launched);
        self.plan().cgroup.path.remove().expect("cgroup removed");
        Ok(output)
    }

    /// Starts `sleep`, for execs.
    pub fn start_sleeping(&mut self) -> Launched {
        self.spec["process"]["args"] = json!(["sleep", "1000"]);
        let (stdio, _) = pipes();
        self.start(stdio).expect("launched")
    }

    pub fn exec(&self, init: &Launched, options: ExecOptions) -> Result<Output, LaunchError> {
        let plan = plan_exec(&self.plan(), options, &self.host).expect("plannable");
        let (stdio, streams) = pipes();
        let launched = launch_exec(&plan, &init.pidfd, stdio)?;
        Ok(streams.finish(&launched))
    }

    pub fn stop(&self, init: &Launched) {
        rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL)
            .expect("alive");
        assert_eq!(wait(init.pid), 137);
        self.plan().cgroup.path.remove().expect("cgroup removed");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.plan().cgroup.path.kill_all();
        let _ = self.plan().cgroup.path.remove();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Our ends of a process's streams.
pub struct Streams {
    stdin: File,
    stdout: File,
    stderr: File,
}

impl Streams {
    /// Closes stdin, reads everything, reaps.
    pub fn finish(self, launched: &Launched) -> Output {
        let Streams {
            stdin,
            mut stdout,
            mut stderr,
        } = self;
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).expect("readable");
        stderr.read_to_string(&mut err).expect("readable");
        Output {
            stdout: out,
            stderr: err,
            code: wait(launched.pid),
        }
    }

    /// Reads up to and including `end`.
    pub fn read_until(&mut self, end: &str) -> String {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.ends_with(end) {
            self.stdout.read_exact(&mut byte).expect("more output");
            seen.push(char::from(byte[0]));
        }
        seen
    }
}

pub fn pipes() -> (LaunchStdio, Streams) {
    let pipe = || -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe")
    };
    let ((in_read, in_write), (out_read, out_write), (err_read, err_write)) =
        (pipe(), pipe(), pipe());
    let stdio = LaunchStdio::Pipes {
        stdin: in_read,
        stdout: out_write,
        stderr: err_write,
    };
    (
        stdio,
        Streams {
            stdin: in_write.into(),
            stdout: out_read.into(),
            stderr: err_read.into(),
        },
    )
}

/// Exit code, or 128 + signal.
pub fn wait(pid: i32) -> i32 {
    let (_, status) = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::empty())
        .expect("our child")
        .expect("ended");
    status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().expect("exited or killed"))
}

fn make_root(root: &Path) {
    for dir in ["bin", "etc", "tmp", "home/worker"] {
        fs::create_dir_all(root.join(dir)).expect("root directory");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("applet");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    let passwd = "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/home/worker:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("passwd");
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nworker:x:1000:\nextra:x:2000:worker\n",
    )
    .expect("group");
}

pub const DEFAULT_CAPS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What Docker's daemon would write.
fn default_spec(id: &str, args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "testhost",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "HOSTNAME=testhost"],
            "cwd": "/",
            "capabilities": {"bounding": DEFAULT_CAPS, "effective": DEFAULT_CAPS, "permitted": DEFAULT_CAPS},
            "noNewPrivileges": false,
            "oomScoreAdj": 0
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]}
        ],
        "linux": {
            "cgroupsPath": format!("/wharf-test/{id}"),
            "namespaces": [
                {"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}, {"type": "cgroup"}
            ],
            "resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 9, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 8, "access": "rwm"},
                {"allow": true, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
                {"allow": true, "type": "c", "major": 5, "minor": 1, "access": "rwm"},
                {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
            ]},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                            "/proc/interrupts", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
