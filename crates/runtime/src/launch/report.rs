//! What the child and the launching process tell each other, over one close-on-exec socket pair.
//!
//! ```text
//! parent → child   GoOn(pid) + descriptors the control group is there; what to mount where the child could not (init only)
//! child → parent   Console + descriptor    at most once, with a terminal
//! child → parent   Prepared                where hooks are to run before the root is entered: the parent runs its own…
//! parent → child   GoOn(pid)               …and then the child runs the others
//! child → parent   Created                 instead of the rest: it waits to be started, by whoever connects (`waiting`)
//! child → parent   Executing               all that can fail in a way of its own is done
//! child → parent   Failed(error)           last, instead of execve
//! child → parent   (end of file)           after Executing: execve succeeded; before: the child was killed
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use super::LaunchError;

/// Error texts are cut to fit one message.
const MAX_MESSAGE: usize = 16 * 1024;
/// Descriptors in one message; the kernel's limit is 253.
const MAX_FDS: usize = 200;

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Console,
    Prepared,
    Created,
    Executing,
    Failed(LaunchError),
}

/// The parent's end.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(super) struct Reporter(OwnedFd);

/// What the child says.
#[derive(Debug)]
pub(super) enum Event {
    /// Master side of its terminal.
    Console(OwnedFd),
    /// The root is ready to be entered.
    Prepared,
    /// It waits to be started.
    Created,
    /// Nothing but `execve` is left to do.
    Executing,
    /// It gave up.
    Failed(LaunchError),
    /// Nothing more will come.
    End,
}

/// How the child's setup ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is the user's program now, or waits to be started.
    Executed {
        /// Master side of its terminal.
        console: Option<OwnedFd>,
    },
    /// It was killed before it got there.
    Died,
    /// It gave up.
    Failed(LaunchError),
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    console: Option<OwnedFd>,
    outcome: Option<Option<LaunchError>>,
}

impl Heard {
    /// Takes the next event in; the outcome once there is one.
    pub(super) fn take(&mut self, event: Event) -> Option<Outcome> {
        match event {
            Event::Console(fd) => self.console = Some(fd),
            Event::Prepared => {}
            Event::Created => {
                let console = self.console.take();
                return Some(Outcome::Executed { console });
            }
            Event::Executing => self.outcome = Some(None),
            Event::Failed(error) => self.outcome = Some(Some(error)),
            Event::End => {
                return Some(match self.outcome.take() {
                    None => Outcome::Died,
                    Some(None) => Outcome::Executed {
                        console: self.console.take(),
                    },
                    Some(Some(error)) => Outcome::Failed(error),
                });
            }
        }
        None
    }
}

/// Makes both ends.
pub(super) fn pair() -> io::Result<(Listener, Reporter)> {
    let (a, b) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((Listener(a), Reporter(b)))
}

impl Listener {
    /// The end of a connection to a child that waits to be started.
    pub(super) fn of_connection(socket: OwnedFd) -> Listener {
        Listener(socket)
    }

    /// Blocks for what the child says next.
    pub(super) fn next(&self) -> io::Result<Event> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, mut fds) = receive(self.0.as_fd(), &mut buffer)?;
        if length == 0 {
            return Ok(Event::End);
        }
        Ok(
            match postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)? {
                Message::Console => Event::Console(fds.pop().ok_or(io::ErrorKind::InvalidData)?),
                Message::Prepared => Event::Prepared,
                Message::Created => Event::Created,
                Message::Executing => Event::Executing,
                Message::Failed(error) => Event::Failed(error),
            },
        )
    }

    /// The same, but not past a moment.
    pub(super) fn next_before(&self, deadline: Instant) -> io::Result<Event> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return self.next(),
            }
        }
    }

    /// Blocks until the child's end is closed.
    pub(super) fn listen(&self) -> io::Result<Outcome> {
        let mut heard = Heard::default();
        loop {
            if let Some(outcome) = heard.take(self.next()?) {
                return Ok(outcome);
            }
        }
    }

    /// Lets the child past [`Reporter::wait_to_go_on`], with its pid as seen from here. One that has given up already
    /// is heard by `listen`.
    pub(super) fn go_on(&self, pid: i32, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let (now, later) = fds.split_at(fds.len().min(MAX_FDS));
        let mut bytes = pid.to_le_bytes().to_vec();
        bytes.push(u8::from(!later.is_empty()));
        match send(self.0.as_fd(), &bytes, now) {
            Err(e) if is_gone(&e) => Ok(()),
            Ok(()) if !later.is_empty() => self.go_on(pid, later),
            sent => sent,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_gone(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            // Reset is told once, ahead of what is still to be read, when the other end closed without reading all.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            received => break received?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}

impl Reporter {
    /// The end that somebody else connected to.
    pub(super) fn of_connection(socket: OwnedFd) -> Reporter {
        Reporter(socket)
    }

    fn say(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        send(self.0.as_fd(), &bytes, fds)
    }

    /// Hands over the terminal's master side.
    pub(super) fn send_console(&self, master: BorrowedFd<'_>) -> io::Result<()> {
        self.say(&Message::Console, &[master])
    }

    /// Blocks until the parent says so; this process's pid as the parent sees it, and descriptors. A parent that is
    /// gone ends the launch.
    pub(super) fn wait_to_go_on(&self) -> io::Result<(i32, Vec<OwnedFd>)> {
        let mut fds = Vec::new();
        loop {
            let mut message = [0; 5];
            let (length, more) = receive(self.0.as_fd(), &mut message)?;
            fds.extend(more);
            let [a, b, c, d, has_more] = message;
            match (length, has_more) {
                (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                (5, 1) => {}
                _ => return Ok((i32::from_le_bytes([a, b, c, d]), fds)),
            }
        }
    }

    /// Announces that the root is ready to be entered.
    pub(super) fn send_prepared(&self) -> io::Result<()> {
        self.say(&Message::Prepared, &[])
    }

    /// Announces that it waits to be started.
    pub(super) fn send_created(&self) -> io::Result<()> {
        self.say(&Message::Created, &[])
    }

    /// Announces `execve`.
    pub(super) fn send_executing(&self) -> io::Result<()> {
        self.say(&Message::Executing, &[])
    }

    /// Reports why setup ended. A parent that is gone cannot be told.
    pub(super) fn send_failure(&self, mut error: LaunchError) {
        let mut end = error.message.len().min(MAX_MESSAGE - 64);
        while !error.message.is_char_boundary(end) {
            end -= 1;
        }
        error.message.truncate(end);
        let _ = self.say(&Message::Failed(error), &[]);
    }

    /// The descriptor that must stay open.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::LaunchErrorKind;

    #[test]
    fn end_of_file_means_executed_once_announced() {
        let (listener, reporter) = pair().expect("socket pair");
        drop(reporter);
        assert!(matches!(
            listener.listen().expect("readable"),
            Outcome::Died
        ));
        let (listener, reporter) = pair().expect("socket pair");
        listener.go_on(7, &[]).expect("sent");
        assert_eq!(reporter.wait_to_go_on().expect("received").0, 7);
        reporter.send_executing().expect("sent");
        drop(reporter);
        let outcome = listener.listen().expect("readable");
        assert!(matches!(outcome, Outcome::Executed { console: None }));
    }

    #[test]
    fn a_child_that_gave_up_before_it_was_told_to_go_on_is_heard() {
        let (listener, reporter) = pair().expect("socket pair");
        listener.go_on(7, &[]).expect("sent");
        reporter.send_failure(LaunchError::setup("why"));
        drop(reporter);
        listener
            .go_on(7, &[])
            .expect("nobody listens, which is fine");
        let Outcome::Failed(error) = listener.listen().expect("readable") else {
            panic!("not failed")
        };
        assert_eq!(error.message, "why");
    }

    #[test]
    fn a_parent_that_is_gone_ends_the_launch() {
        let (listener, reporter) = pair().expect("socket pair");
        drop(listener);
        assert!(reporter.wait_to_go_on().is_err());
    }

    #[test]
    fn a_silent_child_is_not_waited_for_for_ever() {
        let (listener, reporter) = pair().expect("socket pair");
        let error = listener.next_before(Instant::now()).expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        reporter.send_executing().expect("sent");
        let soon = Instant::now() + std::time::Duration::from_secs(10);
        assert!(matches!(
            listener.next_before(soon).expect("readable"),
            Event::Executing
        ));
    }

    #[test]
    fn more_descriptors_than_fit_one_message_arrive() {
        let (listener, reporter) = pair().expect("socket pair");
        let null = std::fs::File::open("/dev/null").expect("exists");
        let fds = vec![null.as_fd(); MAX_FDS + 1];
        listener.go_on(1, &fds).expect("sent");
        let (pid, fds) = reporter.wait_to_go_on().expect("received");
        assert_eq!((pid, fds.len()), (1, MAX_FDS + 1));
    }

    #[test]
    fn failure_and_descriptor_arrive() {
        let (listener, reporter) = pair().expect("socket pair");
        let null = std::fs::File::open("/dev/null").expect("exists");
        reporter.send_console(null.as_fd()).expect("sent");
        reporter.send_failure(LaunchError {
            kind: LaunchErrorKind::NotFound,
            message: "é".repeat(MAX_MESSAGE),
        });
        drop(reporter);
        let Outcome::Failed(error) = listener.listen().expect("readable") else {
            panic!("not failed")
        };
        assert_eq!(error.kind, LaunchErrorKind::NotFound);
        assert!(error.message.len() > MAX_MESSAGE / 2);
    }
}
