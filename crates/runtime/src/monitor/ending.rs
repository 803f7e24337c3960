//! How processes end, and the container with them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, WaitStatus, wait};

use super::Monitor;
use super::process::{Process, now_ns};
use crate::client::{ExitStatus, MonitorEvent};
use crate::launch::{self, hooks};
use crate::systemd;

/// Name of the exit record in the state directory.
pub const RECORD_NAME: &str = "exit";

/// How long the end of a dead process's streams is waited for when something else still holds them. Docker's value
/// (moby `daemon/monitor.go`).
const DRAIN: Duration = Duration::from_secs(2);

/// How long clients may hold up the report of the end.
const FLUSH: Duration = Duration::from_secs(2);

/// How long the daemon may take to note the end of an exec before the exec's client sees it anyway.
const RECORD: Duration = Duration::from_millis(300);

/// The exit code that SIGKILL gives, the kernel's means against processes that need too much memory.
const KILLED: i32 = 137;

/// Where the container is on its way out.
#[derive(Debug)]
pub enum Ending {
    /// Init runs.
    NotYet,
    /// Init is gone, its streams are being read to their end.
    Draining(ExitStatus),
    /// All is in the log, the record is written; clients get the rest until the deadline.
    Flushing(ExitStatus, Instant),
    /// The daemon was told; clients that are slow still get the rest.
    Leaving,
}

impl Ending {
    /// When something must happen even without an event.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Ending::Flushing(_, deadline) => Some(*deadline),
            _ => None,
        }
    }
}

impl Monitor {
    /// Collects every child that ended: init, execs, and strays that were handed to us as their subreaper.
    pub(super) fn reap(&mut self) {
        wharf_sys::signal::drain(&self.children);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            self.log.child_ended(pid, &self.poll);
            let code = exit_code(status);
            if !self.starting_ended(pid, code) {
                self.process_ended(pid, code);
            }
        }
    }

    /// One of our processes has ended. Strays are nobody's.
    pub(super) fn process_ended(&mut self, pid: i32, code: i32) {
        let found = self
            .processes
            .iter_mut()
            .find(|process| process.identity.pid == pid && process.exit.is_none());
        let Some(process) = found else { return };
        process.exit = Some(code);
        process.deadline = Some(Instant::now() + DRAIN);
        let is_init = process.identity.exec_id.is_none();
        if code == KILLED {
            self.tell_oom();
        }
        if is_init {
            self.init_ended(code);
        }
    }

    /// The kernel says that memory ran out.
    pub(super) fn oom_notice(&mut self) {
        self.oom.noticed();
    }

    fn tell_oom(&mut self) {
        if self.oom.news() {
            self.control.event(MonitorEvent::Oom, &self.poll);
        }
    }

    fn init_ended(&mut self, code: i32) {
        let exited_at_ns = now_ns();
        // With a pid namespace of its own there is nothing left. Otherwise what goes on without its init would hold the streams.
        let _ = self.oom.group().kill_all();
        self.ending = Ending::Draining(ExitStatus {
            code,
            oom_killed: false,
            exited_at_ns,
        });
    }

    /// Takes every step that can be taken now. `true`: nothing is left to do.
    pub(super) fn advance(&mut self) -> bool {
        if self.oom.is_due() {
            self.tell_oom();
        }
        self.give_up_overdue();
        for at in (0..self.processes.len()).rev() {
            self.advance_process(at);
        }
        self.processes.retain(|process| {
            process.identity.exec_id.is_none() || !process.reported || !process.is_alone()
        });
        if let Ending::Draining(status) = &self.ending {
            let done = |process: &Process| process.exit.is_some() && process.is_drained();
            if self.processes.iter().all(done) || due(self.processes[0].deadline) {
                let status = status.clone();
                self.finish(status);
            }
        }
        if let Ending::Flushing(status, deadline) = &self.ending
            && (self.processes.iter().all(Process::owes_nothing) || due(Some(*deadline)))
        {
            let status = status.clone();
            self.tell(status);
        }
        let alone = self.processes.iter().all(Process::is_alone);
        matches!(self.ending, Ending::Leaving)
            && alone
            && self.control.is_quiet()
            && self.log.is_done()
    }

    /// Reads a dead process's streams; an exec that is done is reported and its clients dismissed.
    fn advance_process(&mut self, at: usize) {
        let process = &self.processes[at];
        let Some(code) = process.exit else { return };
        let (serial, overdue) = (process.identity.serial, due(process.deadline));
        if !process.is_drained() {
            self.with_process(serial, |process, io| {
                process.drain_output(overdue, io);
                if overdue {
                    process.close_output(io);
                }
            });
        }
        let process = &mut self.processes[at];
        let Some(exec_id) = process.identity.exec_id.clone() else {
            return;
        };
        if !process.is_drained() {
            return;
        }
        if !process.reported {
            process.reported = true;
            process.deadline = Some(Instant::now() + RECORD);
            self.control.event(
                MonitorEvent::ExecExited {
                    exec_id: exec_id.clone(),
                    code,
                },
                &self.poll,
            );
        }
        if due(self.processes[at].deadline) || !self.control.is_connected() {
            self.dismiss_exec(&exec_id);
        }
    }

    /// The end of an exec is recorded, or nobody will record it: its clients may see it.
    pub(super) fn dismiss_exec(&mut self, exec_id: &str) {
        let found = self.processes.iter_mut().find(|process| {
            process.reported && process.identity.exec_id.as_deref() == Some(exec_id)
        });
        let Some(process) = found else { return };
        process.deadline = None;
        let serial = process.identity.serial;
        self.with_process(serial, |process, io| process.dismiss_clients(io));
    }

    /// The container is gone and its output read: makes that known to whoever comes later, then gives clients time.
    fn finish(&mut self, mut status: ExitStatus) {
        self.cancel_execs();
        self.tell_oom();
        status.oom_killed = self.oom.ever();
        self.oom.stop(&self.poll);
        // What cannot be removed now (a process that the kernel does not let go) is found by the next start of the daemon.
        if let Some(foreign) = &self.foreign {
            launch::delete_foreign(foreign);
        }
        let _ = self.oom.group().remove();
        if let Some(scope) = &self.scope {
            let _ = systemd::stop_apart(scope);
        }
        if let Some(hooks) = self.poststop.take() {
            let (list, state) = (&hooks.poststop, &hooks.state);
            let _ = hooks::run_all("poststop", list, state, hooks::Status::Stopped, 0);
        }
        self.with_process(0, |process, io| {
            process.close_output(io);
            process.deadline = None;
        });
        self.log.finish();
        // A full file system must not keep the end from being told.
        let _ = write_record(&self.state_dir, &status);
        self.control.close_door(&self.state_dir, &self.poll);
        self.ending = Ending::Flushing(status, Instant::now() + FLUSH);
    }

    fn tell(&mut self, status: ExitStatus) {
        self.control.event(MonitorEvent::Exited(status), &self.poll);
        self.ending = Ending::Leaving;
        // An exec's client waits until the daemon has noted the exec's end: it asks for the exit code next.
        let is_noted_later =
            |process: &Process| process.reported && process.identity.exec_id.is_some();
        let serials: Vec<u32> = self
            .processes
            .iter()
            .filter(|process| !is_noted_later(process))
            .map(|process| process.identity.serial)
            .collect();
        for serial in serials {
            self.with_process(serial, |process, io| process.dismiss_clients(io));
        }
    }
}

fn due(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// The shell's convention: 128 + signal for a process that was killed.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        // Only ended children are asked for.
        (None, None) => 255,
    }
}

/// Removes the record of an earlier run.
pub fn forget_record(state_dir: &Path) {
    let _ = fs::remove_file(state_dir.join(RECORD_NAME));
}

fn write_record(state_dir: &Path, status: &ExitStatus) -> io::Result<()> {
    let partial = state_dir.join("exit.tmp");
    fs::write(&partial, serde_json::to_vec(status)?)?;
    fs::rename(partial, state_dir.join(RECORD_NAME))
}

/// The exit record of a container, if it ended.
pub fn read_record(state_dir: &Path) -> io::Result<Option<ExitStatus>> {
    match fs::read(state_dir.join(RECORD_NAME)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
