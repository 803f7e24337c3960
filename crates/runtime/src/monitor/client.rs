//! An attached client: Docker's stream frames out, the user's input in.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recvmsg, sendmsg,
    shutdown,
};
use rustix::pipe::{SpliceFlags, splice};

use super::detach::DetachKeys;
use super::poll::{Poll, Source, Token};
use crate::client::AttachRequest;
use crate::logfile::Stream;

/// Bytes a client may be behind before the process's output is no longer read.
pub const MAX_BACKLOG: usize = 1 << 20;

/// Send buffer of a client that takes much; the kernel doubles it for its own overhead (socket(7)).
const WIDE_SOCKET: usize = 1 << 20;

/// The header of a frame: stream, three zeros, length in network order (Docker Engine API, "Attach to a container").
pub fn frame_header(stream: Stream, len: usize) -> [u8; 8] {
    let len = u32::try_from(len)
        .expect("reads are far below 4 GiB")
        .to_be_bytes();
    [stream.frame_type(), 0, 0, 0, len[0], len[1], len[2], len[3]]
}

/// What reading a client's input gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// So many bytes.
    Bytes(usize),
    /// None at the moment.
    Empty,
    /// No more will come.
    End,
}

/// An attached client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub serial: u32,
    source: Source,
    stdout: bool,
    stderr: bool,
    raw: bool,
    /// Its detach keys.
    pub keys: DetachKeys,
    /// Encoded bytes the socket did not take, from `sent` on.
    backlog: Vec<u8>,
    sent: usize,
    /// More input may come.
    pub input_open: bool,
    /// Gets what it is owed, then goes.
    leaving: bool,
    /// The peer hung up; input it sent before may still be unread.
    hung_up: bool,
    /// Its socket had no room for a frame; that frame's bytes are still with the process.
    full: bool,
    /// Its socket got a larger send buffer.
    widened: bool,
    /// Nothing can be sent any more.
    broken: bool,
}

impl Client {
    /// Joins a connected socket. Keys are watched for only with a terminal.
    pub fn new(
        process: u32,
        serial: u32,
        socket: OwnedFd,
        request: &AttachRequest,
        tty: bool,
    ) -> Client {
        let keys = if tty {
            request.detach_keys.clone()
        } else {
            Vec::new()
        };
        Client {
            serial,
            source: Source::new(socket, Token::Client(process, serial)),
            stdout: request.stdout,
            stderr: request.stderr,
            raw: request.raw,
            keys: DetachKeys::new(keys),
            backlog: Vec::new(),
            sent: 0,
            input_open: request.stdin,
            leaving: false,
            hung_up: false,
            full: false,
            widened: false,
            broken: false,
        }
    }

    /// It gets this stream.
    pub fn wants(&self, stream: Stream) -> bool {
        let asked = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        asked && !self.leaving && !self.broken
    }

    /// Further behind than is healthy, or without room for the frame it was offered.
    pub fn is_behind(&self) -> bool {
        !self.broken && (self.full || self.owed() > MAX_BACKLOG)
    }

    /// Bytes not sent yet.
    pub fn owed(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// It has got all it will get and can be let go.
    pub fn is_done(&self) -> bool {
        self.broken || (self.hung_up && !self.input_open) || (self.leaving && self.owed() == 0)
    }

    /// No output after this; it is let go when it has what it is owed.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.input_open = false;
    }

    /// The peer hung up: nothing it is owed can reach it.
    pub fn hang_up(&mut self) {
        self.hung_up = true;
        self.backlog = Vec::new();
        self.sent = 0;
        self.stdout = false;
        self.stderr = false;
    }

    /// Sends output, as a frame unless the client is raw. What the socket does not take is kept.
    pub fn push(&mut self, stream: Stream, data: &[u8]) {
        let header = frame_header(stream, data.len());
        let header = if self.raw { &header[..0] } else { &header[..] };
        let taken = if self.owed() == 0 {
            self.send(&[header, data])
        } else {
            0
        };
        if self.broken {
            return;
        }
        if taken < header.len() {
            self.keep(&header[taken..]);
        }
        self.keep(&data[taken.saturating_sub(header.len())..]);
    }

    /// Announces `len` bytes of a stream, which must follow. `false`: there is no room now.
    pub fn begin_frame(&mut self, stream: Stream, len: usize) -> bool {
        if self.raw {
            return true;
        }
        let header = frame_header(stream, len);
        let taken = self.send(&[&header]);
        if taken > 0 && taken < header.len() {
            self.keep(&header[taken..]);
        }
        self.full = taken == 0 && !self.broken;
        taken > 0
    }

    /// To be asked when nothing of a frame could be moved: `true` if the client was told nothing of it, so that the bytes may stay
    /// where they are until there is room.
    pub fn may_wait(&mut self) -> bool {
        self.full = self.raw && !self.broken;
        self.raw
    }

    /// Moves up to `len` bytes from a pipe into the socket.
    pub fn splice_from(&mut self, pipe: impl AsFd, len: usize) -> rustix::io::Result<usize> {
        if self.owed() > 0 {
            return Ok(0);
        }
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(pipe, None, &self.source, None, len, flags);
        self.broken |= matches!(moved, Err(error) if !matches!(error, Errno::AGAIN | Errno::INTR));
        moved
    }

    /// Sends what was kept.
    pub fn flush(&mut self) {
        if self.full {
            self.full = false;
            self.widen();
        }
        while self.owed() > 0 && !self.broken {
            let backlog = std::mem::take(&mut self.backlog);
            let taken = self.send(&[&backlog[self.sent..]]);
            self.backlog = backlog;
            self.sent += taken;
            if taken == 0 {
                return;
            }
        }
        self.backlog = Vec::new();
        self.sent = 0;
    }

    /// Reads input without waiting.
    pub fn read(&mut self, buffer: &mut [u8]) -> Input {
        let mut none = RecvAncillaryBuffer::default();
        match recvmsg(
            &self.source,
            &mut [IoSliceMut::new(buffer)],
            &mut none,
            RecvFlags::DONTWAIT,
        ) {
            Ok(message) if message.bytes > 0 => Input::Bytes(message.bytes),
            Err(Errno::AGAIN | Errno::INTR) => Input::Empty,
            Ok(_) | Err(_) => Input::End,
        }
    }

    /// Watches for what can be done now. `accept_input`: the process's input has room.
    pub fn watch(&mut self, poll: &Poll, accept_input: bool) {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.input_open && accept_input);
        flags.set(EventFlags::OUT, self.owed() > 0 || self.full);
        // Once hung up the kernel would report that again and again; reading goes on when the process's input has room.
        let quiet = self.hung_up && !flags.contains(EventFlags::IN);
        self.source.watch(poll, (!quiet).then_some(flags));
    }

    /// Closes the connection so that the peer reads everything and then the end.
    pub fn close(mut self, poll: &Poll) {
        self.source.watch(poll, None);
        let _ = shutdown(&self.source, Shutdown::Write);
        // Unread input would turn the peer's end of file into a connection reset (unix(7), tcp(7)).
        let mut scrap = [0; 512];
        for _ in 0..64 {
            if !matches!(self.read(&mut scrap), Input::Bytes(_)) {
                break;
            }
        }
    }

    /// A client that had to be waited for once gets a larger send buffer, so that it is waited for less often.
    fn widen(&mut self) {
        if !self.widened {
            self.widened = true;
            // Beyond the limit for unprivileged sockets; without the privilege that limit is as good as it gets.
            if set_socket_send_buffer_size_force(&self.source, WIDE_SOCKET).is_err() {
                let _ = set_socket_send_buffer_size(&self.source, WIDE_SOCKET);
            }
        }
    }

    /// Bytes to be sent when the socket takes them.
    pub fn keep(&mut self, bytes: &[u8]) {
        if self.sent > MAX_BACKLOG {
            self.backlog.drain(..self.sent);
            self.sent = 0;
        }
        self.backlog.extend_from_slice(bytes);
    }

    fn send(&mut self, parts: &[&[u8]]) -> usize {
        let first = IoSlice::new(parts[0]);
        let second = IoSlice::new(parts.get(1).copied().unwrap_or_default());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(
            &self.source,
            &[first, second],
            &mut SendAncillaryBuffer::default(),
            flags,
        ) {
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => 0,
            Err(_) => {
                self.broken = true;
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_give_the_streams_back(pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 1..5000)), 0..60)) {
            let (ours, theirs) = rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, rustix::net::SocketFlags::CLOEXEC, None,
            ).expect("socketpair");
            let request = AttachRequest { stdin: false, stdout: true, stderr: true, raw: false, detach_keys: vec![], early_input: vec![] };
            let mut client = Client::new(0, 0, ours, &request, false);
            let reader = std::thread::spawn(move || {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut std::fs::File::from(theirs), &mut bytes).expect("read");
                bytes
            });
            let mut expected: [Vec<u8>; 2] = Default::default();
            for (err, data) in &pieces {
                client.push(if *err { Stream::Stderr } else { Stream::Stdout }, data);
                expected[usize::from(*err)].extend_from_slice(data);
            }
            while client.owed() > 0 {
                client.flush();
                std::thread::yield_now();
            }
            client.close(&Poll::new().expect("epoll"));
            prop_assert_eq!(unframe(&reader.join().expect("reader")), expected);
        }
    }

    fn unframe(mut bytes: &[u8]) -> [Vec<u8>; 2] {
        let mut streams: [Vec<u8>; 2] = Default::default();
        while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
            let len = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            assert_eq!(header[1..4], [0; 3]);
            streams[usize::from(header[0]) - 1].extend_from_slice(&rest[..len]);
            bytes = &rest[len..];
        }
        assert!(bytes.is_empty());
        streams
    }
}
