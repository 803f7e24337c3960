//! Execs between their fork and their program. Whatever a container does to them (it may be frozen, or its file system not answer), the
//! monitor goes on with everything else.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::poll::{Source, Token};
use super::process::{Identity, Process};
use super::{Monitor, keep_console, signal, stdio};
use crate::client::{AttachRequest, ExecRequest};
use crate::launch::{ExecLaunch, LaunchError, LaunchStdio, Launched, Starting, Step};
use crate::protocol::Report;

/// An exec that the daemon waits to hear of.
#[derive(Debug)]
pub(super) struct StartingExec {
    /// The call to be answered.
    call: u64,
    serial: u32,
    exec_id: String,
    tty: bool,
    ends: stdio::Ends,
    client: Option<(AttachRequest, OwnedFd)>,
    launch: Option<Box<Starting>>,
    /// Tells when there is more to hear.
    source: Source,
    /// It has ended already: its exit code.
    ended: Option<i32>,
}

impl StartingExec {
    /// When it is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.launch.as_ref().map(|launch| launch.deadline())
    }

    fn pid(&self) -> Option<i32> {
        self.launch.as_ref().map(|launch| launch.pid())
    }
}

impl Monitor {
    /// Begins an exec. It is answered when it is its program, or has failed.
    pub(super) fn exec(
        &mut self,
        call: u64,
        exec: ExecRequest,
        client: Option<(AttachRequest, OwnedFd)>,
    ) {
        let begun = self.begin_exec(&exec, client.is_some());
        let serial = self.next_serial;
        self.next_serial += 1;
        let (launch, ends) = match begun {
            Ok(begun) => begun,
            Err(error) => return self.answer_exec(call, Err(error)),
        };
        let found = |launched| Found {
            call,
            serial,
            exec_id: exec.exec_id.clone(),
            tty: exec.tty,
            launched,
        };
        let starting = match launch {
            ExecLaunch::Done(launched) => return self.began(found(launched), ends, client, None),
            ExecLaunch::Starting(starting) => starting,
        };
        let Ok(fd) = starting.as_fd().try_clone_to_owned() else {
            let error = starting.cancel("too many open files");
            return self.answer_exec(call, Err(error));
        };
        let mut source = Source::new(fd, Token::Starting(serial));
        source.watch(&self.poll, Some(EventFlags::IN));
        self.starting.push(StartingExec {
            call,
            serial,
            exec_id: exec.exec_id,
            tty: exec.tty,
            ends,
            client,
            launch: Some(starting),
            source,
            ended: None,
        });
        // Mostly it is there by now, or will be in a moment.
        self.proceed(serial);
    }

    fn begin_exec(
        &self,
        exec: &ExecRequest,
        has_client: bool,
    ) -> Result<(ExecLaunch, stdio::Ends), LaunchError> {
        let (stdio, ends) = match (exec.tty, has_client) {
            (true, _) => {
                let (rows, cols) = exec.console_size;
                (LaunchStdio::Tty { rows, cols }, stdio::Ends::default())
            }
            // Nobody will ever see its output.
            (false, false) => stdio::nothing().step("open /dev/null")?,
            (false, true) => stdio::pipes(exec.open_stdin).step("make pipes")?,
        };
        let init = &self.processes[0].identity.pidfd;
        let begin = || (self.launcher.begin_exec)(&exec.plan, init, stdio);
        let launch = signal::with_child_signals_open(begin).step("signal mask")??;
        Ok((launch, ends))
    }

    /// Hears what an exec has to say.
    pub(super) fn proceed(&mut self, serial: u32) {
        let Some(at) = self.starting.iter().position(|exec| exec.serial == serial) else {
            return;
        };
        let Some(launch) = self.starting[at].launch.take() else {
            return;
        };
        let outcome = match launch.proceed() {
            Ok(ExecLaunch::Starting(launch)) => {
                self.starting[at].launch = Some(launch);
                return;
            }
            Ok(ExecLaunch::Done(launched)) => Ok(launched),
            Err(error) => Err(error),
        };
        let mut exec = self.starting.swap_remove(at);
        exec.source.watch(&self.poll, None);
        match outcome {
            Ok(launched) => {
                let found = Found {
                    call: exec.call,
                    serial,
                    exec_id: exec.exec_id,
                    tty: exec.tty,
                    launched,
                };
                self.began(found, exec.ends, exec.client, exec.ended);
            }
            Err(error) => self.answer_exec(exec.call, Err(error)),
        }
    }

    /// Execs whose time is up.
    pub(super) fn give_up_overdue(&mut self) {
        let now = Instant::now();
        let overdue = |exec: &&StartingExec| exec.deadline().is_some_and(|at| at <= now);
        let serials: Vec<u32> = self
            .starting
            .iter()
            .filter(overdue)
            .map(|exec| exec.serial)
            .collect();
        serials.into_iter().for_each(|serial| self.proceed(serial));
    }

    /// The container is over, and with it what was about to start in it.
    pub(super) fn cancel_execs(&mut self) {
        for mut exec in std::mem::take(&mut self.starting) {
            exec.source.watch(&self.poll, None);
            if let Some(launch) = exec.launch.take() {
                let error = launch.cancel("the container has ended");
                self.answer_exec(exec.call, Err(error));
            }
        }
    }

    /// Notes the end of a child that is not known as a process yet. `true`: it is one of these.
    pub(super) fn starting_ended(&mut self, pid: i32, code: i32) -> bool {
        let exec = self
            .starting
            .iter_mut()
            .find(|exec| exec.pid() == Some(pid));
        exec.map(|exec| exec.ended = Some(code)).is_some()
    }

    fn began(
        &mut self,
        found: Found,
        ends: stdio::Ends,
        client: Option<(AttachRequest, OwnedFd)>,
        ended: Option<i32>,
    ) {
        let Found {
            call,
            serial,
            exec_id,
            tty,
            launched,
        } = found;
        let ends = match keep_console(launched.console, ends) {
            Ok(ends) => ends,
            Err(error) => return self.answer_exec(call, Err(error)),
        };
        let identity = Identity {
            serial,
            exec_id: Some(exec_id),
            pid: launched.pid,
            pidfd: launched.pidfd,
            tty,
            stdin_once: true,
        };
        self.processes
            .push(Process::new(identity, ends, &self.poll));
        if let Some((request, socket)) = client {
            self.attach(serial, &request, socket);
        }
        self.answer_exec(call, Ok(launched.pid));
        match ended {
            Some(code) => self.process_ended(launched.pid, code),
            // It may have ended already, and then no signal came.
            None => self.reap(),
        }
    }

    fn answer_exec(&mut self, id: u64, outcome: Result<i32, LaunchError>) {
        let report = match outcome {
            Ok(pid) => Report::ExecStarted { id, pid },
            Err(error) => Report::Failed { id, error },
        };
        self.control.report(&report, None, &self.poll);
    }
}

/// An exec that has become its program.
struct Found {
    call: u64,
    serial: u32,
    exec_id: String,
    tty: bool,
    launched: Launched,
}
