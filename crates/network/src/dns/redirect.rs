//! Rules inside a container's namespace: what it sends to port 53 of our address goes to the ports of our sockets.
//!
//! They have the form and the names that iptables and dockerd give them, because programs change them there: kind has its nodes
//! answer their pods that way. Where the kernel lacks what that takes (`nft_compat`), they are in a table of our own.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Where the rules are and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As `iptables` writes and reads them.
    Iptables,
    Own,
}

impl Form {
    fn table(self) -> &'static str {
        match self {
            Form::Iptables => "nat",
            Form::Own => "wharf-dns",
        }
    }

    /// The chain that the kernel asks.
    fn base(self) -> &'static str {
        match self {
            Form::Iptables => "OUTPUT",
            Form::Own => "output",
        }
    }

    /// The chain with the rules; nobody else has one of that name.
    fn chain(self) -> &'static str {
        match self {
            Form::Iptables => "DOCKER_OUTPUT",
            Form::Own => "docker-output",
        }
    }
}

/// Whether this kernel has turned out not to know the targets of iptables.
static LACKS_TARGETS: AtomicBool = AtomicBool::new(false);

/// Message types, with the subsystem in the upper byte (`linux/netfilter/nf_tables.h`).
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const DELETE_RULE: u16 = SUBSYSTEM << 8 | 8;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const FAMILY_IPV4: u8 = 2;
const HOOK_OUTPUT: u32 = 3;
/// `dstnat`.
const PRIORITY: i32 = -100;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_L4PROTO: u32 = 16;
const JUMP: u32 = -3i32 as u32;
const ACCEPT: u32 = 1;

/// Installs the rules in the calling thread's namespace; earlier ones of ours are replaced.
pub(super) fn install(ports: Ports) -> Result<(), NetworkError> {
    if !LACKS_TARGETS.load(Ordering::Relaxed) {
        match install_as(ports, Form::Iptables) {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::debug!(%error, "rules of name servers are not in the form of iptables");
                LACKS_TARGETS.store(true, Ordering::Relaxed);
            }
        }
    }
    install_as(ports, Form::Own)
}

fn install_as(ports: Ports, form: Form) -> Result<(), NetworkError> {
    let mut connection = Connection::open_netfilter().step(|| "open nftables".into())?;
    let mut send = |existing| {
        let mut batch = transaction(ports, form, existing);
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
fn transaction(ports: Ports, form: Form, existing: bool) -> Batch {
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
    if existing {
        push("empty the name server's chain", DELETE_RULE, 0, &|chain| {
            chain.text(1, form.table()).text(2, form.chain());
        });
    } else {
        push("add the name server's table", NEW_TABLE, CREATE, &|table| {
            table.text(1, form.table());
        });
        push("add a base chain", NEW_CHAIN, CREATE, &|chain| {
            base_chain(chain, form);
        });
        let flags = CREATE | EXCLUSIVE;
        push("add the name server's chain", NEW_CHAIN, flags, &|chain| {
            chain.text(1, form.table()).text(3, form.chain());
        });
        push(
            "add a jump to the name server's chain",
            NEW_RULE,
            CREATE | APPEND,
            &|rule| jump(rule, form),
        );
    }
    for (protocol, port) in [(6, ports.tcp), (17, ports.udp)] {
        let step = "add a rule of the name server";
        push(step, NEW_RULE, CREATE | APPEND, &|attributes| {
            rule(attributes, form, protocol, port);
        });
    }
    batch.push_raw("commit nftables transaction", BATCH_END, 0, &edge);
    batch
}

/// `type nat hook output priority dstnat`
fn base_chain(attributes: &mut Attributes, form: Form) {
    attributes.text(1, form.table()).text(3, form.base());
    attributes.nest(4, |hook| {
        hook.u32(1, HOOK_OUTPUT).u32(2, PRIORITY.cast_unsigned());
    });
    attributes.u32(5, ACCEPT).text(7, "nat");
}

/// `ip daddr 127.0.0.11 counter jump <chain>`
fn jump(attributes: &mut Attributes, form: Form) {
    attributes.text(1, form.table()).text(2, form.base());
    attributes.nest(4, |list| {
        load(list, NETWORK_HEADER, 16, 4);
        compare(list, &ADDRESS.octets());
        counter(list);
        expression(list, "immediate", |data| {
            data.u32(1, 0).nest(2, |given| {
                given.nest(2, |verdict| {
                    verdict.u32(1, JUMP).text(2, form.chain());
                });
            });
        });
    });
}

/// `meta l4proto <protocol> ip daddr 127.0.0.11 th dport 53 counter dnat to 127.0.0.11:<port>`
fn rule(attributes: &mut Attributes, form: Form, protocol: u8, port: u16) {
    attributes.text(1, form.table()).text(2, form.chain());
    attributes.nest(4, |list| {
        expression(list, "meta", |data| {
            data.u32(1, 1).u32(2, META_L4PROTO);
        });
        compare(list, &[protocol]);
        load(list, NETWORK_HEADER, 16, 4);
        compare(list, &ADDRESS.octets());
        load(list, TRANSPORT_HEADER, 2, 2);
        compare(list, &PORT.to_be_bytes());
        counter(list);
        match form {
            Form::Iptables => expression(list, "target", |data| target(data, port)),
            Form::Own => translate(list, port),
        }
    });
    if form == Form::Iptables {
        attributes.nest(5, |compat| {
            compat.u32(1, protocol.into()).u32(2, 0);
        });
    }
}

/// `DNAT`, revision 2: a `struct nf_nat_range2`, filled up to a multiple of eight bytes.
fn target(data: &mut Attributes, port: u16) {
    /// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`
    const FLAGS: u32 = 1 | 2;
    let mut range = FLAGS.to_ne_bytes().to_vec();
    for _ in ["first", "last"] {
        range.extend(ADDRESS.octets());
        range.extend([0; 12]);
    }
    for _ in ["first", "last"] {
        range.extend(port.to_be_bytes());
    }
    range.resize(48, 0);
    data.text(1, "DNAT").u32(2, 2).bytes(3, &range);
}

fn translate(list: &mut Attributes, port: u16) {
    const DNAT: u32 = 1;
    immediate(list, 1, &ADDRESS.octets());
    immediate(list, 2, &port.to_be_bytes());
    expression(list, "nat", |data| {
        data.u32(1, DNAT).u32(2, u32::from(FAMILY_IPV4));
        data.u32(3, 1).u32(5, 2);
    });
}

fn counter(list: &mut Attributes) {
    expression(list, "counter", |data| {
        data.bytes(1, &0u64.to_be_bytes())
            .bytes(2, &0u64.to_be_bytes());
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
