//! Running hooks, with the state of the container on their standard input.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;

use super::{LaunchError, errno_text};
use crate::plan::{Hook, HookState};

/// How much of a hook's complaint is kept.
const MAX_STDERR: u64 = 4096;

/// The container's status while hooks run, as they are told (runtime-spec, runtime, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `createRuntime`, `createContainer`.
    Creating,
    /// `startContainer`, and `prestart`, which dates from before there was `creating` (crun and runtime-tools agree).
    Created,
    /// `poststart`.
    Running,
    /// `poststop`.
    Stopped,
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
        }
    }
}

/// Runs hooks one after the other; the first that fails ends it. `kind` is the name of their list in the spec.
/// Blocking. The pid is left out once the container is stopped.
pub fn run(
    kind: &str,
    hooks: &[Hook],
    state: &HookState,
    status: Status,
    pid: i32,
) -> Result<(), LaunchError> {
    for (at, hook) in hooks.iter().enumerate() {
        run_one(kind, at, hook, state, status, pid)?;
    }
    Ok(())
}

/// Runs all hooks, whatever becomes of each: those after the fact (`poststart`, `poststop`) stop nothing any more.
/// Returns the complaints.
pub fn run_all(
    kind: &str,
    hooks: &[Hook],
    state: &HookState,
    status: Status,
    pid: i32,
) -> Vec<LaunchError> {
    let run = |(at, hook)| run_one(kind, at, hook, state, status, pid).err();
    hooks.iter().enumerate().filter_map(run).collect()
}

fn run_one(
    kind: &str,
    at: usize,
    hook: &Hook,
    state: &HookState,
    status: Status,
    pid: i32,
) -> Result<(), LaunchError> {
    let text = state_text(state, status, pid);
    execute(hook, &text)
        .map_err(|why| LaunchError::setup(format!("error running {kind} hook #{at}: {why}")))
}

fn state_text(state: &HookState, status: Status, pid: i32) -> String {
    let mut value = json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": status.text(),
        "bundle": state.bundle,
    });
    if status != Status::Stopped {
        value["pid"] = pid.into();
    }
    if !state.annotations.is_empty() {
        value["annotations"] = json!(state.annotations);
    }
    value.to_string()
}

fn execute(hook: &Hook, state: &str) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(
        hook.env
            .iter()
            .map(|entry| entry.split_once('=').unwrap_or((entry, ""))),
    );
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| format!("fork/exec {}: {}", hook.path.display(), errno_text(&e)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it.
        let _ = stdin.write_all(state.as_bytes());
    }
    let status = wait(&mut child, hook.timeout)?;
    if status.success() {
        return Ok(());
    }
    let mut complaint = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What it left in the pipe; something it started may hold the other end open for ever.
        let _ = rustix::io::ioctl_fionbio(&stderr, true);
        let _ = stderr.take(MAX_STDERR).read_to_end(&mut complaint);
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    let complaint = String::from_utf8_lossy(&complaint);
    Err(format!("{how}, stdout: , stderr: {}", complaint.trim_end()))
}

fn wait(child: &mut Child, timeout: Option<u32>) -> Result<ExitStatus, String> {
    let failed = |e: std::io::Error| format!("wait: {}", errno_text(&e));
    let Some(seconds) = timeout else {
        return child.wait().map_err(failed);
    };
    let deadline = Instant::now() + Duration::from_secs(seconds.into());
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|e| failed(e.into()))?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        let left = rustix::event::Timespec::try_from(left).map_err(|_| "timeout".to_string())?;
        match poll(&mut fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed(e.into())),
            Ok(0) => break,
            Ok(_) => return child.wait().map_err(failed),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("hook ran past specified timeout of {seconds}.0s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<u32>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["WHAT=this".into()],
            timeout,
        }
    }

    fn state() -> HookState {
        HookState {
            oci_version: "1.2.0".into(),
            id: "x".into(),
            bundle: "/b".into(),
            annotations: [("a".to_string(), "b".to_string())].into(),
        }
    }

    fn try_one(script: &str, timeout: Option<u32>) -> Result<(), String> {
        let hooks = [hook(script, timeout)];
        run("poststart", &hooks, &state(), Status::Running, 7).map_err(|e| e.message)
    }

    #[test]
    fn the_state_is_on_standard_input() {
        for wanted in [
            r#""status":"running""#,
            r#""pid":7"#,
            r#""a":"b""#,
            r#""bundle":"/b""#,
        ] {
            try_one(&format!("grep -qF '{wanted}'"), None).expect("found");
        }
        let stopped = state_text(&state(), Status::Stopped, 7);
        assert!(!stopped.contains("pid"), "{stopped}");
    }

    #[test]
    fn failures_say_why() {
        let error = try_one("echo no >&2; exit 3", None).expect_err("failed");
        assert_eq!(
            error,
            "error running poststart hook #0: exit status 3, stdout: , stderr: no"
        );
        let error = try_one("exec sleep 60", Some(1)).expect_err("killed");
        assert!(error.contains("timeout"), "{error}");
        try_one("test $WHAT = this", None).expect("its environment");
    }

    #[test]
    fn hooks_after_the_fact_all_run() {
        let hooks = [
            hook("exit 1", None),
            hook("exit 0", None),
            hook("exit 2", None),
        ];
        let failed = run_all("poststop", &hooks, &state(), Status::Stopped, 0);
        assert_eq!(failed.len(), 2);
    }
}
