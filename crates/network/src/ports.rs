//! Ports of the host that containers publish: who has which, and a socket on each so that no other program takes it.
//!
//! Packets are translated by the firewall before any socket sees them; what translation does not reach comes to the socket and is
//! carried by netd, which also holds the sockets while no daemon runs.

mod holder;
mod socket;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::error::NetworkError;
use crate::netd::protocol::ForwardedPort;
use crate::record::{NetworkConfig, PortMapping, PortRequest, Protocol};

/// Ports for "any", where the host does not say: the range that IANA leaves free.
const ANY_DEFAULT: (u16, u16) = (49153, 65535);

/// The published ports of the host.
#[derive(Debug)]
pub(crate) struct Ports {
    taken: HashMap<(Protocol, u16), Vec<Taken>>,
    any: (u16, u16),
    /// Ports that the administrator keeps out of automatic choice.
    reserved: Vec<(u16, u16)>,
    /// The search for "any" goes on here, so that a port just given back rests.
    next_any: u16,
}

/// One address on which a port is taken. An unspecified one is all of its family.
#[derive(Debug)]
struct Taken {
    address: IpAddr,
    /// None where the kernel lacks the protocol, or somebody else has it since.
    socket: Option<Arc<OwnedFd>>,
}

/// How a container is reached from the host's addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Container's address.
    pub(crate) v4: Option<Ipv4Addr>,
    /// Container's address.
    pub(crate) v6: Option<Ipv6Addr>,
    /// Its IPv4 address is reached as it is: nothing of the host's is taken.
    pub(crate) routed4: bool,
    /// Likewise.
    pub(crate) routed6: bool,
    /// What translation does not reach is carried in userland.
    pub(crate) userland: bool,
    /// Where ports are published that name no address of the host; none is all of both families.
    pub(crate) default_address: Option<IpAddr>,
    /// Whether the host itself has IPv6.
    pub(crate) host_ipv6: bool,
}

/// How this daemon publishes ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Publishing {
    /// What translation does not reach is carried in userland.
    pub(crate) userland: bool,
    /// Whether the host itself has IPv6.
    pub(crate) host_ipv6: bool,
    /// For networks that do not say otherwise.
    pub(crate) default_address: Option<IpAddr>,
}

impl Publishing {
    /// From the daemon's settings and what the host can do.
    pub(crate) fn of(config: &NetworkConfig) -> Publishing {
        Publishing {
            userland: config.netd.is_some() && !config.no_userland_proxy,
            host_ipv6: socket::host_has_ipv6(),
            default_address: config.default_publish_address,
        }
    }
}

/// Requests that get one port of the host, on several of its addresses.
#[derive(Debug)]
struct Group {
    request: PortRequest,
    addresses: Vec<IpAddr>,
}

impl Reach {
    /// Addresses of the host that a request means, IPv4 first (moby `sortAndNormPBs`). None: there is no way to the container.
    fn addresses(&self, request: &PortRequest) -> Vec<IpAddr> {
        let wanted = request.host_address.or(self.default_address);
        let everywhere = wanted.is_none();
        let v4 = match wanted {
            _ if self.v4.is_none() => None,
            None => Some(Ipv4Addr::UNSPECIFIED),
            Some(IpAddr::V4(_)) if self.routed4 => Some(Ipv4Addr::UNSPECIFIED),
            Some(IpAddr::V4(address)) => Some(address),
            Some(IpAddr::V6(_)) => None,
        };
        let reaches_v6 = self.v6.is_some() || (self.userland && self.v4.is_some());
        let v6 = match wanted {
            _ if !reaches_v6 => None,
            None => self.host_ipv6.then_some(Ipv6Addr::UNSPECIFIED),
            Some(IpAddr::V6(_)) if self.routed6 && self.v6.is_some() => Some(Ipv6Addr::UNSPECIFIED),
            Some(IpAddr::V6(address)) => Some(address),
            Some(IpAddr::V4(address)) => {
                let both = request.host_address.is_none() && address.is_unspecified();
                (both && self.host_ipv6).then_some(Ipv6Addr::UNSPECIFIED)
            }
        };
        debug_assert!(!everywhere || v4.is_some() || v6.is_some() || self.v4.is_none());
        let v4 = v4.map(IpAddr::V4);
        v4.into_iter().chain(v6.map(IpAddr::V6)).collect()
    }

    /// Where a connection to `host_address` goes.
    pub(crate) fn target(&self, host_address: IpAddr) -> Option<IpAddr> {
        match (host_address, self.v4, self.v6) {
            (IpAddr::V6(_), _, Some(v6)) => Some(v6.into()),
            (_, Some(v4), _) => Some(v4.into()),
            _ => None,
        }
    }

    fn is_routed(&self, host_address: IpAddr) -> bool {
        match host_address {
            IpAddr::V4(_) => self.routed4,
            IpAddr::V6(_) => self.routed6 && self.v6.is_some(),
        }
    }
}

impl Ports {
    /// No port taken; "any" is what `net.ipv4.ip_local_port_range` says.
    pub(crate) fn new() -> Ports {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default()
        };
        let any = parse_range(&read("ip_local_port_range")).unwrap_or(ANY_DEFAULT);
        Ports {
            taken: HashMap::new(),
            any,
            reserved: parse_reserved(&read("ip_local_reserved_ports")),
            next_any: any.0,
        }
    }

    /// Takes a port for each request, on every address of the host it means; all, or none.
    pub(crate) fn take(
        &mut self,
        requests: &[PortRequest],
        reach: &Reach,
    ) -> Result<Vec<PortMapping>, NetworkError> {
        let mut mappings = Vec::new();
        for group in groups(requests, reach) {
            match self.take_group(&group, reach) {
                Ok(taken) => mappings.extend(taken),
                Err(error) => {
                    mappings.iter().for_each(|mapping| self.release(mapping));
                    return Err(error);
                }
            }
        }
        Ok(mappings)
    }

    /// Takes the port of a container that lives from before, with the socket that has held it meanwhile.
    pub(crate) fn adopt(
        &mut self,
        mapping: &PortMapping,
        socket: Option<Arc<OwnedFd>>,
        userland: bool,
    ) -> Result<(), NetworkError> {
        if mapping.host_port == 0 {
            return Ok(());
        }
        let (protocol, port) = (mapping.protocol, mapping.host_port);
        self.check(protocol, mapping.host_address, port)?;
        let socket = match socket {
            Some(socket) => Some(socket),
            // Translation is in force whoever has the port by now.
            None => socket::open(protocol, mapping.host_address, port, userland)
                .ok()
                .flatten()
                .map(Arc::new),
        };
        self.note(protocol, port, mapping.host_address, socket);
        Ok(())
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, mapping: &PortMapping) {
        let key = (mapping.protocol, mapping.host_port);
        let Some(takers) = self.taken.get_mut(&key) else {
            return;
        };
        if let Some(position) = takers
            .iter()
            .position(|taken| taken.address == mapping.host_address)
        {
            takers.swap_remove(position);
        }
        if takers.is_empty() {
            self.taken.remove(&key);
        }
    }

    /// The socket that holds a port.
    pub(crate) fn socket(&self, mapping: &PortMapping) -> Option<Arc<OwnedFd>> {
        let takers = self.taken.get(&(mapping.protocol, mapping.host_port))?;
        let taken = takers
            .iter()
            .find(|taken| taken.address == mapping.host_address)?;
        taken.socket.clone()
    }

    /// What netd holds of an endpoint's ports, with the sockets.
    pub(crate) fn forwards(
        &self,
        mappings: &[PortMapping],
        reach: &Reach,
    ) -> Vec<(ForwardedPort, Arc<OwnedFd>)> {
        let forward = |mapping: &PortMapping| {
            let port = ForwardedPort {
                protocol: mapping.protocol,
                host_address: mapping.host_address,
                host_port: mapping.host_port,
                address: reach.target(mapping.host_address)?,
                port: mapping.container_port,
                serve: reach.userland,
            };
            Some((port, self.socket(mapping)?))
        };
        mappings.iter().filter_map(forward).collect()
    }

    /// The first port that is free on all addresses of the group.
    fn take_group(
        &mut self,
        group: &Group,
        reach: &Reach,
    ) -> Result<Vec<PortMapping>, NetworkError> {
        let request = &group.request;
        let mapping = |address: IpAddr, host_port| PortMapping {
            protocol: request.protocol,
            container_port: request.container_port,
            host_address: address,
            host_port,
        };
        let (routed, bound): (Vec<IpAddr>, Vec<IpAddr>) = group
            .addresses
            .iter()
            .partition(|address| reach.is_routed(**address));
        let routed = routed.into_iter().map(|address| mapping(address, 0));
        if bound.is_empty() {
            return Ok(routed.collect());
        }
        let mut refusal = None;
        for port in self.candidates(request) {
            match self.take_port(request, &bound, port, reach) {
                Ok(()) => {
                    let bound = bound.iter().map(|address| mapping(*address, port));
                    return Ok(bound.chain(routed).collect());
                }
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| NetworkError::Invalid("all ports are allocated".into())))
    }

    /// One port on all addresses, or on none.
    fn take_port(
        &mut self,
        request: &PortRequest,
        addresses: &[IpAddr],
        port: u16,
        reach: &Reach,
    ) -> Result<(), NetworkError> {
        let protocol = request.protocol;
        for address in addresses {
            self.check(protocol, *address, port)?;
        }
        let mut sockets = Vec::with_capacity(addresses.len());
        for address in addresses {
            let opened = socket::open(protocol, *address, port, reach.userland);
            sockets.push(opened.map_err(|source| {
                let target = reach.target(*address);
                refused(*address, port, target, request, source)
            })?);
        }
        for (address, socket) in addresses.iter().zip(sockets) {
            self.note(protocol, port, *address, socket.map(Arc::new));
        }
        Ok(())
    }

    fn candidates(&mut self, request: &PortRequest) -> Vec<u16> {
        if request.host_port != 0 {
            return (request.host_port..=request.host_port_end.max(request.host_port)).collect();
        }
        let (first, last) = self.any;
        let start = self.next_any.clamp(first, last);
        let free = |port: &u16| {
            !self.taken.contains_key(&(request.protocol, *port))
                && !self
                    .reserved
                    .iter()
                    .any(|(first, last)| (first..=last).contains(&port))
        };
        let order: Vec<u16> = (start..=last).chain(first..start).filter(free).collect();
        self.next_any = order
            .first()
            .map_or(first, |port| if *port == last { first } else { port + 1 });
        order
    }

    /// Refuses what another container has. The text names the address that it has.
    fn check(&self, protocol: Protocol, address: IpAddr, port: u16) -> Result<(), NetworkError> {
        let clashes = |taken: &&Taken| {
            let either = taken.address.is_unspecified() || address.is_unspecified();
            taken.address == address || (either && taken.address.is_ipv4() == address.is_ipv4())
        };
        let takers = self.taken.get(&(protocol, port));
        match takers.and_then(|takers| takers.iter().find(clashes)) {
            Some(taken) => Err(NetworkError::PortAllocated {
                binding: format!("{}:{port}", taken.address),
                holder: None,
            }),
            None => Ok(()),
        }
    }

    fn note(
        &mut self,
        protocol: Protocol,
        port: u16,
        address: IpAddr,
        socket: Option<Arc<OwnedFd>>,
    ) {
        let taken = Taken { address, socket };
        self.taken.entry((protocol, port)).or_default().push(taken);
    }
}

/// Requests that differ in the host's address only are one group. Exact ports come before ranges and ranges before "any", so that no
/// choice takes what somebody names.
fn groups(requests: &[PortRequest], reach: &Reach) -> Vec<Group> {
    let mut requests: Vec<&PortRequest> = requests.iter().collect();
    let width = |request: &PortRequest| match request.host_port {
        0 => u16::MAX,
        first => request.host_port_end.saturating_sub(first),
    };
    let key = |request: &PortRequest| {
        let ports = (request.host_port, request.host_port_end);
        (
            width(request),
            ports,
            request.container_port,
            request.protocol,
        )
    };
    requests.sort_by_key(|request| key(request));
    let mut groups: Vec<Group> = Vec::new();
    for request in requests {
        let addresses = reach.addresses(request);
        match groups.last_mut() {
            Some(group)
                if key(&group.request) == key(request)
                    && !addresses.iter().any(|a| group.addresses.contains(a)) =>
            {
                group.addresses.extend(addresses);
            }
            _ => groups.push(Group {
                request: request.clone(),
                addresses,
            }),
        }
    }
    groups.retain(|group| !group.addresses.is_empty());
    groups
}

/// In the words of Docker, with the whole binding.
fn refused(
    address: IpAddr,
    port: u16,
    target: Option<IpAddr>,
    request: &PortRequest,
    source: std::io::Error,
) -> NetworkError {
    let shown = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let target = target.map_or_else(String::new, |target| {
        format!(":{}:{}", shown(target), request.container_port)
    });
    let binding = format!("{}:{port}{target}", shown(address));
    let protocol = request.protocol.name();
    match source.kind() {
        std::io::ErrorKind::AddrInUse => NetworkError::PortInUse {
            holder: holder::describe(request.protocol, port),
            binding,
            protocol,
        },
        std::io::ErrorKind::AddrNotAvailable => NetworkError::NoSuchAddress(binding, protocol),
        _ => NetworkError::io(
            format!("failed to bind host port for {binding}/{protocol}"),
            source,
        ),
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (0 < first && first <= last).then_some((first, last))
}

/// Reads `8080,9148-9150`.
fn parse_reserved(text: &str) -> Vec<(u16, u16)> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: Option<&str>, first: u16, last: u16) -> PortRequest {
        PortRequest {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_address: host.map(|host| host.parse().unwrap()),
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
            if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok()
                && std::net::TcpListener::bind(("::", port)).is_ok()
            {
                return port;
            }
        }
    }

    fn reach() -> Reach {
        Reach {
            v4: Some(Ipv4Addr::new(172, 17, 0, 2)),
            userland: true,
            host_ipv6: true,
            ..Reach::default()
        }
    }

    fn only_v4() -> Reach {
        Reach {
            userland: false,
            ..reach()
        }
    }

    fn take(ports: &mut Ports, requests: &[PortRequest]) -> Result<u16, String> {
        let taken = ports.take(requests, &only_v4());
        taken
            .map(|mappings| mappings[0].host_port)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_taken_port_is_refused_until_given_back() {
        let mut ports = Ports::new();
        let port = free_port();
        assert_eq!(take(&mut ports, &[request(None, port, port)]), Ok(port));
        let refused = format!("Bind for 0.0.0.0:{port} failed: port is already allocated");
        let on_loopback = || [request(Some("127.0.0.1"), port, port)];
        assert_eq!(take(&mut ports, &on_loopback()), Err(refused));
        let mapping = PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_address: Ipv4Addr::UNSPECIFIED.into(),
            host_port: port,
        };
        assert!(ports.socket(&mapping).is_some());
        ports.release(&mapping);
        assert_eq!(take(&mut ports, &on_loopback()), Ok(port));
        let other = [request(Some("127.0.0.2"), port, port)];
        assert_eq!(take(&mut ports, &other), Ok(port));
        let refused = format!("Bind for 127.0.0.1:{port} failed: port is already allocated");
        assert_eq!(take(&mut ports, &[request(None, port, port)]), Err(refused));
    }

    #[test]
    fn ports_of_other_programs_are_respected() {
        let port = free_port();
        let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let mut ports = Ports::new();
        let refused = format!(
            "failed to bind host port for 0.0.0.0:{port}:172.17.0.2:80/tcp: address already in use (by "
        );
        let error = take(&mut ports, &[request(None, port, port)]).unwrap_err();
        assert!(error.starts_with(&refused), "{error}");
        assert_eq!(
            take(&mut ports, &[request(None, port, port + 1)]),
            Ok(port + 1)
        );
        let elsewhere = [request(Some("192.0.2.1"), port, port)];
        let refused = format!(
            "failed to bind host port for 192.0.2.1:{port}:172.17.0.2:80/tcp: cannot assign requested address"
        );
        assert_eq!(take(&mut ports, &elsewhere), Err(refused));
    }

    #[test]
    fn all_ports_or_none_are_taken() {
        let mut ports = Ports::new();
        let (first, second) = (free_port(), free_port());
        assert!(take(&mut ports, &[request(None, second, second)]).is_ok());
        let both = [request(None, first, first), request(None, second, second)];
        assert!(take(&mut ports, &both).is_err());
        assert_eq!(take(&mut ports, &[request(None, first, first)]), Ok(first));
    }

    #[test]
    fn both_families_get_the_same_port() {
        let mut ports = Ports::new();
        let port = free_port();
        let taken = |ports: &mut Ports, request: PortRequest| {
            let mappings = ports.take(&[request], &reach()).unwrap();
            let shown = mappings
                .iter()
                .map(|m| (m.host_address.to_string(), m.host_port));
            shown.collect::<Vec<_>>()
        };
        assert_eq!(
            taken(&mut ports, request(None, port, port)),
            [("0.0.0.0".into(), port), ("::".into(), port)]
        );
        let any = taken(&mut ports, request(None, 0, 0));
        assert!(any.len() == 2 && any[0].1 == any[1].1, "{any:?}");
        // Taken on one family only: not for both.
        let port = free_port();
        let _listener = std::net::TcpListener::bind(("::1", port)).unwrap();
        let error = ports
            .take(&[request(None, port, port)], &reach())
            .unwrap_err();
        let expected = format!(
            "failed to bind host port for [::]:{port}:172.17.0.2:80/tcp: address already in use"
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(
            taken(&mut ports, request(Some("127.0.0.1"), port, port)),
            [("127.0.0.1".into(), port)]
        );
    }

    #[test]
    fn addresses_follow_from_the_request_and_the_network() {
        let dual = Reach {
            v6: Some("fd00::2".parse().unwrap()),
            ..reach()
        };
        let with_default = |reach: Reach, address: &str| Reach {
            default_address: address.parse().ok(),
            ..reach
        };
        let routed = Reach {
            routed4: true,
            ..dual
        };
        for (reach, host, expected) in [
            (reach(), None, "0.0.0.0 ::"),
            (only_v4(), None, "0.0.0.0"),
            (
                Reach {
                    host_ipv6: false,
                    ..reach()
                },
                None,
                "0.0.0.0",
            ),
            (dual, None, "0.0.0.0 ::"),
            (
                Reach {
                    userland: false,
                    ..dual
                },
                None,
                "0.0.0.0 ::",
            ),
            (dual, Some("0.0.0.0"), "0.0.0.0"),
            (dual, Some("::"), "::"),
            (reach(), Some("::1"), "::1"),
            (only_v4(), Some("::1"), ""),
            (with_default(reach(), "127.0.0.1"), None, "127.0.0.1"),
            (with_default(reach(), "0.0.0.0"), None, "0.0.0.0 ::"),
            (with_default(dual, "::"), None, "::"),
            (
                with_default(reach(), "127.0.0.1"),
                Some("0.0.0.0"),
                "0.0.0.0",
            ),
            (routed, Some("10.0.0.1"), "0.0.0.0"),
        ] {
            let addresses = reach.addresses(&request(host, 80, 80));
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(addresses.join(" "), expected, "{reach:?} {host:?}");
        }
    }

    #[test]
    fn routed_ports_take_nothing_of_the_host() {
        let mut ports = Ports::new();
        let routed = Reach {
            routed4: true,
            ..only_v4()
        };
        let mappings = ports.take(&[request(None, 80, 80)], &routed).unwrap();
        assert_eq!((mappings.len(), mappings[0].host_port), (1, 0));
        assert!(ports.taken.is_empty());
    }

    #[test]
    fn any_port_comes_from_the_hosts_range_and_rests_after_use() {
        let mut ports = Ports::new();
        let first = take(&mut ports, &[request(None, 0, 0)]).unwrap();
        let second = take(&mut ports, &[request(None, 0, 0)]).unwrap();
        assert!((ports.any.0..=ports.any.1).contains(&first) && first < second);
        ports.reserved = vec![(ports.any.0, ports.any.1)];
        assert!(take(&mut ports, &[request(None, 0, 0)]).is_err());
    }

    #[test]
    fn named_ports_come_before_chosen_ones() {
        let mut requests = vec![
            request(None, 0, 0),
            request(None, 90, 99),
            request(None, 91, 91),
        ];
        requests[0].host_address = "127.0.0.1".parse().ok();
        requests.push(request(Some("127.0.0.2"), 0, 0));
        let groups = groups(&requests, &only_v4());
        let shown: Vec<_> = groups
            .iter()
            .map(|group| (group.request.host_port, group.addresses.len()))
            .collect();
        assert_eq!(shown, [(91, 1), (90, 1), (0, 2)]);
    }

    #[test]
    fn settings_of_the_kernel_are_read() {
        for (text, expected) in [
            ("32768\t60999\n", Some((32768, 60999))),
            ("", None),
            ("9 3", None),
            ("0 9", None),
            ("x 9", None),
        ] {
            assert_eq!(parse_range(text), expected, "{text}");
        }
        assert_eq!(
            parse_reserved("8080,9148-9150\n"),
            [(8080, 8080), (9148, 9150)]
        );
        assert_eq!(parse_reserved("\n"), []);
    }
}
