//! epoll, with names instead of numbers for what is watched.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::logfile::Stream;

/// Most events taken at once.
pub const BATCH: usize = 16;

/// What an event is about. Processes and clients are named by serial numbers that are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The daemon's connection.
    Control,
    /// A daemon knocks.
    Listener,
    /// Children ended.
    Children,
    /// The kernel killed something for memory.
    Oom,
    /// The shipper of the log takes bytes again.
    Log,
    /// A process's input takes bytes again.
    Stdin(u32),
    /// A process's output.
    Output(u32, Stream),
    /// A client: process, client.
    Client(u32, u32),
    /// A process on its way to its program.
    Starting(u32),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, process, client) = match self {
            Token::Control => (0, 0, 0),
            Token::Listener => (1, 0, 0),
            Token::Children => (2, 0, 0),
            Token::Oom => (3, 0, 0),
            Token::Stdin(process) => (4, process, 0),
            Token::Output(process, Stream::Stdout) => (5, process, 0),
            Token::Output(process, Stream::Stderr) => (6, process, 0),
            Token::Client(process, client) => (7, process, client),
            Token::Log => (8, 0, 0),
            Token::Starting(process) => (9, process, 0),
        };
        kind << 60 | u64::from(process) << 28 | u64::from(client)
    }

    fn unpack(data: u64) -> Token {
        const MASK: u64 = (1 << 28) - 1;
        let part = |bits: u64| u32::try_from(bits & MASK).expect("28 bits");
        let (process, client) = (part(data >> 28), part(data));
        match data >> 60 {
            0 => Token::Control,
            1 => Token::Listener,
            2 => Token::Children,
            3 => Token::Oom,
            4 => Token::Stdin(process),
            5 => Token::Output(process, Stream::Stdout),
            6 => Token::Output(process, Stream::Stderr),
            7 => Token::Client(process, client),
            8 => Token::Log,
            _ => Token::Starting(process),
        }
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    /// A new one.
    pub fn new() -> io::Result<Poll> {
        Ok(Poll(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Waits for events and hands each to `each`; `None` waits forever. Returns how many there were.
    pub fn wait(
        &self,
        timeout: Option<Duration>,
        ready: &mut [(Token, EventFlags); BATCH],
    ) -> io::Result<usize> {
        let mut events = [MaybeUninit::uninit(); BATCH];
        let timeout = timeout.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let (events, _) = match epoll::wait(&self.0, &mut events[..], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(0),
            other => other?,
        };
        for (slot, event) in ready.iter_mut().zip(events.iter()) {
            *slot = (Token::unpack(event.data.u64()), event.flags);
        }
        Ok(events.len())
    }
}

/// A descriptor and what it is watched for.
#[derive(Debug)]
pub struct Source {
    fd: OwnedFd,
    token: Token,
    watched: Option<EventFlags>,
}

impl Source {
    /// Not watched yet.
    pub fn new(fd: OwnedFd, token: Token) -> Source {
        Source {
            fd,
            token,
            watched: None,
        }
    }

    /// Watches for `flags` (errors and hang-ups always come); `None`: for nothing. A source must be unwatched before it is dropped if
    /// another process may hold the same open file: epoll would go on reporting it.
    pub fn watch(&mut self, poll: &Poll, flags: Option<EventFlags>) {
        if self.watched == flags {
            return;
        }
        let data = EventData::new_u64(self.token.pack());
        let result = match (self.watched, flags) {
            (None, Some(flags)) => epoll::add(&poll.0, &self.fd, data, flags),
            (Some(_), Some(flags)) => epoll::modify(&poll.0, &self.fd, data, flags),
            (_, None) => epoll::delete(&poll.0, &self.fd),
        };
        // Fails only for files that cannot be polled, which none of ours is, or out of kernel memory.
        if result.is_ok() {
            self.watched = flags;
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        let all = [
            Token::Control,
            Token::Listener,
            Token::Children,
            Token::Oom,
            Token::Log,
            Token::Stdin(3),
            Token::Output(0, Stream::Stdout),
            Token::Output(70_000, Stream::Stderr),
            Token::Client(0, 9),
            Token::Client((1 << 28) - 1, (1 << 28) - 1),
        ];
        for token in all {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
