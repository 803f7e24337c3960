//! Rules inside a container's namespace: what it sends to port 53 of our address goes to the ports of our sockets.

use std::io::ErrorKind;

use crate::error::NetworkError;
use crate::error::Step;
use crate::firewall::Attributes;
use crate::netlink::{Batch, Connection};

use super::socket::{ADDRESS, PORT};

/// Of the sockets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) udp: u16,
    pub(super) tcp: u16,
}

const TABLE: &str = "wharf-dns";
const CHAIN: &str = "output";

/// Message types, with the subsystem in the upper byte (`linux/netfilter/nf_tables.h`).
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const FAMILY_IPV4: u8 = 2;
const HOOK_OUTPUT: u32 = 3;
/// `dstnat`.
const PRIORITY: i32 = -100;

/// Installs the rules in the calling thread's namespace; earlier ones of ours are replaced.
pub(super) fn install(ports: Ports) -> Result<(), NetworkError> {
    let mut connection = Connection::open_netfilter().step(|| "open nftables".into())?;
    let mut send = |existing| {
        let mut batch = transaction(ports, existing);
        let last_command = batch.len() - 2;
        connection.exchange_acknowledged_at(&mut batch, last_command)
    };
    match send(false) {
        Err(error) if error.source.kind() == ErrorKind::AlreadyExists => Ok(send(true)?),
        other => Ok(other?),
    }
}

/// `existing`: instead of rules that are there. The kernel makes whoever throws rules away wait for every processor, five milliseconds
/// and more, which a new namespace is spared.
fn transaction(ports: Ports, existing: bool) -> Batch {
    let mut batch = Batch::new();
    let edge = [0, 0, 0, SUBSYSTEM.to_be_bytes()[1]];
    batch.push_raw("begin nftables transaction", BATCH_BEGIN, 0, &edge);
    let mut push = |step: &str, kind, flags, fill: &dyn Fn(&mut Attributes)| {
        let mut attributes = Attributes::new();
        fill(&mut attributes);
        let mut body = vec![FAMILY_IPV4, 0, 0, 0];
        body.extend(attributes.into_bytes());
        batch.push_raw(step, kind, flags, &body);
    };
    let table = |attributes: &mut Attributes| {
        attributes.text(1, TABLE);
    };
    if existing {
        push(
            "delete the table of the name server",
            DELETE_TABLE,
            0,
            &table,
        );
    }
    let flags = CREATE | EXCLUSIVE;
    push("add the table of the name server", NEW_TABLE, flags, &table);
    push(
        "add the chain of the name server",
        NEW_CHAIN,
        CREATE,
        &chain,
    );
    for (protocol, port) in [(17, ports.udp), (6, ports.tcp)] {
        let step = "add a rule of the name server";
        push(step, NEW_RULE, CREATE | APPEND, &|attributes| {
            rule(attributes, protocol, port);
        });
    }
    batch.push_raw("commit nftables transaction", BATCH_END, 0, &edge);
    batch
}

/// `type nat hook output priority dstnat`
fn chain(attributes: &mut Attributes) {
    attributes.text(1, TABLE).text(3, CHAIN);
    attributes.nest(4, |hook| {
        hook.u32(1, HOOK_OUTPUT).u32(2, PRIORITY.cast_unsigned());
    });
    attributes.text(7, "nat");
}

/// `ip daddr 127.0.0.11 meta l4proto <protocol> th dport 53 dnat to 127.0.0.11:<port>`
fn rule(attributes: &mut Attributes, protocol: u8, port: u16) {
    const NETWORK_HEADER: u32 = 1;
    const TRANSPORT_HEADER: u32 = 2;
    const META_L4PROTO: u32 = 16;
    const DNAT: u32 = 1;
    attributes.text(1, TABLE).text(2, CHAIN);
    attributes.nest(4, |list| {
        load(list, NETWORK_HEADER, 16, 4);
        compare(list, &ADDRESS.octets());
        expression(list, "meta", |data| {
            data.u32(1, 1).u32(2, META_L4PROTO);
        });
        compare(list, &[protocol]);
        load(list, TRANSPORT_HEADER, 2, 2);
        compare(list, &PORT.to_be_bytes());
        immediate(list, 1, &ADDRESS.octets());
        immediate(list, 2, &port.to_be_bytes());
        expression(list, "nat", |data| {
            data.u32(1, DNAT).u32(2, u32::from(FAMILY_IPV4));
            data.u32(3, 1).u32(5, 2);
        });
    });
}

fn expression(list: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    list.nest(1, |element| {
        element.text(1, name).nest(2, fill);
    });
}

/// Part of a header into register 1.
fn load(list: &mut Attributes, header: u32, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.u32(1, 1).u32(2, header).u32(3, offset).u32(4, length);
    });
}

/// Register 1 equals `value`.
fn compare(list: &mut Attributes, value: &[u8]) {
    const EQUAL: u32 = 0;
    expression(list, "cmp", |data| {
        data.u32(1, 1).u32(2, EQUAL).nest(3, |wanted| {
            wanted.bytes(1, value);
        });
    });
}

fn immediate(list: &mut Attributes, register: u32, value: &[u8]) {
    expression(list, "immediate", |data| {
        data.u32(1, register).nest(2, |given| {
            given.bytes(1, value);
        });
    });
}
