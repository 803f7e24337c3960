//! A process the monitor started (the container's init or an exec): its streams and its clients.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::client::{Client, Input};
use super::poll::{Poll, Source, Token};
use super::stdio::{Console, Ends};
use super::transfer::{self, Moved, Route};
use crate::client::AttachRequest;
use crate::logfile::{Log, Stream};

/// Reads from one stream before others get their turn.
const READS_PER_TURN: usize = 16;

/// Reads that empty any pipe of ours.
const READS_AT_END: usize = 64;

/// What handling a stream needs besides the process.
pub struct Io<'a> {
    /// Where sources are watched.
    pub poll: &'a Poll,
    /// Scratch memory.
    pub buffer: &'a mut [u8],
    /// Where output is kept.
    pub log: &'a mut Log,
}

/// Facts of a process that never change.
#[derive(Debug)]
pub struct Identity {
    /// Our number for it; init is 0.
    pub serial: u32,
    /// `None` for init.
    pub exec_id: Option<String>,
    /// Pid on the host.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// It has a terminal.
    pub tty: bool,
    /// A client's end of input is the process's end of input (`StdinOnce`; always so for an exec).
    pub stdin_once: bool,
}

/// A process, its streams, its clients.
#[derive(Debug)]
pub struct Process {
    /// What it is.
    pub identity: Identity,
    /// Its exit code, once it was reaped.
    pub exit: Option<i32>,
    /// When to stop waiting for the end of its streams or for its clients.
    pub deadline: Option<Instant>,
    /// The end was reported.
    pub reported: bool,
    /// Its terminal, if it has one.
    pub console: Option<Console>,
    input: Option<ProcessInput>,
    outputs: Vec<Output>,
    clients: Vec<Client>,
    next_client: u32,
}

/// Our end of a process's input.
#[derive(Debug)]
struct ProcessInput {
    source: Source,
    /// What it did not take yet.
    pending: Vec<u8>,
    /// Close when that is empty.
    ending: bool,
}

#[derive(Debug)]
struct Output {
    stream: Stream,
    source: Source,
    /// The pipe was made larger.
    widened: bool,
}

impl Process {
    /// Begins watching a started process.
    pub fn new(identity: Identity, ends: Ends, poll: &Poll) -> Process {
        let serial = identity.serial;
        let output = |(stream, fd)| {
            let mut source = Source::new(fd, Token::Output(serial, stream));
            source.watch(poll, Some(EventFlags::IN));
            Output {
                stream,
                source,
                widened: false,
            }
        };
        let input = |fd| ProcessInput {
            source: Source::new(fd, Token::Stdin(serial)),
            pending: Vec::new(),
            ending: false,
        };
        Process {
            exit: None,
            deadline: None,
            reported: false,
            console: ends.console,
            input: ends.stdin.map(input),
            outputs: ends.outputs.into_iter().map(output).collect(),
            clients: Vec::new(),
            next_client: 0,
            identity,
        }
    }

    /// All output was read.
    pub fn is_drained(&self) -> bool {
        self.outputs.is_empty()
    }

    /// No client is left.
    pub fn is_alone(&self) -> bool {
        self.clients.is_empty()
    }

    /// Every client has what it is owed.
    pub fn owes_nothing(&self) -> bool {
        self.clients.iter().all(|client| client.owed() == 0)
    }

    /// Joins a client. `true`: it detached with its first bytes.
    pub fn add_client(
        &mut self,
        request: &AttachRequest,
        socket: OwnedFd,
        io: &mut Io<'_>,
    ) -> bool {
        let serial = self.next_client;
        self.next_client += 1;
        let client = Client::new(
            self.identity.serial,
            serial,
            socket,
            request,
            self.identity.tty,
        );
        self.clients.push(client);
        let mut detached = false;
        if request.stdin && !request.early_input.is_empty() {
            detached = self.take_input(self.clients.len() - 1, &request.early_input, io.poll);
        }
        self.settle(io);
        detached
    }

    /// Output can be read, or has ended.
    pub fn output_ready(&mut self, stream: Stream, io: &mut Io<'_>) {
        self.read_output(stream, READS_PER_TURN, true, io);
        self.settle(io);
    }

    /// Reads what is left of all output; only for a process that is gone. What init leaves is bounded, its writers being dead, and is
    /// read however far behind clients are; an exec's only with `force`.
    pub fn drain_output(&mut self, force: bool, io: &mut Io<'_>) {
        // With the other side of the terminal open its end would never be read.
        self.console = None;
        let patient = !force && self.identity.exec_id.is_some();
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.read_output(stream, READS_AT_END, patient, io);
        }
        self.settle(io);
    }

    /// Whatever is still unread stays unread.
    pub fn close_output(&mut self, io: &mut Io<'_>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.end_output(stream, io);
        }
    }

    /// The process's input takes bytes again, or is closed.
    pub fn input_ready(&mut self, io: &mut Io<'_>) {
        if let Some(input) = &mut self.input {
            let pending = std::mem::take(&mut input.pending);
            self.write_input(&pending, io.poll);
        }
        let hung_up: Vec<u32> = self
            .clients
            .iter()
            .filter(|client| client.input_open)
            .map(|client| client.serial)
            .collect();
        for client in hung_up {
            self.read_client(client, io);
        }
        self.settle(io);
    }

    /// Something happened on a client's socket. `true`: it detached.
    pub fn client_ready(&mut self, serial: u32, flags: EventFlags, io: &mut Io<'_>) -> bool {
        let Some(client) = self
            .clients
            .iter_mut()
            .find(|client| client.serial == serial)
        else {
            return false;
        };
        if flags.contains(EventFlags::OUT) {
            client.flush();
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            client.hang_up();
        }
        let detached = client.input_open && self.read_client(serial, io);
        self.settle(io);
        detached
    }

    /// All clients leave once they have what they are owed.
    pub fn dismiss_clients(&mut self, io: &mut Io<'_>) {
        self.clients.iter_mut().for_each(Client::leave);
        self.settle(io);
    }

    /// `patient`: leaves the rest in the pipe while a client is far behind.
    fn read_output(&mut self, stream: Stream, reads: usize, patient: bool, io: &mut Io<'_>) {
        for _ in 0..reads {
            if patient && self.is_congested(stream, io.log) {
                return;
            }
            let Some(output) = self
                .outputs
                .iter_mut()
                .find(|output| output.stream == stream)
            else {
                return;
            };
            let route = Route {
                stream,
                logged: self.identity.exec_id.is_none(),
                patient,
                pipe: !self.identity.tty,
            };
            let moved = transfer::read(&output.source, &mut self.clients, route, io);
            match moved {
                Moved::Bytes { many: true } if !output.widened && !self.identity.tty => {
                    output.widened = true;
                    transfer::widen(&output.source);
                }
                Moved::Bytes { .. } => {}
                Moved::Nothing => return,
                Moved::End => return self.end_output(stream, io),
            }
        }
    }

    fn end_output(&mut self, stream: Stream, io: &mut Io<'_>) {
        let Some(at) = self
            .outputs
            .iter()
            .position(|output| output.stream == stream)
        else {
            return;
        };
        self.outputs.remove(at).source.watch(io.poll, None);
        if self.identity.exec_id.is_none() {
            io.log.end(stream, now_ns());
        }
    }

    fn is_congested(&self, stream: Stream, log: &Log) -> bool {
        let is_init = self.identity.exec_id.is_none();
        (is_init && log.is_congested())
            || self
                .clients
                .iter()
                .any(|client| client.wants(stream) && client.is_behind())
    }

    /// Reads a client's input while the process takes it. `true`: it detached.
    fn read_client(&mut self, serial: u32, io: &mut Io<'_>) -> bool {
        let Some(at) = self
            .clients
            .iter()
            .position(|client| client.serial == serial)
        else {
            return false;
        };
        for _ in 0..READS_PER_TURN {
            if !self.accepts_input() {
                return false;
            }
            match self.clients[at].read(io.buffer) {
                Input::Empty => return false,
                Input::End => {
                    self.end_client_input(at, io.poll);
                    return false;
                }
                Input::Bytes(n) => {
                    let (bytes, poll) = (&io.buffer[..n], io.poll);
                    if self.take_input(at, bytes, poll) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Input of a client, seen through its detach keys. `true`: it detached.
    fn take_input(&mut self, at: usize, bytes: &[u8], poll: &Poll) -> bool {
        let client = &mut self.clients[at];
        if client.keys.is_idle() {
            self.write_input(bytes, poll);
            return false;
        }
        let mut forward = Vec::with_capacity(bytes.len());
        let detached = client.keys.filter(bytes, &mut forward);
        if detached {
            client.leave();
        }
        self.write_input(&forward, poll);
        detached
    }

    /// A client sends no more. As in moby's `stream.CopyStreams`: with `StdinOnce` and no terminal that ends the process's input,
    /// otherwise it ends the attachment.
    fn end_client_input(&mut self, at: usize, poll: &Poll) {
        self.clients[at].input_open = false;
        if !self.identity.stdin_once || self.identity.tty {
            return self.clients[at].leave();
        }
        match &mut self.input {
            Some(input) if !input.pending.is_empty() => input.ending = true,
            _ => self.close_input(poll),
        }
    }

    /// There is room for more input; without an input everything is swallowed.
    fn accepts_input(&self) -> bool {
        self.input
            .as_ref()
            .is_none_or(|input| input.pending.is_empty())
    }

    fn write_input(&mut self, bytes: &[u8], poll: &Poll) {
        let Some(input) = &mut self.input else { return };
        let mut rest = bytes;
        if input.pending.is_empty() {
            while !rest.is_empty() {
                match rustix::io::write(&input.source, rest) {
                    Ok(n) => rest = &rest[n..],
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    // The process closed its input.
                    Err(_) => return self.close_input(poll),
                }
            }
        }
        input.pending.extend_from_slice(rest);
        if input.pending.is_empty() {
            input.pending = Vec::new();
            if input.ending {
                return self.close_input(poll);
            }
        }
        let waiting = !input.pending.is_empty();
        input.source.watch(poll, waiting.then_some(EventFlags::OUT));
    }

    fn close_input(&mut self, poll: &Poll) {
        if let Some(mut input) = self.input.take() {
            input.source.watch(poll, None);
        }
    }

    /// Lets finished clients go and watches every source for what is possible now.
    pub fn settle(&mut self, io: &mut Io<'_>) {
        let mut at = 0;
        while at < self.clients.len() {
            if self.clients[at].is_done() {
                // One that broke off while it could still send: its end of input counts.
                if self.clients[at].input_open {
                    self.end_client_input(at, io.poll);
                }
                self.clients.remove(at).close(io.poll);
            } else {
                at += 1;
            }
        }
        let accepts = self.accepts_input();
        for client in &mut self.clients {
            client.watch(io.poll, accepts);
        }
        for at in 0..self.outputs.len() {
            let congested = self.is_congested(self.outputs[at].stream, io.log);
            self.outputs[at]
                .source
                .watch(io.poll, (!congested).then_some(EventFlags::IN));
        }
    }

    /// Its pidfd, for signals.
    pub fn pidfd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.identity.pidfd.as_fd()
    }
}

/// Nanoseconds since the epoch.
pub fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
