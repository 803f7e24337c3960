//! Terminals: to the caller's socket, or between the caller's terminal and the container's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use wharf_sys::fdpass;

/// Connects to the socket that takes the terminal.
pub fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Hands over a terminal's master side, with a name for it as runc does.
pub fn send(socket: &OwnedFd, master: &OwnedFd) -> io::Result<()> {
    fdpass::send(socket, b"/dev/ptmx", &[master.as_fd()])
}
