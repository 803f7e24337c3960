//! Connections that the kernel tracks, where they outlive what they were translated by.
//!
//! A datagram of a known flow goes where the flow's first one went: to a container that is gone, or to the host itself, which had
//! the port before a container published it. TCP ends by itself; UDP does not as long as its client goes on
//! (moby `libnetwork/drivers/bridge: clearConntrackEntries`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_DUMP, NlaBuffer, NlasIterator};
use parking_lot::Mutex;

use crate::firewall::Attributes;
use crate::netlink::{Batch, Connection, NetlinkError};
use crate::record::{PortMapping, Protocol};

/// `NFNL_SUBSYS_CTNETLINK`, in a message's type.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

// `enum ctattr_type`, `ctattr_tuple`, `ctattr_ip`, `ctattr_l4proto`, `ctattr_filter` (linux/netfilter/nfnetlink_conntrack.h).
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_PROTO_NUM: u32 = 1 << 3;

/// `struct nfgenmsg` and the netlink header before it.
const HEADERS: usize = 16 + 4;

/// Connections that must not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Datagrams to these addresses and ports of the host; an unspecified address stands for all of its family.
    Datagrams(Vec<(IpAddr, u16)>),
    /// Everything from or to these.
    Subnets(Vec<IpNet>),
}

impl Stale {
    /// What ports that come or go make stale; none without a UDP port.
    pub(crate) fn of_ports<'a>(ports: impl Iterator<Item = &'a PortMapping>) -> Option<Stale> {
        let udp = ports.filter(|port| port.protocol == Protocol::Udp && port.host_port != 0);
        let ports: Vec<_> = udp
            .map(|port| (port.host_address, port.host_port))
            .collect();
        (!ports.is_empty()).then_some(Stale::Datagrams(ports))
    }

    fn contains(&self, flow: &Flow) -> bool {
        match self {
            Stale::Datagrams(ports) => {
                let (to, back) = (&flow.original, &flow.reply);
                // What containers ask elsewhere on such a port goes on.
                let leaves = back.source == to.destination && back.destination != to.source;
                to.protocol == Protocol::Udp.number()
                    && !leaves
                    && ports.iter().any(|(address, port)| {
                        let all = address.is_unspecified()
                            && address.is_ipv4() == to.destination.is_ipv4();
                        *port == to.port && (all || *address == to.destination)
                    })
            }
            Stale::Subnets(subnets) => subnets.iter().any(|subnet| {
                let ends = [&flow.original, &flow.reply];
                ends.iter()
                    .any(|end| subnet.contains(&end.source) || subnet.contains(&end.destination))
            }),
        }
    }

    fn families(&self) -> Vec<u8> {
        let number = |is_ipv4: bool| if is_ipv4 { IPV4 } else { IPV6 };
        let mut families: Vec<u8> = match self {
            Stale::Datagrams(ports) => ports.iter().map(|(ip, _)| number(ip.is_ipv4())).collect(),
            Stale::Subnets(nets) => nets
                .iter()
                .map(|net| number(net.addr().is_ipv4()))
                .collect(),
        };
        families.sort_unstable();
        families.dedup();
        families
    }
}

/// `NFPROTO_*`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// The connections of the namespace this was opened in.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    connection: Arc<Mutex<Connection>>,
}

impl Tracked {
    /// Fails where the kernel has no netfilter or the right to use it is missing.
    pub(crate) fn open() -> io::Result<Tracked> {
        let connection = Connection::open_netfilter()?;
        Ok(Tracked {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Ends connections, on a thread of its own: the kernel looks through its whole table, which takes milliseconds.
    pub(crate) fn forget_soon(&self, stale: Stale) {
        let tracked = self.clone();
        let started = thread::Builder::new()
            .name("conntrack".into())
            .stack_size(256 * 1024)
            .spawn(move || tracked.forget(&stale));
        if let Err(error) = started {
            tracing::warn!(%error, "flows of datagrams may go where they went before");
        }
    }

    /// Ends connections. A kernel that does not track has none.
    pub(crate) fn forget(&self, stale: &Stale) {
        let mut connection = self.connection.lock();
        for family in stale.families() {
            if let Err(error) = forget_in(&mut connection, family, stale) {
                tracing::debug!(%error, "connections are not tracked");
            }
        }
    }
}

fn forget_in(connection: &mut Connection, family: u8, stale: &Stale) -> Result<(), NetlinkError> {
    let mut found = Vec::new();
    let mut question = Batch::new();
    let body = question_body(family, stale);
    question.push_raw("list connections", GET, NLM_F_DUMP, &body);
    connection.request(&mut question, &mut |message| {
        let flow = Flow::parse(message.get(HEADERS..).unwrap_or(&[]));
        found.extend(flow.filter(|flow| stale.contains(flow)));
    })?;
    for flow in found {
        let mut batch = Batch::new();
        batch.push_raw("end a connection", DELETE, 0, &flow.deletion(family));
        // One that ended by itself meanwhile is no failure.
        if let Err(error) = connection.exchange(&mut batch) {
            tracing::debug!(%error, "a connection goes on");
        }
    }
    Ok(())
}

/// Kernels since 5.8 pick UDP out themselves; those before tell of everything.
fn question_body(family: u8, stale: &Stale) -> Vec<u8> {
    let mut attributes = Attributes::new();
    if matches!(stale, Stale::Datagrams(_)) {
        attributes.nest(CTA_TUPLE_ORIG, |tuple| {
            tuple.nest(CTA_TUPLE_PROTO, |protocol| {
                protocol.bytes(CTA_PROTO_NUM, &[Protocol::Udp.number()]);
            });
        });
        attributes.nest(CTA_FILTER, |filter| {
            filter.bytes(CTA_FILTER_ORIG_FLAGS, &FILTER_PROTO_NUM.to_ne_bytes());
        });
    }
    with_header(family, attributes)
}

fn with_header(family: u8, attributes: Attributes) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(attributes.into_bytes());
    body
}

/// One direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Destination's.
    port: u16,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    original: Tuple,
    reply: Tuple,
    /// What a deletion must name, as the kernel told it.
    named: Vec<(u16, Vec<u8>)>,
}

impl Flow {
    /// `None` for what is not a whole connection.
    fn parse(attributes: &[u8]) -> Option<Flow> {
        let (mut original, mut reply, mut named) = (None, None, Vec::new());
        for attribute in each(attributes) {
            let (kind, value) = (attribute.kind(), attribute.value());
            match kind {
                CTA_TUPLE_ORIG => original = Tuple::parse(value),
                CTA_TUPLE_REPLY => reply = Tuple::parse(value),
                _ => {}
            }
            if [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE].contains(&kind) {
                named.push((kind, value.to_vec()));
            }
        }
        Some(Flow {
            original: original?,
            reply: reply?,
            named,
        })
    }

    fn deletion(&self, family: u8) -> Vec<u8> {
        const NESTED: u16 = 0x8000;
        let mut attributes = Attributes::new();
        for (kind, value) in &self.named {
            let nested = if *kind == CTA_TUPLE_ORIG { NESTED } else { 0 };
            attributes.bytes(kind | nested, value);
        }
        with_header(family, attributes)
    }
}

impl Tuple {
    fn parse(attributes: &[u8]) -> Option<Tuple> {
        let part = |wanted| each(attributes).find(|attribute| attribute.kind() == wanted);
        let (addresses, protocol) = (part(CTA_TUPLE_IP)?, part(CTA_TUPLE_PROTO)?);
        let mut ends = each(addresses.value()).filter_map(|end| address(end.value()));
        let protocol: Vec<_> = each(protocol.value()).collect();
        let of = |wanted| protocol.iter().find(|attribute| attribute.kind() == wanted);
        let port = of(CTA_PROTO_DST_PORT).and_then(|port| port.value().try_into().ok());
        Some(Tuple {
            // The kernel tells source before destination (`ipv4_tuple_to_nlattr`).
            source: ends.next()?,
            destination: ends.next()?,
            protocol: *of(CTA_PROTO_NUM)?.value().first()?,
            port: port.map_or(0, u16::from_be_bytes),
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    v4().or_else(|_| v6()).ok()
}

/// The attributes up to the first that does not fit.
fn each(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple(list: &mut Attributes, kind: u16, ends: [[u8; 4]; 2], protocol: u8, port: u16) {
        list.nest(kind, |tuple| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                ip.bytes(1, &ends[0]).bytes(2, &ends[1]);
            });
            tuple.nest(CTA_TUPLE_PROTO, |part| {
                part.bytes(CTA_PROTO_NUM, &[protocol]);
                part.bytes(2, &4000u16.to_be_bytes());
                part.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            });
        });
    }

    /// From a neighbour to port 53 of the host, translated to 10.7.0.2.
    fn flow(protocol: u8) -> Vec<u8> {
        let mut list = Attributes::new();
        let (neighbour, host, container) = ([192, 0, 2, 2], [192, 0, 2, 1], [10, 7, 0, 2]);
        tuple(&mut list, CTA_TUPLE_ORIG, [neighbour, host], protocol, 53);
        tuple(
            &mut list,
            CTA_TUPLE_REPLY,
            [container, neighbour],
            protocol,
            4000,
        );
        list.u32(3, 8).u32(CTA_ID, 77);
        list.into_bytes()
    }

    #[test]
    fn flows_are_stale_by_port_or_by_subnet() {
        let ports = |list: &[(&str, u16)]| {
            let list = list.iter().map(|(ip, port)| (ip.parse().unwrap(), *port));
            Stale::Datagrams(list.collect())
        };
        let subnet = |net: &str| Stale::Subnets(vec![net.parse().unwrap()]);
        let rows = [
            (17, ports(&[("0.0.0.0", 53)]), true),
            (6, ports(&[("0.0.0.0", 53)]), false),
            (17, ports(&[("192.0.2.1", 53)]), true),
            (
                17,
                ports(&[("127.0.0.1", 53), ("0.0.0.0", 54), ("::", 53)]),
                false,
            ),
            (6, subnet("10.7.0.0/24"), true),
            (6, subnet("10.8.0.0/24"), false),
        ];
        for (protocol, stale, expected) in rows {
            let flow = Flow::parse(&flow(protocol)).unwrap();
            assert_eq!(stale.contains(&flow), expected, "{protocol} {stale:?}");
        }
    }

    #[test]
    fn a_deletion_names_the_connection_as_the_kernel_did() {
        let told = flow(17);
        let parsed = Flow::parse(&told).unwrap();
        let deletion = parsed.deletion(IPV4);
        assert_eq!(deletion[..4], [IPV4, 0, 0, 0]);
        let kinds: Vec<u16> = each(&deletion[4..]).map(|part| part.kind()).collect();
        assert_eq!(kinds, [CTA_TUPLE_ORIG, CTA_ID]);
        let own = each(&deletion[4..]).next().unwrap().value().to_vec();
        assert_eq!(own, each(&told).next().unwrap().value());
    }

    proptest! {
        #[test]
        fn any_message_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Flow::parse(&bytes);
        }
    }
}
