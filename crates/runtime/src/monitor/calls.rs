//! What the daemon asks of a running monitor.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::process::Process;
use super::{Monitor, send_signal};
use crate::client::{AttachRequest, Target};
use crate::protocol::{Call, Report, Request};

/// Calls taken from the daemon before streams get their turn.
const CALLS_PER_TURN: usize = 8;

impl Monitor {
    /// The daemon's connection has something: messages, room for ours, or its end.
    pub(super) fn control_ready(&mut self) {
        self.control.flush(&self.poll);
        for _ in 0..CALLS_PER_TURN {
            match self.control.receive() {
                Ok(None) => return,
                Ok(Some(incoming)) => match incoming.decode::<Call>() {
                    Ok((call, fds)) => self.answer(call, fds),
                    Err(_) => return self.control.disconnect(&self.poll),
                },
                Err(_) => return self.control.disconnect(&self.poll),
            }
        }
    }

    fn answer(&mut self, call: Call, mut fds: Vec<OwnedFd>) {
        let id = call.id;
        let report = match call.request {
            Request::Hello => return self.greet(id),
            Request::ExecRecorded { exec_id } => return self.dismiss_exec(&exec_id),
            Request::Exec { exec, client } => {
                let client = client.zip(fds.pop());
                return self.exec(id, *exec, client);
            }
            Request::Attach(request) => self.attach_to_init(&request, fds.pop()),
            Request::Resize { target, rows, cols } => self.resize(&target, rows, cols),
            Request::ClearLog => self.log.clear(),
            Request::Signal { target, signal } => self.signal(&target, signal),
        };
        let report = match report {
            Ok(()) => Report::Done { id },
            Err(error) => Report::Refused {
                id,
                errno: error.raw_os_error().unwrap_or(libc::EIO),
            },
        };
        self.control.report(&report, None, &self.poll);
    }

    fn greet(&mut self, id: u64) {
        self.report_started(id);
        self.control.tell_missed(&self.poll);
    }

    fn attach_to_init(
        &mut self,
        request: &AttachRequest,
        socket: Option<OwnedFd>,
    ) -> io::Result<()> {
        let socket = socket.ok_or(Errno::BADF)?;
        if self.processes[0].exit.is_some() {
            return Err(Errno::SRCH.into());
        }
        self.attach(0, request, socket);
        Ok(())
    }

    /// Without a terminal nothing happens, as in Docker (containerd's shim): clients resize before they look.
    fn resize(&self, target: &Target, rows: u16, cols: u16) -> io::Result<()> {
        match &self.find(target)?.console {
            Some(console) => console.resize(rows, cols),
            None => Ok(()),
        }
    }

    fn signal(&self, target: &Target, signal: i32) -> io::Result<()> {
        send_signal(self.find(target)?.pidfd(), signal)
    }

    fn find(&self, target: &Target) -> io::Result<&Process> {
        let wanted = match target {
            Target::Init => None,
            Target::Exec(id) => Some(id),
        };
        let process = self
            .processes
            .iter()
            .find(|process| process.identity.exec_id.as_ref() == wanted);
        Ok(process
            .filter(|process| process.exit.is_none())
            .ok_or(Errno::SRCH)?)
    }
}
