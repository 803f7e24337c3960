//! How much of what was written to a socket is still on its way.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::outcome::check;

/// Bytes the other end of a Unix stream socket has not read yet, with the kernel's overhead: only 0 is exact.
/// (On TCP it is what the other host has not acknowledged, which says nothing about its program.)
pub fn unread_by_peer(socket: impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed and so open; SIOCOUTQ (= TIOCOUTQ, unix(7)) writes one int, which `bytes` is.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    check(result)?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn queue_is_empty_once_the_peer_has_read() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("pair");
        assert_eq!(unread_by_peer(&ours).expect("a socket"), 0);
        ours.write_all(b"head").expect("room");
        assert!(unread_by_peer(&ours).expect("a socket") > 0);
        theirs.read_exact(&mut [0; 4]).expect("written");
        assert_eq!(unread_by_peer(&ours).expect("a socket"), 0);
    }
}
