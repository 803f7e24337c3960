//! Datagrams with the address of this host that they came to, for answers from there: `IP_PKTINFO` (ip(7)), `IPV6_PKTINFO`
//! (ipv6(7), RFC 3542).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A datagram that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes of it in the buffer.
    pub length: usize,
    /// Who sent it.
    pub sender: SocketAddr,
    /// Where it came to; none where the kernel does not say.
    pub local: Option<Local>,
}

/// An address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// Index of the interface that a link-local address belongs to, else 0: routes decide.
    pub interface: u32,
}

/// Room for one control message of either family, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Has the kernel say with each datagram where it came to. `is_v6`: the family of `socket`.
pub fn enable(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let (level, option) = match is_v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a `c_int`, which `on` is and whose size is passed; `socket` is borrowed, so open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_socklen::<libc::c_int>(),
        )
    };
    check(result as isize).map(drop)
}

/// Receives one datagram; what does not fit into `buffer` is lost. Never waits.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    // SAFETY: all-zero bytes are a valid value of this plain C struct.
    let mut name: libc::sockaddr_storage = unsafe { zeroed() };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of_socklen::<libc::sockaddr_storage>();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: every pointer in `message` is to a local or to `buffer`, which all outlive the call, with their true lengths.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = check(received)?;
    let sender = address_of(&name).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Datagram {
        length,
        sender,
        local: local_of(&message),
    })
}

/// Sends one datagram to `receiver`, from `local` where it is known. Never waits.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    receiver: SocketAddr,
    local: Option<Local>,
) -> io::Result<()> {
    let (mut name, length) = name_of(receiver);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero bytes are a valid value of this plain C struct.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(local) = local {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        set_local(&mut message, local);
    }
    // SAFETY: every pointer in `message` is to a local or to `bytes`, which all outlive the call, with their true lengths; the
    // kernel only reads.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    check(sent).map(drop)
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("families are small numbers")
}

fn size_of_socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("C structs of addresses are small")
}

fn address_of(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a `sockaddr_in`, and the storage is larger and aligned for it.
            let name = unsafe { *(&raw const *name).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: likewise a `sockaddr_in6`.
            let name = unsafe { *(&raw const *name).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(address, port, name.sin6_flowinfo, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn name_of(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid value of this plain C struct.
    let mut name: libc::sockaddr_storage = unsafe { zeroed() };
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: the storage is larger than any address and aligned for all.
            let inner = unsafe { &mut *(&raw mut name).cast::<libc::sockaddr_in>() };
            inner.sin_family = family(libc::AF_INET);
            inner.sin_port = address.port().to_be();
            inner.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            (name, size_of_socklen::<libc::sockaddr_in>())
        }
        SocketAddr::V6(address) => {
            // SAFETY: likewise.
            let inner = unsafe { &mut *(&raw mut name).cast::<libc::sockaddr_in6>() };
            inner.sin6_family = family(libc::AF_INET6);
            inner.sin6_port = address.port().to_be();
            inner.sin6_addr.s6_addr = address.ip().octets();
            inner.sin6_scope_id = address.scope_id();
            (name, size_of_socklen::<libc::sockaddr_in6>())
        }
    }
}

fn local_of(message: &libc::msghdr) -> Option<Local> {
    // SAFETY: `message` was filled by the kernel, its control buffer is alive and as long as it says.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a whole header within the control buffer.
        let kind = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(header) };
        match kind {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel puts an `in_pktinfo` behind a header of this kind; its alignment is not relied on.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Local {
                    address: Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into(),
                    interface: 0,
                });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: likewise an `in6_pktinfo`.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let is_link_local = address.is_unicast_link_local();
                return Some(Local {
                    address: address.into(),
                    interface: if is_link_local { info.ipi6_ifindex } else { 0 },
                });
            }
            _ => {}
        }
        // SAFETY: `header` is one of this message's.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// Writes the one control message, and how long it is.
fn set_local(message: &mut libc::msghdr, local: Local) {
    match local.address {
        IpAddr::V4(address) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(address) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ipi6_ifindex: local.interface,
            };
            write_control(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn write_control<T>(message: &mut libc::msghdr, level: i32, kind: i32, info: T) {
    const { assert!(size_of::<T>() + size_of::<libc::cmsghdr>() <= size_of::<Control>()) };
    let length = u32::try_from(size_of::<T>()).expect("a small struct");
    // SAFETY: the caller points `msg_control` to a `Control`, in which a header and `T` have room (asserted above).
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(length) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(info);
        message.msg_controllen = libc::CMSG_SPACE(length) as _;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn answers_come_from_the_address_that_was_asked() {
        for (any, asked, is_v6) in [("0.0.0.0:0", "127.0.0.7", false), ("[::]:0", "::1", true)] {
            let Ok(server) = UdpSocket::bind(any) else {
                assert!(is_v6, "IPv4 is there");
                continue;
            };
            enable(server.as_fd(), is_v6).expect("set the option");
            let asked: IpAddr = asked.parse().expect("an address");
            let asked = SocketAddr::new(asked, server.local_addr().expect("a port").port());
            let client = UdpSocket::bind(any).expect("bind");
            let limit = Some(Duration::from_secs(10));
            client.set_read_timeout(limit).expect("a deadline");
            client.send_to(b"question", asked).expect("send");
            let mut buffer = [0; 64];
            // Loopback: it is there when sending is done.
            let datagram = receive(server.as_fd(), &mut buffer).expect("receive");
            assert_eq!(&buffer[..datagram.length], b"question");
            assert_eq!(datagram.local.map(|local| local.address), Some(asked.ip()));
            send(server.as_fd(), b"answer", datagram.sender, datagram.local).expect("send");
            let (length, from) = client.recv_from(&mut buffer).expect("receive");
            assert_eq!((&buffer[..length], from), (&b"answer"[..], asked));
        }
    }
}
