//! `--init`: PID 1 that passes signals on and reaps orphans, while the user's program is its child.
//!
//! It is this very process, without another `execve`: its pages are shared with every other monitor and init on the
//! host. It runs as the same user, with the same capabilities and under the same filter as the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use super::program::BeforeProgram;
use super::report::Reporter;
use super::user::Identity;
use super::{LaunchError, errno_text, program};
use crate::plan::ProcessPlan;

/// What `ps` shows, as Docker's own init does: its name, then the program.
fn command_line(args: &[String]) -> &'static [u8] {
    let mut text = String::from("/sbin/docker-init\0--\0");
    for arg in args {
        text.push_str(arg);
        text.push('\0');
    }
    // Shown by the kernel for as long as this process lives.
    text.leak().as_bytes()
}

/// Signals that are about this process itself and not passed on (as tini: faults, terminal stops, children).
const OWN_SIGNALS: [i32; 9] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Forks the program and becomes the reaper; never returns. Failures of the program's side are reported by it.
pub(super) fn run(
    plan: &ProcessPlan,
    identity: &Identity,
    reporter: Reporter,
    before: BeforeProgram<'_>,
) -> ! {
    // Before the fork, so that no signal is lost between it and the wait.
    wharf_sys::process::block_all_signals();
    match wharf_sys::clone::fork() {
        Ok(0) => {
            take_terminal();
            wharf_sys::process::reset_signals();
            program::run(plan, identity, reporter, Some(before))
        }
        Ok(child) => {
            drop((reporter, before));
            let _ = wharf_sys::process::set_command_line(command_line(&plan.args));
            let _ = rustix::thread::set_name(c"docker-init");
            let code = match program::become_like(plan, identity) {
                Ok(()) => reap_until(child),
                Err(_) => 1,
            };
            wharf_sys::process::exit_now(code)
        }
        Err(e) => {
            reporter.send_failure(LaunchError::setup(format!("fork: {}", errno_text(&e))));
            wharf_sys::process::exit_now(1)
        }
    }
}

/// The program `docker-init`, bound into containers that another runtime makes: runs what follows `--` and reaps.
pub fn main(args: &[OsString]) -> ! {
    let args = match args.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => args,
    };
    let Some((program, rest)) = args.split_first() else {
        eprintln!("docker-init: no program is named");
        std::process::exit(1)
    };
    wharf_sys::process::block_all_signals();
    let code = match wharf_sys::clone::fork() {
        Ok(0) => {
            take_terminal();
            wharf_sys::process::reset_signals();
            let error = Command::new(program).args(rest).exec();
            eprintln!(
                "[FATAL tini (1)] exec {} failed: {}",
                program.display(),
                errno_text(&error)
            );
            match error.kind() {
                std::io::ErrorKind::NotFound => 127,
                _ => 126,
            }
        }
        Ok(child) => reap_until(child),
        Err(_) => 1,
    };
    wharf_sys::process::exit_now(code)
}

/// A process group of its own, in the foreground where there is a terminal. SIGTTOU, which the kernel sends to a
/// background process that does this, is blocked.
fn take_terminal() {
    if rustix::process::setpgid(None, None).is_ok() {
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
    }
}

/// Returns the child's exit code, 128 + signal if it was killed. PID 1's end ends everybody else.
fn reap_until(child: i32) -> i32 {
    loop {
        match wharf_sys::process::wait_signal() {
            Ok(libc::SIGCHLD) => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            Ok(signal) if !OWN_SIGNALS.contains(&signal) => {
                let _ = wharf_sys::process::kill(child, signal);
            }
            _ => {}
        }
    }
}

fn reap(child: i32) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == Pid::from_raw(child) {
            code = Some(exit_code(status));
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}
