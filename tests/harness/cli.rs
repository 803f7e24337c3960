//! Runs programs to their end with a deadline: the stock `docker` CLI and our own.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::deadline::{LONG, wait_for};
use crate::engine::Engine;

/// What a finished program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 plus the signal when one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    readers: Option<[JoinHandle<Vec<u8>>; 2]>,
}

impl Running {
    /// Starts it, standard input from a pipe.
    #[must_use]
    pub fn start(command: &mut Command) -> Running {
        let what = format!("{command:?}");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        let out = collect(child.stdout.take());
        let err = collect(child.stderr.take());
        Running {
            child,
            what,
            readers: Some([out, err]),
        }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends input.
    pub fn write(&mut self, bytes: &[u8]) {
        let pipe = self
            .child
            .stdin
            .as_mut()
            .expect("input is open until it is closed");
        pipe.write_all(bytes)
            .unwrap_or_else(|e| panic!("input of {}: {e}", self.what));
    }

    /// Ends the input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }

    /// Ends its input and waits for its end.
    #[must_use]
    pub fn finish(mut self) -> Output {
        self.close_input();
        self.wait()
    }

    /// Waits for its end, leaving its input open.
    #[must_use]
    pub fn wait(mut self) -> Output {
        let what = self.what.clone();
        let status = wait_for(&what, LONG * 2, || {
            self.child.try_wait().expect("wait for a child")
        });
        let [out, err] = self.readers.take().expect("taken once, here");
        Output {
            code: exit_code(status),
            stdout: text(out),
            stderr: text(err),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.readers.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("asked for above");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn text(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().expect("the reader does not panic")).into_owned()
}

/// The stock CLI: `WHARF_DOCKER_CLI`, or `docker` from the path.
#[must_use]
pub fn docker_program() -> PathBuf {
    std::env::var_os("WHARF_DOCKER_CLI").map_or_else(|| PathBuf::from("docker"), PathBuf::from)
}

impl Engine {
    /// The stock CLI, pointed at this daemon, ready to be started.
    #[must_use]
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(docker_program());
        self.point_here(&mut command);
        command.args(args);
        command
    }

    /// Our CLI, pointed at this daemon.
    #[must_use]
    pub fn wharf_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::engine::wharf_program());
        self.point_here(&mut command);
        command.args(args);
        command
    }

    fn point_here(&self, command: &mut Command) {
        command
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.dir().join("cli"))
            .env("DOCKER_CLI_HINTS", "false");
        command
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION")
            .env_remove("DOCKER_TLS_VERIFY");
    }

    /// Runs `docker …` to its end.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Output {
        Running::start(&mut self.docker_command(args)).finish()
    }

    /// Runs `docker …` with input.
    #[must_use]
    pub fn docker_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut running = Running::start(&mut self.docker_command(args));
        running.write(input);
        running.finish()
    }

    /// Starts `docker …` and leaves it running.
    #[must_use]
    pub fn docker_start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.docker_command(args))
    }

    /// Standard output of a `docker …` that must succeed, without its last newline.
    pub fn docker_ok(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        assert_eq!(
            output.code,
            0,
            "docker {args:?}: {output:?}\n{}",
            self.log_tail()
        );
        output
            .stdout
            .strip_suffix('\n')
            .unwrap_or(&output.stdout)
            .to_owned()
    }

    /// Standard error of a `docker …` that must end with `code`.
    pub fn docker_fails(&self, args: &[&str], code: i32) -> String {
        let output = self.docker(args);
        assert_eq!(output.code, code, "docker {args:?}: {output:?}");
        output.stderr
    }

    /// Runs our CLI to its end.
    #[must_use]
    pub fn wharf(&self, args: &[&str]) -> Output {
        Running::start(&mut self.wharf_command(args)).finish()
    }

    /// `docker run -d` of a busybox command: the container's id.
    pub fn run_detached(&self, flags: &[&str], command: &[&str]) -> String {
        let mut args = vec!["run", "-d"];
        args.extend_from_slice(flags);
        args.push(crate::images::BUSYBOX);
        args.extend_from_slice(command);
        self.docker_ok(&args)
    }

    /// `docker run --rm` of a busybox command with `--network none`: its standard output.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> String {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend_from_slice(flags);
        args.push(crate::images::BUSYBOX);
        args.extend_from_slice(command);
        self.docker_ok(&args)
    }

    /// `docker inspect --format`.
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.docker_ok(&["inspect", "--format", format, name])
    }

    /// Waits until `docker inspect --format` says so.
    pub fn wait_inspect(&self, name: &str, format: &str, expected: &str) {
        crate::deadline::wait_until(&format!("{name}: {format} is {expected}"), LONG, || {
            self.inspect(name, format) == expected
        });
    }
}
