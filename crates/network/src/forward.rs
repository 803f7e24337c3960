//! Published ports that address translation does not reach: from the host's IPv6 to a container that has only IPv4, from the host's
//! own `::1`, and everything where the firewall is left alone. What comes to the socket is carried to the container in userland.
//!
//! The sockets of ports that are translated are kept here all the same: they hold the port against other programs.

mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use tokio::task::AbortHandle;

use crate::netd::protocol::ForwardedPort;
use crate::record::Protocol;

/// One port at work.
#[derive(Debug)]
pub(crate) struct Forwarding {
    port: ForwardedPort,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// Nothing is served.
    Kept(OwnedFd),
    Tcp(Rc<tokio::net::TcpListener>, AbortHandle),
    Udp(Rc<tokio::net::UdpSocket>, AbortHandle),
}

impl Forwarding {
    /// Begins to serve `port` on `socket`, which is bound, listening if it is TCP, and non-blocking.
    pub(crate) fn start(port: ForwardedPort, socket: OwnedFd) -> io::Result<Forwarding> {
        let target = SocketAddr::new(port.address, port.port);
        let work = match port.protocol {
            Protocol::Tcp if port.serve => {
                let listener = Rc::new(tokio::net::TcpListener::from_std(socket.into())?);
                let task = tokio::task::spawn_local(tcp::serve(Rc::clone(&listener), target));
                Work::Tcp(listener, task.abort_handle())
            }
            Protocol::Udp if port.serve => {
                let socket = Rc::new(tokio::net::UdpSocket::from_std(socket.into())?);
                let task = tokio::task::spawn_local(udp::serve(Rc::clone(&socket), target));
                Work::Udp(socket, task.abort_handle())
            }
            _ => Work::Kept(socket),
        };
        Ok(Forwarding { port, work })
    }

    /// What it serves.
    pub(crate) fn port(&self) -> &ForwardedPort {
        &self.port
    }

    /// Its socket, to be handed on.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        match &self.work {
            Work::Kept(socket) => socket.as_fd(),
            Work::Tcp(listener, _) => listener.as_fd(),
            Work::Udp(socket, _) => socket.as_fd(),
        }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        match &self.work {
            Work::Kept(_) => {}
            Work::Tcp(_, task) | Work::Udp(_, task) => task.abort(),
        }
    }
}
