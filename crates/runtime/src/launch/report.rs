//! What the child tells the launching process, over one close-on-exec socket pair.
//!
//! ```text
//! child → parent   Console + descriptor    at most once, with a terminal
//! child → parent   Failed(error)           last, instead of execve
//! child → parent   (end of file)           execve succeeded
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
        let mut failed = None;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let (length, fd) = receive(self.0.as_fd(), &mut buffer)?;
            if length == 0 {
                break;
            }
            match postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)? {
                Message::Console => console = fd,
                Message::Failed(error) => failed = Some(error),
            }
        }
        Ok(failed.map_or(Outcome::Executed { console }, Outcome::Failed))
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
            Err(rustix::io::Errno::INTR) => {}
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
    fn end_of_file_means_executed() {
        let (listener, reporter) = pair().expect("socket pair");
        drop(reporter);
        assert!(matches!(
            listener.listen().expect("readable"),
            Outcome::Executed { console: None }
        ));
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
