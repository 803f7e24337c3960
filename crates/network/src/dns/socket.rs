//! The daemon's part of a container's DNS: two sockets inside its network namespace, and the rules that lead port 53 to them.
//!
//! The sockets take any free port of `127.0.0.11`, so that a name server in the container may have port 53 on all addresses, as with
//! Docker. They are made before the container's process is, so it never sees a moment without.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::redirect;
use crate::error::{NetworkError, Step};

/// Where containers ask.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Port that resolvers know.
pub(crate) const PORT: u16 = 53;

/// The sockets of one container: bound, the second listening.
#[derive(Debug)]
pub struct ResolverSockets {
    pub(crate) udp: OwnedFd,
    pub(crate) tcp: OwnedFd,
}

impl ResolverSockets {
    /// Makes both inside `namespace`, whose loopback must be up. Blocking, some hundred microseconds.
    pub fn open(namespace: BorrowedFd<'_>) -> Result<ResolverSockets, NetworkError> {
        // A namespace belongs to a thread; this one is not used again.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                wharf_sys::netns::enter(namespace)
                    .step(|| "enter the container's network namespace".into())?;
                ResolverSockets::open_here()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn open_here() -> Result<ResolverSockets, NetworkError> {
        let step = || format!("open the name server's sockets on {ADDRESS}");
        let (sockets, ports) = bind(0).step(step)?;
        match redirect::install(ports) {
            Ok(()) => Ok(sockets),
            Err(error) => {
                // Without address translation in the kernel the port itself will do.
                tracing::debug!(%error, "name server without redirection");
                Ok(bind(PORT).step(step)?.0)
            }
        }
    }
}

/// Both sockets with their ports.
fn bind(port: u16) -> io::Result<(ResolverSockets, redirect::Ports)> {
    let address = SocketAddrV4::new(ADDRESS, port);
    let udp = UdpSocket::bind(address)?;
    let tcp = listen(address)?;
    let ports = redirect::Ports {
        udp: udp.local_addr()?.port(),
        tcp: tcp.local_addr()?.port(),
    };
    udp.set_nonblocking(true)?;
    let (udp, tcp) = (OwnedFd::from(udp), OwnedFd::from(tcp));
    Ok((ResolverSockets { udp, tcp }, ports))
}

/// Like the standard library's, but non-blocking from the start.
fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::V4(address))?;
    rustix::net::listen(socket.as_fd(), 64)?;
    Ok(TcpListener::from(socket))
}
