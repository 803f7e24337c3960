//! `kill`

use std::time::Duration;

use wharf_runtime::plan::NamespaceSource;

use super::{Context, Done};
use crate::container::{Container, Status};
use crate::failure::Failure;
use crate::options::{Flag, Parsed, switch};
use crate::signals;

/// runc's.
pub const FLAGS: &[Flag] = &[switch("all", "to all processes of the container").short('a')];

/// Sends a signal.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let (id, signal) = match parsed.args.as_slice() {
        [id] => (id, "TERM"),
        [id, signal] => (id, signal.as_str()),
        _ => {
            return Err(Failure::usage(
                "kill: 1 or 2 arguments required, the container's ID and a signal",
            ));
        }
    };
    let signal = signals::parse(signal)?;
    let container = Container::load(&context.root, id)?;
    let stopped = container.status() == Status::Stopped;
    if stopped && !parsed.on("all") {
        return Err(Failure::new("container not running"));
    }
    if parsed.on("all") || (signal == libc::SIGKILL && !has_pid_namespace(&container)) {
        kill_all(&container, signal)?;
    } else {
        wait_for_handler(&container, signal);
        wharf_sys::process::kill(container.record.pid, signal).map_err(kill_failed)?;
    }
    Ok(0)
}

/// How long after its start a container's init is given to set up its handlers.
const YOUNG: Duration = Duration::from_millis(200);

/// The kernel drops what process 1 of a pid namespace does not handle: a signal right after the start would be lost on a program
/// that is about to handle it. This waits until it does, or until the container is no longer young.
fn wait_for_handler(container: &Container, signal: i32) {
    let uncaught = matches!(signal, 0 | libc::SIGKILL | libc::SIGSTOP);
    if uncaught || container.status() != Status::Running {
        return;
    }
    while container.age().is_some_and(|age| age < YOUNG) && is_dropped(container.record.pid, signal)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Neither caught nor ignored, and not blocked either.
fn is_dropped(pid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let has = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        let mask = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
    };
    !has("SigCgt:") && !has("SigIgn:") && !has("SigBlk:")
}

/// With one, its other processes end with init. Unknown is none.
fn has_pid_namespace(container: &Container) -> bool {
    container
        .plan()
        .is_ok_and(|plan| plan.namespaces.pid == NamespaceSource::New)
}

/// Whoever is in the group; a process that is gone in between has nothing to hear.
pub fn kill_all(container: &Container, signal: i32) -> Result<(), Failure> {
    let group = &container.record.cgroup;
    if signal == libc::SIGKILL {
        return Ok(group.kill_all()?);
    }
    for pid in group.pids()? {
        match wharf_sys::process::kill(pid, signal) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => return Err(kill_failed(e)),
            _ => {}
        }
    }
    Ok(())
}

fn kill_failed(e: std::io::Error) -> Failure {
    match e.raw_os_error() {
        Some(libc::ESRCH) => Failure::new("container not running"),
        _ => Failure::new(format!("unable to signal init: {e}")),
    }
}
