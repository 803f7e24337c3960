//! The socket that holds a published port.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::record::Protocol;

/// As many as the system allows.
const BACKLOG: i32 = i32::MAX;

/// Binds a port. `userland`: what comes to it will be served. `None`: the kernel has no such protocol, so nobody can take the port
/// either.
pub(super) fn open(
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    userland: bool,
) -> io::Result<Option<OwnedFd>> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, rustix::net::ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, rustix::net::ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, rustix::net::ipproto::SCTP),
    };
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(family, kind, flags, Some(number)) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if family == AddressFamily::INET6 {
        // The other family's port is a port of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    let serves = userland && protocol == Protocol::Tcp;
    if serves {
        // Connections of an earlier container may not have died away. Together with listening it lets nobody else in.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    if serves {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(Some(socket))
}

/// Whether programs on this host can listen on IPv6 addresses.
pub(crate) fn host_has_ipv6() -> bool {
    open(Protocol::Udp, Ipv6Addr::LOCALHOST.into(), 0, false).is_ok_and(|socket| socket.is_some())
}
