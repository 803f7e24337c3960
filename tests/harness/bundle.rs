//! A bundle and the OCI runtime's command line: what engines other than ours see of the runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Output;
use crate::deadline::wait_until;
use crate::engine::wharf_program;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// How long a command of the runtime, or a container's end, may take.
const SOON: Duration = Duration::from_secs(20);

const APPLETS: [&str; 20] = [
    "sh", "cat", "echo", "id", "sleep", "true", "false", "ls", "env", "touch", "kill", "mount",
    "tty", "stat", "hostname", "grep", "dd", "trap", "head", "ps",
];

/// A container of the runtime under test, with a bundle and a state directory of its own. Dropping it leaves nothing.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    /// The container's id.
    pub id: String,
    /// What `config.json` will hold.
    pub config: Value,
    /// Who runs the runtime, if not root.
    user: Option<u32>,
}

impl Bundle {
    /// A busybox root, and a program to run in it.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn new(args: &[&str]) -> Bundle {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("wharf-oci-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        let bin = dir.join("rootfs/bin");
        fs::create_dir_all(&bin).expect("make the bundle");
        for name in ["proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(dir.join("rootfs").join(name)).expect("make the root");
        }
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).expect("link");
        }
        symlink(wharf_program(), dir.join("wharf-runtime")).expect("link the runtime");
        let mut bundle = Bundle {
            dir,
            id,
            config: Value::Null,
            user: None,
        };
        let made = bundle.runtime(&["spec", "--bundle"], true);
        assert!(made.status.success(), "{made:?}");
        let text = fs::read(bundle.dir.join("config.json")).expect("config.json");
        bundle.config = serde_json::from_slice(&text).expect("JSON");
        bundle.config["process"]["terminal"] = false.into();
        bundle.config["process"]["args"] = json!(args);
        bundle
    }

    /// From now on a user runs the runtime, who owns the bundle, and has a configuration for that.
    ///
    /// # Panics
    /// When files cannot be given to the user.
    pub fn make_rootless(&mut self, id: u32) {
        // The build's directory may be closed to others.
        fs::remove_file(self.program()).expect("unlink");
        fs::copy(wharf_program(), self.program()).expect("copy the runtime");
        fs::remove_file(self.dir.join("config.json")).expect("unlink");
        let (args, mut command) = (
            self.config["process"]["args"].take(),
            Command::new("setpriv"),
        );
        let given = Command::new("chown")
            .arg("-hR")
            .arg(format!("{id}:{id}"))
            .arg(&self.dir)
            .status();
        assert!(given.expect("chown runs").success());
        command
            .arg(format!("--reuid={id}"))
            .arg(format!("--regid={id}"))
            .arg("--clear-groups")
            .arg(self.program())
            .args(["spec", "--rootless", "--bundle"])
            .arg(&self.dir);
        assert!(command.status().expect("setpriv runs").success());
        let text = fs::read(self.dir.join("config.json")).expect("config.json");
        self.config = serde_json::from_slice(&text).expect("JSON");
        self.config["process"]["terminal"] = false.into();
        self.config["process"]["args"] = args;
        self.user = Some(id);
    }

    /// The bundle.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The container's root.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The runtime by its name.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.dir.join("wharf-runtime")
    }

    /// A command of the runtime, to be added to.
    ///
    /// # Panics
    /// When `config.json` cannot be written.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        if !self.config.is_null() {
            fs::write(self.dir.join("config.json"), self.config.to_string()).expect("write");
        }
        let mut command = match self.user {
            None => Command::new(self.program()),
            Some(id) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={id}"))
                    .arg(format!("--regid={id}"))
                    .arg("--clear-groups")
                    .arg(self.program());
                command
            }
        };
        command
            .arg("--root")
            .arg(self.dir.join("state"))
            .args(words)
            .stdin(Stdio::null());
        command
    }

    fn runtime(&self, words: &[&str], bundle: bool) -> std::process::Output {
        let mut command = self.command(words);
        if bundle {
            command.arg(&self.dir);
        }
        command.output().expect("the runtime runs")
    }

    /// Runs a command of the runtime on this container: `words`, then the id, then `rest`.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn run(&self, words: &[&str], rest: &[&str]) -> Output {
        let mut all = words.to_vec();
        all.push(&self.id);
        all.extend(rest);
        let output = self.runtime(&all, false);
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, and it must succeed. What it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, words: &[&str], rest: &[&str]) -> String {
        let output = self.run(words, rest);
        assert_eq!(output.code, 0, "{words:?} {rest:?}: {output:?}");
        output.stdout
    }

    /// The same, and it must fail. Why.
    ///
    /// # Panics
    /// When it succeeds.
    pub fn fails(&self, words: &[&str], rest: &[&str]) -> String {
        let output = self.run(words, rest);
        assert_ne!(output.code, 0, "{words:?} {rest:?}: {output:?}");
        output.stderr
    }

    /// Creates the container; its output goes to a file, for [`Bundle::output`].
    ///
    /// # Panics
    /// When that fails.
    pub fn create(&self) {
        let path = self.dir.to_string_lossy().into_owned();
        let words = ["create", "--bundle", &path, &self.id];
        let out = fs::File::create(self.dir.join("output")).expect("output file");
        let mut command = self.command(&words);
        command
            .stderr(out.try_clone().expect("descriptor"))
            .stdout(out);
        let status = command.status().expect("the runtime runs");
        assert!(status.success(), "create: {}", self.output());
    }

    /// What the container has printed.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.join("output")).unwrap_or_default()
    }

    /// One field of the state.
    ///
    /// # Panics
    /// When there is no state.
    #[must_use]
    pub fn state(&self, field: &str) -> Value {
        let text = self.ok(&["state"], &[]);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        value[field].clone()
    }

    /// Waits until the container has reached a status.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for(&self, status: &str) {
        wait_until(&format!("container {status}"), SOON, || {
            self.state("status") == status
        });
    }

    /// Creates and starts, waits for the end, and deletes. What the container printed.
    ///
    /// # Panics
    /// When any of it fails.
    pub fn whole_life(&self) -> String {
        self.create();
        self.ok(&["start"], &[]);
        self.wait_for("stopped");
        self.ok(&["delete"], &[]);
        self.output()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.run(&["delete", "--force"], &[]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}
