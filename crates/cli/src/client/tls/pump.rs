//! What moves bytes between a TLS connection and the socket that the rest of the client sees.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::ClientConnection;

/// What is moved at a time.
const BUFFER: usize = 16 * 1024;

/// Between the daemon's ciphertext and our plain text.
pub(super) struct Pump<'a> {
    tls: ClientConnection,
    tcp: TcpStream,
    inner: &'a UnixStream,
    /// We may still say something.
    upward_open: bool,
}

impl<'a> Pump<'a> {
    /// Both sockets do not block.
    pub(super) fn new(tls: ClientConnection, tcp: TcpStream, inner: &'a UnixStream) -> Pump<'a> {
        Pump {
            tls,
            tcp,
            inner,
            upward_open: true,
        }
    }

    /// Until one side ends or fails.
    pub(super) fn run(&mut self) -> io::Result<()> {
        // Plain text that our side has not taken yet.
        let mut pending = Vec::new();
        loop {
            let mut ended = false;
            if pending.is_empty() {
                let mut buffer = [0; BUFFER];
                match self.tls.reader().read(&mut buffer) {
                    Ok(0) => ended = true,
                    Ok(n) => pending.extend_from_slice(&buffer[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // Cut off without a goodbye: the length of an answer is known otherwise.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => ended = true,
                    Err(error) => return Err(error),
                }
            }
            if ended {
                return Ok(());
            }
            self.write_down(&mut pending)?;
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.tcp) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            self.wait(pending.is_empty())?;
            if pending.is_empty() {
                self.read_daemon()?;
            }
            // What is not sent yet is enough to go on with.
            if self.upward_open && !self.tls.wants_write() {
                self.read_ours()?;
            }
        }
    }

    fn write_down(&mut self, pending: &mut Vec<u8>) -> io::Result<()> {
        while !pending.is_empty() {
            match (&mut &*self.inner).write(pending) {
                Ok(n) => drop(pending.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self, room: bool) -> io::Result<()> {
        let mut daemon = PollFlags::empty();
        let mut ours = PollFlags::empty();
        daemon.set(PollFlags::IN, room);
        daemon.set(PollFlags::OUT, self.tls.wants_write());
        ours.set(PollFlags::IN, self.upward_open && !self.tls.wants_write());
        ours.set(PollFlags::OUT, !room);
        let mut fds = Vec::with_capacity(2);
        if !daemon.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.tcp.as_fd(), daemon));
        }
        if !ours.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.inner.as_fd(), ours));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_daemon(&mut self) -> io::Result<()> {
        match self.tls.read_tls(&mut self.tcp) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        self.tls.process_new_packets().map(drop).map_err(|error| {
            // Tells the daemon why.
            let _ = self.tls.write_tls(&mut self.tcp);
            io::Error::other(error)
        })
    }

    fn read_ours(&mut self) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        match (&mut &*self.inner).read(&mut buffer) {
            Ok(0) => {
                self.upward_open = false;
                self.tls.send_close_notify();
            }
            Ok(n) => self.tls.writer().write_all(&buffer[..n])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Our side is gone.
            Err(_) => self.upward_open = false,
        }
        Ok(())
    }
}
