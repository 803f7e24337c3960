//! The monitor's conversation with the daemon, which may be away and come back.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use super::poll::{Poll, Source, Token};
use crate::client::MonitorEvent;
use crate::protocol::{Incoming, Packet, Report};

/// Name of the socket in the state directory on which a later daemon finds the monitor.
pub const SOCKET_NAME: &str = "monitor.sock";

/// Events kept for a daemon that is away.
const MAX_MISSED: usize = 1024;

/// The connection to the daemon, if there is one.
#[derive(Debug)]
pub struct Control {
    listener: Option<Source>,
    connection: Option<Source>,
    /// Reports the connection did not take yet, each with at most one descriptor.
    outbox: VecDeque<(Packet, Option<OwnedFd>)>,
    /// Events nobody was told.
    missed: Vec<MonitorEvent>,
}

impl Control {
    /// Takes the connection the spawner passed on and begins to listen for later daemons in `state_dir`.
    pub fn new(connection: OwnedFd, state_dir: &Path) -> io::Result<Control> {
        Ok(Control {
            listener: Some(Source::new(listen_in(state_dir)?, Token::Listener)),
            connection: Some(connection_source(connection)?),
            outbox: VecDeque::new(),
            missed: Vec::new(),
        })
    }

    /// Begins watching.
    pub fn watch(&mut self, poll: &Poll) {
        if let Some(listener) = &mut self.listener {
            listener.watch(poll, Some(EventFlags::IN));
        }
        self.watch_connection(poll);
    }

    /// A daemon is there to hear reports.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// No daemon is connected, or it was sent everything.
    pub fn is_quiet(&self) -> bool {
        self.connection.is_none() || self.outbox.is_empty()
    }

    /// A new daemon knocks; it replaces the one before, which is dead.
    pub fn accept(&mut self, poll: &Poll) {
        let Some(listener) = &self.listener else {
            return;
        };
        let accepted = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        if let Ok(connection) = accepted
            && let Ok(source) = connection_source(connection)
        {
            self.disconnect(poll);
            self.connection = Some(source);
            self.watch_connection(poll);
        }
    }

    /// The next message. `Err`: the daemon is gone or talks nonsense, which comes to the same.
    pub fn receive(&mut self) -> io::Result<Option<Incoming>> {
        let Some(connection) = &self.connection else {
            return Ok(None);
        };
        match Incoming::receive(connection) {
            Ok(Some(incoming)) => Ok(Some(incoming)),
            Ok(None) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a report, in order, as soon as the connection takes it. Lost if there is no connection.
    pub fn report(&mut self, report: &Report, fd: Option<OwnedFd>, poll: &Poll) {
        if self.connection.is_none() {
            return;
        }
        if let Ok(packet) = Packet::new(report) {
            self.outbox.push_back((packet, fd));
            self.flush(poll);
        }
    }

    /// Tells an event, or keeps it for the next daemon.
    pub fn event(&mut self, event: MonitorEvent, poll: &Poll) {
        if self.connection.is_some() {
            self.report(&Report::Event(event), None, poll);
        } else if self.missed.len() < MAX_MISSED {
            self.missed.push(event);
        }
    }

    /// Tells what happened while no daemon was there.
    pub fn tell_missed(&mut self, poll: &Poll) {
        for event in std::mem::take(&mut self.missed) {
            self.event(event, poll);
        }
    }

    /// Sends what the connection takes.
    pub fn flush(&mut self, poll: &Poll) {
        while let (Some(connection), Some((packet, fd))) = (&self.connection, self.outbox.front()) {
            let fds = fd.as_ref().map(AsFd::as_fd);
            match packet.send(connection, fds.as_slice()) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.disconnect(poll),
            }
        }
        self.watch_connection(poll);
    }

    /// The daemon is gone.
    pub fn disconnect(&mut self, poll: &Poll) {
        if let Some(mut connection) = self.connection.take() {
            connection.watch(poll, None);
        }
        self.outbox.clear();
    }

    /// Stops listening and removes the socket's name: a later daemon finds the exit record instead.
    pub fn close_door(&mut self, state_dir: &Path, poll: &Poll) {
        if let Some(mut listener) = self.listener.take() {
            listener.watch(poll, None);
            let _ = std::fs::remove_file(state_dir.join(SOCKET_NAME));
        }
    }

    fn watch_connection(&mut self, poll: &Poll) {
        let waiting = !self.outbox.is_empty();
        if let Some(connection) = &mut self.connection {
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, waiting);
            connection.watch(poll, Some(flags));
        }
    }
}

/// Address of a socket in `dir`, through a descriptor of it: a path may be longer than the 107 bytes an address takes (unix(7)).
pub fn address_in(dir: &OwnedFd, name: &str) -> io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    Ok(SocketAddrUnix::new(format!(
        "/proc/self/fd/{}/{name}",
        dir.as_raw_fd()
    ))?)
}

/// Opens a directory for [`address_in`].
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn listen_in(state_dir: &Path) -> io::Result<OwnedFd> {
    let dir = open_dir(state_dir)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = address_in(&dir, SOCKET_NAME)?;
    match bind(&socket, &address) {
        // Left behind by a monitor that was killed.
        Err(Errno::ADDRINUSE) => {
            std::fs::remove_file(state_dir.join(SOCKET_NAME))?;
            bind(&socket, &address)?;
        }
        result => result?,
    }
    listen(&socket, 4)?;
    Ok(socket)
}

fn connection_source(connection: OwnedFd) -> io::Result<Source> {
    let flags = rustix::fs::fcntl_getfl(&connection)?;
    rustix::fs::fcntl_setfl(&connection, flags | OFlags::NONBLOCK)?;
    Ok(Source::new(connection, Token::Control))
}
