//! The parts of a rule, and the kernel expressions each is made of (`linux/netfilter/nf_tables.h`).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::attribute::Attributes;
use super::command::Family;
use super::encode::octets;

/// A match or an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    InInterface {
        equal: bool,
        name: String,
    },
    OutInterface {
        equal: bool,
        name: String,
    },
    Source(IpNet),
    Destination(IpNet),
    DestinationIsNot(IpAddr),
    /// IP protocol of the payload.
    Protocol(u8),
    /// Destination address, protocol and port are in a set.
    DestinationIn(&'static str),
    /// Source address, destination address, protocol and port are in a set.
    SourceAndDestinationIn(&'static str),
    /// `ct state established,related`
    Established,
    /// `ct status dnat`
    Dnatted,
    /// Destination is an address of this host.
    DestinationLocal,
    /// Verdict by a map.
    InInterfaceMap(&'static str),
    OutInterfaceMap(&'static str),
    DestinationMap(&'static str),
    /// New destination from a map whose key is protocol and port, with the old address before them if so asked.
    DnatMap {
        map: &'static str,
        with_address: bool,
    },
    Masquerade,
    /// New source address.
    SourceNat(IpAddr),
    Counter,
    Accept,
    Drop,
    Jump(&'static str),
}

/// Verdict register.
const VERDICT: u32 = 0;
/// First 16-byte register; the 4-byte ones from [`REGISTER_4`] lie over it.
const REGISTER: u32 = 1;
/// First 4-byte register, `NFT_REG32_00`.
const REGISTER_4: u32 = 8;

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const STATE_ESTABLISHED_RELATED: u32 = 2 | 4;
const STATUS_DST_NAT: u32 = 1 << 5;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const ADDRESS_LOCAL: u32 = 2;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_JUMP: u32 = -3i32 as u32;
const NFTA_LIST_ELEM: u16 = 1;
const NAT_SOURCE: u32 = 0;
const NAT_DESTINATION: u32 = 1;
const INTERFACE_NAME_LEN: usize = 16;

impl Statement {
    /// Adds the kernel's expressions to a rule's list.
    pub(super) fn encode(&self, rule: &mut Attributes, family: Family) {
        match self {
            Statement::InInterface { equal, name } => {
                meta(rule, META_IIFNAME, REGISTER);
                compare(rule, *equal, &interface_name(name));
            }
            Statement::OutInterface { equal, name } => {
                meta(rule, META_OIFNAME, REGISTER);
                compare(rule, *equal, &interface_name(name));
            }
            Statement::Source(net) => in_net(rule, source_offset(family), *net),
            Statement::Destination(net) => in_net(rule, destination_offset(family), *net),
            Statement::DestinationIsNot(address) => {
                destination(rule, family, REGISTER);
                compare(rule, false, &octets(*address));
            }
            Statement::Protocol(number) => {
                meta(rule, META_L4PROTO, REGISTER);
                compare(rule, true, &[*number]);
            }
            Statement::DestinationIn(set) => {
                key(rule, family, REGISTER_4, true);
                lookup(rule, set, None);
            }
            Statement::SourceAndDestinationIn(set) => {
                let (offset, length) = (source_offset(family), family.length());
                payload(rule, NETWORK_HEADER, offset, length, REGISTER_4);
                key(rule, family, REGISTER_4 + length / 4, true);
                lookup(rule, set, None);
            }
            Statement::Established => conntrack_bit(rule, CT_STATE, STATE_ESTABLISHED_RELATED),
            Statement::Dnatted => conntrack_bit(rule, CT_STATUS, STATUS_DST_NAT),
            Statement::DestinationLocal => {
                expression(rule, "fib", |data| {
                    data.u32(1, REGISTER)
                        .u32(2, FIB_ADDRESS_TYPE)
                        .u32(3, FIB_DESTINATION);
                });
                compare(rule, true, &ADDRESS_LOCAL.to_ne_bytes());
            }
            Statement::InInterfaceMap(map) => {
                meta(rule, META_IIFNAME, REGISTER);
                lookup(rule, map, Some(VERDICT));
            }
            Statement::OutInterfaceMap(map) => {
                meta(rule, META_OIFNAME, REGISTER);
                lookup(rule, map, Some(VERDICT));
            }
            Statement::DestinationMap(map) => {
                destination(rule, family, REGISTER);
                lookup(rule, map, Some(VERDICT));
            }
            Statement::DnatMap { map, with_address } => dnat(rule, family, map, *with_address),
            Statement::Masquerade => expression(rule, "masq", |_| {}),
            Statement::SourceNat(address) => source_nat(rule, family, *address),
            Statement::Counter => expression(rule, "counter", |data| {
                data.bytes(1, &0u64.to_be_bytes())
                    .bytes(2, &0u64.to_be_bytes());
            }),
            Statement::Accept => verdict(rule, NF_ACCEPT, None),
            Statement::Drop => verdict(rule, NF_DROP, None),
            Statement::Jump(chain) => verdict(rule, NFT_JUMP, Some(chain)),
        }
    }
}

fn source_offset(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 12,
        Family::Ipv6 => 8,
    }
}

fn destination_offset(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 16,
        Family::Ipv6 => 24,
    }
}

fn destination(rule: &mut Attributes, family: Family, register: u32) {
    let offset = destination_offset(family);
    payload(rule, NETWORK_HEADER, offset, family.length(), register);
}

/// Protocol and port, with the destination before them if so asked, in consecutive 4-byte registers from `register` on.
fn key(rule: &mut Attributes, family: Family, mut register: u32, with_address: bool) {
    if with_address {
        destination(rule, family, register);
        register += family.length() / 4;
    }
    meta(rule, META_L4PROTO, register);
    payload(rule, TRANSPORT_HEADER, 2, 2, register + 1);
}

/// The concatenated key, the map's answer over it, then the translation.
fn dnat(rule: &mut Attributes, family: Family, map: &str, with_address: bool) {
    key(rule, family, REGISTER_4, with_address);
    lookup(rule, map, Some(REGISTER));
    expression(rule, "nat", |data| {
        data.u32(1, NAT_DESTINATION)
            .u32(2, family.number().into())
            .u32(3, REGISTER_4)
            .u32(5, REGISTER_4 + family.length() / 4);
    });
}

fn source_nat(rule: &mut Attributes, family: Family, address: IpAddr) {
    expression(rule, "immediate", |data| {
        data.u32(1, REGISTER);
        data.nest(2, |value| {
            value.bytes(1, &octets(address));
        });
    });
    expression(rule, "nat", |data| {
        data.u32(1, NAT_SOURCE)
            .u32(2, family.number().into())
            .u32(3, REGISTER);
    });
}

fn in_net(rule: &mut Attributes, offset: u32, net: IpNet) {
    let bytes = octets(net.network());
    let length = u32::try_from(bytes.len()).expect("an address is short");
    payload(rule, NETWORK_HEADER, offset, length, REGISTER);
    if net.prefix_len() < net.max_prefix_len() {
        mask(rule, &octets(net.netmask()));
    }
    compare(rule, true, &bytes);
}

fn conntrack_bit(rule: &mut Attributes, key: u32, bits: u32) {
    expression(rule, "ct", |data| {
        data.u32(1, REGISTER).u32(2, key);
    });
    mask(rule, &bits.to_ne_bytes());
    compare(rule, false, &0u32.to_ne_bytes());
}

fn meta(rule: &mut Attributes, key: u32, register: u32) {
    expression(rule, "meta", |data| {
        data.u32(1, register).u32(2, key);
    });
}

fn payload(rule: &mut Attributes, base: u32, offset: u32, length: u32, register: u32) {
    expression(rule, "payload", |data| {
        data.u32(1, register)
            .u32(2, base)
            .u32(3, offset)
            .u32(4, length);
    });
}

fn mask(rule: &mut Attributes, mask: &[u8]) {
    let length = u32::try_from(mask.len()).expect("a mask is short");
    expression(rule, "bitwise", |data| {
        data.u32(1, REGISTER).u32(2, REGISTER).u32(3, length);
        data.nest(4, |value| {
            value.bytes(1, mask);
        });
        data.nest(5, |value| {
            value.bytes(1, &vec![0; mask.len()]);
        });
    });
}

fn compare(rule: &mut Attributes, equal: bool, value: &[u8]) {
    expression(rule, "cmp", |data| {
        data.u32(1, REGISTER).u32(2, u32::from(!equal));
        data.nest(3, |data| {
            data.bytes(1, value);
        });
    });
}

fn lookup(rule: &mut Attributes, set: &str, into: Option<u32>) {
    expression(rule, "lookup", |data| {
        data.text(1, set).u32(2, REGISTER);
        if let Some(register) = into {
            data.u32(3, register);
        }
    });
}

fn verdict(rule: &mut Attributes, code: u32, chain: Option<&str>) {
    expression(rule, "immediate", |data| {
        data.u32(1, VERDICT);
        data.nest(2, |value| encode_verdict(value, code, chain));
    });
}

/// `NFTA_DATA_VERDICT`.
fn encode_verdict(value: &mut Attributes, code: u32, chain: Option<&str>) {
    value.nest(2, |verdict| {
        verdict.u32(1, code);
        if let Some(chain) = chain {
            verdict.text(2, chain);
        }
    });
}

/// A jump as the value of a map's element.
pub(super) fn encode_jump(value: &mut Attributes, chain: &str) {
    encode_verdict(value, NFT_JUMP, Some(chain));
}

fn expression(rule: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    rule.nest(NFTA_LIST_ELEM, |expression| {
        expression.text(1, name);
        expression.nest(2, fill);
    });
}

/// The kernel compares all 16 bytes, zero-filled.
pub(super) fn interface_name(name: &str) -> [u8; INTERFACE_NAME_LEN] {
    let mut bytes = [0; INTERFACE_NAME_LEN];
    let length = name.len().min(INTERFACE_NAME_LEN - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |equal: &bool| if *equal { "" } else { "!= " };
        match self {
            Statement::InInterface { equal, name } => {
                write!(f, "iifname {}\"{name}\"", sign(equal))
            }
            Statement::OutInterface { equal, name } => {
                write!(f, "oifname {}\"{name}\"", sign(equal))
            }
            Statement::Source(net) => {
                write!(f, "{} saddr {net}", Family::of(net.addr()).name())
            }
            Statement::Destination(net) => {
                write!(f, "{} daddr {net}", Family::of(net.addr()).name())
            }
            Statement::DestinationIsNot(address) => {
                write!(f, "{} daddr != {address}", Family::of(*address).name())
            }
            Statement::Protocol(number) => write!(f, "meta l4proto {number}"),
            Statement::DestinationIn(set) => {
                write!(f, "daddr . meta l4proto . th dport @{set}")
            }
            Statement::SourceAndDestinationIn(set) => {
                write!(f, "saddr . daddr . meta l4proto . th dport @{set}")
            }
            Statement::Established => f.write_str("ct state established,related"),
            Statement::Dnatted => f.write_str("ct status dnat"),
            Statement::DestinationLocal => f.write_str("fib daddr type local"),
            Statement::InInterfaceMap(map) => write!(f, "iifname vmap @{map}"),
            Statement::OutInterfaceMap(map) => write!(f, "oifname vmap @{map}"),
            Statement::DestinationMap(map) => write!(f, "daddr vmap @{map}"),
            Statement::DnatMap {
                map,
                with_address: true,
            } => {
                write!(f, "dnat to daddr . meta l4proto . th dport map @{map}")
            }
            Statement::DnatMap {
                map,
                with_address: false,
            } => write!(f, "dnat to meta l4proto . th dport map @{map}"),
            Statement::Masquerade => f.write_str("masquerade"),
            Statement::SourceNat(address) => write!(f, "snat to {address}"),
            Statement::Counter => f.write_str("counter"),
            Statement::Accept => f.write_str("accept"),
            Statement::Drop => f.write_str("drop"),
            Statement::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}
