//! One daemon of its own: started, killed, started again, and looked after when the test ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::deadline::{LONG, wait_for, wait_for_paced, wait_until};
use crate::http::Client;
use crate::netns::NetNs;
use crate::{images, leftovers};

/// How long the last process of a removed container may take to be gone.
const SETTLE: Duration = Duration::from_secs(15);

/// A daemon may keep this many interfaces ready that belong to no container yet.
const PREPARED_INTERFACES: usize = 5;

/// Which daemon is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Wharf,
    /// `dockerd`: the tests are proven against it.
    Reference,
}

impl Kind {
    /// `WHARF_E2E_DAEMON=dockerd` asks for the reference.
    #[must_use]
    pub fn from_env() -> Kind {
        match std::env::var("WHARF_E2E_DAEMON").as_deref() {
            Ok("dockerd") => Kind::Reference,
            _ => Kind::Wharf,
        }
    }
}

/// The program under test (`WHARF_BIN`).
///
/// # Panics
/// When the variable is not set: there is nothing to test then.
#[must_use]
pub fn wharf_program() -> PathBuf {
    std::env::var_os("WHARF_BIN")
        .expect(
            "WHARF_BIN names the program under test; `cargo xtask test` builds it and sets this",
        )
        .into()
}

/// How a daemon is to be started.
#[derive(Debug)]
pub struct Options {
    kind: Kind,
    data_root: Option<PathBuf>,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    own_plugins: bool,
}

impl Options {
    /// Which daemon, whatever the environment says.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Options {
        self.kind = kind;
        self
    }

    /// Somewhere else than in the daemon's own directory.
    #[must_use]
    pub fn data_root(mut self, dir: &Path) -> Options {
        self.data_root = Some(dir.to_owned());
        self
    }

    /// A further flag of the daemon.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Options {
        self.flags.push(flag.to_owned());
        self
    }

    /// A variable in the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Options {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// It sees [`Engine::plugins`] where drivers' sockets are, and no other daemon does.
    #[must_use]
    pub fn own_plugins(mut self) -> Options {
        self.own_plugins = true;
        self
    }

    /// Starts it and waits for its first answer.
    #[must_use]
    pub fn start(self) -> Engine {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "wharf-e2e-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).expect("a directory for the daemon");
        let netns = NetNs::create(&name);
        let data_root = self.data_root.unwrap_or_else(|| dir.join("data"));
        let mut engine = Engine {
            kind: self.kind,
            name,
            dir,
            data_root,
            netns,
            flags: self.flags,
            env: self.env,
            own_plugins: self.own_plugins,
            child: None,
        };
        engine.start_daemon();
        engine
    }
}

/// A daemon and everything that belongs to it.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    name: String,
    dir: PathBuf,
    data_root: PathBuf,
    netns: NetNs,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    own_plugins: bool,
    child: Option<Child>,
}

impl Engine {
    /// Defaults, to be changed.
    #[must_use]
    pub fn options() -> Options {
        let kind = Kind::from_env();
        // The tests of networks are run once with each back end.
        let backend = std::env::var("WHARF_E2E_FIREWALL").ok();
        let backend = backend.filter(|_| kind == Kind::Wharf);
        Options {
            kind,
            data_root: None,
            flags: backend
                .map(|name| format!("--firewall-backend={name}"))
                .into_iter()
                .collect(),
            env: Vec::new(),
            own_plugins: false,
        }
    }

    /// A daemon without any image.
    #[must_use]
    pub fn empty() -> Engine {
        Engine::options().start()
    }

    /// A daemon that has the busybox image.
    #[must_use]
    pub fn start() -> Engine {
        let engine = Engine::empty();
        engine.load("busybox.tar");
        engine
    }

    /// Loads one of the archives that `cargo xtask images` made.
    pub fn load(&self, archive: &str) {
        self.load_bytes(&images::archive(archive));
    }

    /// Loads an image archive; it must succeed.
    pub fn load_bytes(&self, archive: &[u8]) {
        let response = self
            .api()
            .post_bytes("/images/load?quiet=1", "application/x-tar", archive)
            .expect(200);
        assert!(
            !response.text().contains("error"),
            "load: {}",
            response.text()
        );
    }

    /// Which daemon this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this is the daemon the tests are proven against.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.kind == Kind::Reference
    }

    /// `reference` where Debian's dockerd 20.10 words it differently from 28.2, else `current`.
    #[must_use]
    pub fn wording<'a>(&self, current: &'a str, reference: &'a str) -> &'a str {
        if self.is_reference() {
            reference
        } else {
            current
        }
    }

    /// This daemon's directory; a test may put files into it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `--data-root`.
    #[must_use]
    pub fn data_root(&self) -> &Path {
        &self.data_root
    }

    /// `--exec-root`.
    #[must_use]
    pub fn exec_root(&self) -> PathBuf {
        self.dir.join("exec")
    }

    /// Its network namespace.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Name of the cgroup that all its containers are in.
    #[must_use]
    pub fn cgroup_parent(&self) -> &str {
        &self.name
    }

    /// Path of the API socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// The API socket as `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Raw access to the API.
    #[must_use]
    pub fn api(&self) -> Client {
        Client::new(&self.socket())
    }

    /// Process id of the running daemon.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Starts the daemon (again) on the same directories; returns at its first answer.
    pub fn start_daemon(&mut self) {
        assert!(self.child.is_none(), "the daemon already runs");
        let mut child = self.daemon_command().spawn().expect("nsenter runs");
        let api = self.api();
        // Asked often: benchmarks time this.
        wait_for_paced(
            "the daemon's first answer",
            LONG,
            Duration::from_micros(200),
            || {
                if let Some(status) = child.try_wait().expect("wait for a child") {
                    panic!("the daemon ended at once ({status}):\n{}", self.log_tail());
                }
                api.answers().then_some(())
            },
        );
        self.child = Some(child);
    }

    fn daemon_command(&self) -> Command {
        let program = match self.kind {
            Kind::Wharf => wharf_program(),
            Kind::Reference => PathBuf::from("dockerd"),
        };
        let mut command = if self.own_plugins {
            self.with_plugins(&program)
        } else {
            self.netns.command(&program)
        };
        if self.kind == Kind::Wharf {
            command.arg("daemon");
        }
        command.arg("--data-root").arg(&self.data_root);
        command.arg("--exec-root").arg(self.exec_root());
        command.arg("--pidfile").arg(self.dir.join("daemon.pid"));
        command.arg("--host").arg(self.host());
        command
            .arg("--cgroup-parent")
            .arg(format!("/{}", self.name));
        command.args(&self.flags);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log);
        command
    }

    /// The sockets of drivers, with [`Options::own_plugins`].
    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.dir.join("plugins")
    }

    /// Each step replaces the one before, so the process stays the same.
    fn with_plugins(&self, program: &Path) -> Command {
        const SCRIPT: &str = "mkdir -p /run/docker/plugins && mount --bind \"$0\" /run/docker/plugins && exec \"$@\"";
        fs::create_dir_all(self.plugins()).expect("a directory for sockets");
        let mut command = self.netns.command(Path::new("unshare"));
        command.args(["--mount", "--propagation", "slave", "sh", "-c", SCRIPT]);
        command.arg(self.plugins()).arg(program);
        command
    }

    /// SIGKILLs the daemon, and nothing else.
    pub fn kill_daemon(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("kill a child");
        child.wait().expect("wait for a child");
    }

    /// Ends the daemon with SIGTERM and waits for it.
    pub fn stop_daemon(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        terminate(child.id());
        let status = wait_for("the daemon's end after SIGTERM", LONG, || {
            child.try_wait().expect("wait for a child")
        });
        assert!(
            status.success(),
            "the daemon ended with {status}:\n{}",
            self.log_tail()
        );
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// The daemon's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Its last lines.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ids of all containers.
    #[must_use]
    pub fn container_ids(&self) -> Vec<String> {
        let list = self.api().get("/containers/json?all=1").expect(200).json();
        let ids = list
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|c| c["Id"].as_str());
        ids.map(str::to_owned).collect()
    }

    /// A new container from a create body: its id.
    pub fn create(&self, body: &Value) -> String {
        let answer = self
            .api()
            .post("/containers/create", body)
            .expect(201)
            .json();
        answer["Id"].as_str().expect("an id").to_owned()
    }

    /// Removes every container.
    pub fn remove_all(&self) {
        for id in self.container_ids() {
            let answer = self.api().delete(&format!("/containers/{id}?force=1&v=1"));
            assert!(
                matches!(answer.status(), 204 | 404 | 409),
                "remove {id}: {}",
                answer.text()
            );
        }
        wait_until("all containers to be gone", LONG, || {
            self.container_ids().is_empty()
        });
    }

    /// Flags for the next start of the daemon, instead of those before.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Waits until nothing of any container is left while the daemon runs.
    pub fn assert_settled(&self) {
        let limit = SETTLE;
        self.settle("bridge ports", limit, || self.netns.bridge_ports());
        self.settle("interfaces", limit, || {
            let mut spare = self.netns.interfaces();
            spare.split_off(spare.len().min(PREPARED_INTERFACES))
        });
        self.settle("cgroups", limit, || {
            leftovers::cgroups_below(&self.name)
                .iter()
                .map(|p| p.display().to_string())
                .collect()
        });
        self.settle("zombies", limit, || {
            let ours = self.netns.processes();
            leftovers::zombies_of(&ours)
                .into_iter()
                .map(leftovers::describe)
                .collect()
        });
        let containers = self.data_root.join("containers");
        self.settle("container directories", limit, || names_in(&containers));
        if !self.is_reference() {
            self.settle("mounts", limit, || self.mounts());
        }
    }

    fn settle(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Vec<String>) {
        let end = std::time::Instant::now() + limit;
        loop {
            let left = look();
            if left.is_empty() {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "{what} left behind: {left:#?}\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Mounts below the daemon's directories.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let mut found = leftovers::mounts_below(&self.dir);
        found.retain(|p| Path::new(p) != self.data_root);
        found
    }

    fn finish(&mut self) {
        if self.child.is_some() {
            self.remove_all();
            self.assert_settled();
            self.stop_daemon();
        }
        self.settle("processes", SETTLE, || {
            self.processes()
                .into_iter()
                .map(leftovers::describe)
                .collect()
        });
        self.settle("interfaces after the end", SETTLE, || {
            self.netns.interfaces()
        });
        if !self.is_reference() {
            self.settle("mounts after the end", SETTLE, || self.mounts());
        }
    }

    /// The daemon, its helpers and its containers' processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut all = self.netns.processes();
        all.extend(leftovers::processes_in_cgroups(&self.name));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// After a failed test: ends what is left without any further check.
    fn abandon(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for _ in 0..3 {
            for pid in self.processes() {
                kill(pid);
            }
        }
    }

    fn sweep(&self) {
        for point in leftovers::mounts_below(&self.dir).iter().rev() {
            let _ = rustix::mount::unmount(point.as_str(), rustix::mount::UnmountFlags::DETACH);
        }
        leftovers::remove_cgroups(&self.name);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- daemon log ---\n{}\n--- end of log ---",
                self.log_tail()
            );
            self.abandon();
        } else if let Err(panic) =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.finish()))
        {
            self.abandon();
            self.sweep();
            std::panic::resume_unwind(panic);
        }
        self.sweep();
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// SIGTERM.
pub fn terminate(pid: u32) {
    signal(pid, rustix::process::Signal::TERM);
}

/// SIGKILL.
pub fn kill(pid: u32) {
    signal(pid, rustix::process::Signal::KILL);
}
