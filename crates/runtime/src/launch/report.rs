//! What the child and the launching process tell each other, over one close-on-exec socket pair.
//!
//! ```text
//! parent → child   one byte                the control group is there: go on (init only)
//! child → parent   Console + descriptor    at most once, with a terminal
//! child → parent   Executing               all that can fail in a way of its own is done
//! child → parent   Failed(error)           last, instead of execve
//! child → parent   (end of file)           after Executing: execve succeeded; before: the child was killed
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use super::LaunchError;

/// Error texts are cut to fit one message.
const MAX_MESSAGE: usize = 16 * 1024;

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Console,
    Executing,
    Failed(LaunchError),
}

/// The parent's end.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(super) struct Reporter(OwnedFd);

/// How the child's setup ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is the user's program now.
    Executed {
        /// Master side of its terminal.
        console: Option<OwnedFd>,
    },
    /// It was killed before it got there.
    Died,
    /// It gave up.
    Failed(LaunchError),
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
    /// Blocks until the child's end is closed.
    pub(super) fn listen(&self) -> io::Result<Outcome> {
        let mut console = None;
        let mut outcome = None;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let (length, fd) = receive(self.0.as_fd(), &mut buffer)?;
            if length == 0 {
                break;
            }
            match postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)? {
                Message::Console => console = fd,
                Message::Executing => outcome = Some(None),
                Message::Failed(error) => outcome = Some(Some(error)),
            }
        }
        Ok(match outcome {
            None => Outcome::Died,
            Some(None) => Outcome::Executed { console },
            Some(Some(error)) => Outcome::Failed(error),
        })
    }

    /// Lets the child past [`Reporter::wait_to_go_on`]. One that has given up already is heard by `listen`.
    pub(super) fn go_on(&self) -> io::Result<()> {
        match rustix::net::send(&self.0, &[1], SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(()),
            sent => Ok(sent.map(drop)?),
        }
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
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
    let mut fd = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    Ok((received.bytes, fd))
}

impl Reporter {
    /// Hands over the terminal's master side.
    pub(super) fn send_console(&self, master: BorrowedFd<'_>) -> io::Result<()> {
        let fds = [master];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let bytes = postcard::to_stdvec(&Message::Console).map_err(io::Error::other)?;
        sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::empty(),
        )?;
        Ok(())
    }

    /// Blocks until the parent says so. A parent that is gone ends the launch.
    pub(super) fn wait_to_go_on(&self) -> io::Result<()> {
        let mut byte = [0];
        match receive(self.0.as_fd(), &mut byte)? {
            (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Announces `execve`.
    pub(super) fn send_executing(&self) -> io::Result<()> {
        let bytes = postcard::to_stdvec(&Message::Executing).map_err(io::Error::other)?;
        rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Reports why setup ended. A parent that is gone cannot be told.
    pub(super) fn send_failure(&self, mut error: LaunchError) {
        let mut end = error.message.len().min(MAX_MESSAGE - 64);
        while !error.message.is_char_boundary(end) {
            end -= 1;
        }
        error.message.truncate(end);
        if let Ok(bytes) = postcard::to_stdvec(&Message::Failed(error)) {
            let _ = rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL);
        }
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
        listener.go_on().expect("sent");
        reporter.wait_to_go_on().expect("received");
        reporter.send_executing().expect("sent");
        drop(reporter);
        let outcome = listener.listen().expect("readable");
        assert!(matches!(outcome, Outcome::Executed { console: None }));
    }

    #[test]
    fn a_child_that_gave_up_before_it_was_told_to_go_on_is_heard() {
        let (listener, reporter) = pair().expect("socket pair");
        listener.go_on().expect("sent");
        reporter.send_failure(LaunchError::setup("why"));
        drop(reporter);
        listener.go_on().expect("nobody listens, which is fine");
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
