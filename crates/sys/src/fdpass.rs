//! Passing file descriptors over unix sockets, peer credentials.
//!
//! Everything here works on `SOCK_SEQPACKET` sockets: one call, one message, boundaries kept, end of file reads as an
//! empty message.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair,
};

/// Most descriptors in one message. The kernel's limit is 253 (`SCM_MAX_FD`, unix(7)).
pub const MAX_FDS: usize = 128;

/// One received message.
#[derive(Debug)]
pub struct Received {
    /// The message; empty when the peer is gone.
    pub bytes: Vec<u8>,
    /// Descriptors that came along, in the order they were sent, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// A connected pair of message sockets, close-on-exec, blocking.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message. Never raises `SIGPIPE`; blocks or not as the socket is set.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors for one message",
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent < bytes.len() {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "message cut short",
        ));
    }
    Ok(())
}

/// Receives one message. Its size is asked for first, so that memory is taken for what came and not for what may come.
pub fn receive(socket: impl AsFd) -> io::Result<Received> {
    let (_, len) = recv(&socket, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::TRUNC)?;
    let mut bytes = vec![0; len];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if message
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        || message.bytes != len
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message cut short",
        ));
    }
    Ok(Received { bytes, fds })
}

/// All groups of the process that connected a unix socket, as they were then (`SO_PEERGROUPS`, Linux 4.13).
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    // More than `NGROUPS_MAX` (65536) there cannot be; most have a few.
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let size = std::mem::size_of_val(groups.as_slice());
        let mut len = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
        // SAFETY: `groups` is writable for `len` bytes, which the kernel does not exceed and sets to what it wrote or needs.
        let rc = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<libc::gid_t>();
        let error = io::Error::last_os_error();
        match rc {
            0 => {
                groups.truncate(count);
                return Ok(groups);
            }
            _ if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0);
            }
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn message_keeps_boundaries_and_descriptors() {
        let (a, b) = seqpacket_pair().expect("socketpair");
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        send(&a, b"first", &[writer.as_fd()]).expect("send");
        send(&a, b"second", &[]).expect("send");
        drop((a, writer));

        let first = receive(&b).expect("receive");
        assert_eq!(
            (first.bytes.as_slice(), first.fds.len()),
            (&b"first"[..], 1)
        );
        for fd in first.fds {
            File::from(fd).write_all(b"through").expect("write");
        }
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");

        let second = receive(&b).expect("receive");
        assert_eq!(
            (second.bytes.as_slice(), second.fds.len()),
            (&b"second"[..], 0)
        );
        assert!(receive(&b).expect("end").bytes.is_empty());
    }
}
