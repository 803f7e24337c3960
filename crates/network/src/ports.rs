//! Ports of the host that containers publish: who has which, and a socket on each so that no other program takes it.
//!
//! The sockets only reserve; packets are translated by the firewall before any socket sees them. They die with the daemon, while
//! translation goes on; the next daemon takes them again.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::NetworkError;
use crate::record::{PortMapping, PortRequest, Protocol};

/// Ports for "any", where the host does not say: the range that IANA leaves free.
const ANY_DEFAULT: (u16, u16) = (49153, 65535);

/// The published ports of the host.
#[derive(Debug)]
pub(crate) struct Ports {
    taken: HashMap<(Protocol, u16), Vec<Taken>>,
    any: (u16, u16),
    /// The search for "any" goes on here, so that a port just given back rests.
    next_any: u16,
}

/// One address on which a port is taken. `0.0.0.0` is all of them.
#[derive(Debug)]
struct Taken {
    address: Ipv4Addr,
    /// None where the kernel lacks the protocol, or somebody else has it since.
    _reservation: Option<OwnedFd>,
}

impl Ports {
    /// No port taken; "any" is what `net.ipv4.ip_local_port_range` says.
    pub(crate) fn new() -> Ports {
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let any = parse_range(&text).unwrap_or(ANY_DEFAULT);
        Ports {
            taken: HashMap::new(),
            any,
            next_any: any.0,
        }
    }

    /// Takes the first free port that `request` allows. `default_address`: where it names no address.
    pub(crate) fn take(
        &mut self,
        request: &PortRequest,
        default_address: Ipv4Addr,
    ) -> Result<PortMapping, NetworkError> {
        let address = match request.host_address {
            None => default_address,
            Some(IpAddr::V4(address)) => address,
            Some(IpAddr::V6(address)) => {
                return Err(NetworkError::NotImplemented(format!(
                    "publishing ports on the IPv6 address {address}"
                )));
            }
        };
        let mut refusal = None;
        for port in self.candidates(request) {
            match self.reserve(request.protocol, address, port) {
                Ok(()) => {
                    return Ok(PortMapping {
                        protocol: request.protocol,
                        container_port: request.container_port,
                        host_address: address.into(),
                        host_port: port,
                    });
                }
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| NetworkError::Invalid("empty range of host ports".into())))
    }

    /// Takes the port of a container that lives from before.
    pub(crate) fn adopt(&mut self, mapping: &PortMapping) -> Result<(), NetworkError> {
        let IpAddr::V4(address) = mapping.host_address else {
            return Ok(());
        };
        match self.reserve(mapping.protocol, address, mapping.host_port) {
            // Translation is in force whoever has the socket.
            Err(NetworkError::PortInUse(..)) => {
                self.note(mapping.protocol, mapping.host_port, address, None);
                Ok(())
            }
            other => other,
        }
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, mapping: &PortMapping) {
        let key = (mapping.protocol, mapping.host_port);
        let Some(takers) = self.taken.get_mut(&key) else {
            return;
        };
        if let Some(position) = takers
            .iter()
            .position(|taken| IpAddr::V4(taken.address) == mapping.host_address)
        {
            takers.swap_remove(position);
        }
        if takers.is_empty() {
            self.taken.remove(&key);
        }
    }

    fn candidates(&mut self, request: &PortRequest) -> Vec<u16> {
        if request.host_port != 0 {
            return (request.host_port..=request.host_port_end.max(request.host_port)).collect();
        }
        let (first, last) = self.any;
        let start = self.next_any.clamp(first, last);
        let free = |port: &u16| !self.taken.contains_key(&(request.protocol, *port));
        let order: Vec<u16> = (start..=last).chain(first..start).filter(free).collect();
        self.next_any = order
            .first()
            .map_or(first, |port| if *port == last { first } else { port + 1 });
        order
    }

    fn reserve(
        &mut self,
        protocol: Protocol,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<(), NetworkError> {
        let clashes = |taken: &Taken| {
            taken.address == address || taken.address.is_unspecified() || address.is_unspecified()
        };
        if self
            .taken
            .get(&(protocol, port))
            .is_some_and(|takers| takers.iter().any(clashes))
        {
            return Err(NetworkError::PortAllocated(format!("{address}:{port}")));
        }
        let reservation = bind(protocol, SocketAddrV4::new(address, port))?;
        self.note(protocol, port, address, reservation);
        Ok(())
    }

    fn note(
        &mut self,
        protocol: Protocol,
        port: u16,
        address: Ipv4Addr,
        reservation: Option<OwnedFd>,
    ) {
        let taken = Taken {
            address,
            _reservation: reservation,
        };
        self.taken.entry((protocol, port)).or_default().push(taken);
    }
}

/// A bound socket that never listens. `None`: the kernel has no such protocol, so nobody can take the port either.
fn bind(protocol: Protocol, address: SocketAddrV4) -> Result<Option<OwnedFd>, NetworkError> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, rustix::net::ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, rustix::net::ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, rustix::net::ipproto::SCTP),
    };
    let socket = match rustix::net::socket_with(
        AddressFamily::INET,
        kind,
        SocketFlags::CLOEXEC,
        Some(number),
    ) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => return Ok(None),
        Err(errno) => {
            return Err(NetworkError::io(
                format!("open a {} socket", protocol.name()),
                errno.into(),
            ));
        }
    };
    match rustix::net::bind(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::ADDRINUSE) => Err(NetworkError::PortInUse(
            address.to_string(),
            protocol.name(),
        )),
        Err(errno) => {
            let what = format!("failed to bind host port {address}/{}", protocol.name());
            Err(NetworkError::io(what, errno.into()))
        }
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (0 < first && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: Option<[u8; 4]>, first: u16, last: u16) -> PortRequest {
        PortRequest {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_address: host.map(IpAddr::from),
            host_port: first,
            host_port_end: last,
        }
    }

    /// A port that was free a moment ago, above the range of "any" so that parallel tests do not take it.
    fn free_port() -> u16 {
        use std::sync::atomic::{AtomicU16, Ordering};
        static NEXT: AtomicU16 = AtomicU16::new(61_100);
        loop {
            let port = NEXT.fetch_add(3, Ordering::Relaxed);
            if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
                return port;
            }
        }
    }

    fn take(ports: &mut Ports, request: &PortRequest) -> Result<u16, String> {
        let taken = ports.take(request, Ipv4Addr::UNSPECIFIED);
        taken
            .map(|mapping| mapping.host_port)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_taken_port_is_refused_until_given_back() {
        let mut ports = Ports::new();
        let port = free_port();
        assert_eq!(take(&mut ports, &request(None, port, port)), Ok(port));
        let refused = format!("Bind for 127.0.0.1:{port} failed: port is already allocated");
        assert_eq!(
            take(&mut ports, &request(Some([127, 0, 0, 1]), port, port)),
            Err(refused)
        );
        let mapping = PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_address: Ipv4Addr::UNSPECIFIED.into(),
            host_port: port,
        };
        ports.release(&mapping);
        assert_eq!(
            take(&mut ports, &request(Some([127, 0, 0, 1]), port, port)),
            Ok(port)
        );
        assert_eq!(
            take(&mut ports, &request(Some([127, 0, 0, 2]), port, port)),
            Ok(port)
        );
    }

    #[test]
    fn ports_of_other_programs_are_respected() {
        let port = free_port();
        let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let mut ports = Ports::new();
        let refused =
            format!("failed to bind host port 0.0.0.0:{port}/tcp: address already in use");
        assert_eq!(take(&mut ports, &request(None, port, port)), Err(refused));
        assert_eq!(
            take(&mut ports, &request(None, port, port + 1)),
            Ok(port + 1)
        );
    }

    #[test]
    fn any_port_comes_from_the_hosts_range_and_rests_after_use() {
        let mut ports = Ports::new();
        let first = take(&mut ports, &request(None, 0, 0)).unwrap();
        let second = take(&mut ports, &request(None, 0, 0)).unwrap();
        assert!((ports.any.0..=ports.any.1).contains(&first) && first < second);
    }

    #[test]
    fn range_of_any_is_read() {
        for (text, expected) in [
            ("32768\t60999\n", Some((32768, 60999))),
            ("", None),
            ("9 3", None),
            ("0 9", None),
            ("x 9", None),
        ] {
            assert_eq!(parse_range(text), expected, "{text}");
        }
    }
}
