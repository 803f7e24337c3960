//! Commands as one nfnetlink batch: the kernel applies all messages between begin and end, or none.

use std::net::IpAddr;

use crate::netlink::Batch;

use super::attribute::Attributes;
use super::command::{Action, Command, Element, Family, Field, Hook, Key, Set, TABLE, Type, Value};
use super::statement::{Statement, encode_jump, interface_name};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const FAMILY_NONE: u8 = 0;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const ELEMENT_INTERVAL_END: u32 = 1;
const NFTA_LIST_ELEM: u16 = 1;

/// The whole transaction, begin and end included.
pub(super) fn transaction(commands: &[Command]) -> Batch {
    let mut batch = Batch::new();
    batch.push_raw(
        "begin nftables transaction",
        BATCH_BEGIN,
        0,
        &general_header(FAMILY_NONE, SUBSYSTEM),
    );
    for (index, command) in commands.iter().enumerate() {
        let (kind, flags, attributes) =
            encode(command, u32::try_from(index).expect("few commands") + 1);
        let mut body = general_header(command.family.number(), 0).to_vec();
        body.extend(attributes.into_bytes());
        batch.push_raw(
            format!("nftables: {command}"),
            SUBSYSTEM << 8 | kind,
            flags,
            &body,
        );
    }
    batch.push_raw(
        "commit nftables transaction",
        BATCH_END,
        0,
        &general_header(FAMILY_NONE, SUBSYSTEM),
    );
    batch
}

/// A question for one chain; answered with `ENOENT` where there is none.
pub(super) fn look_up_chain(family: Family, table: &str, name: &str) -> Batch {
    let mut attributes = Attributes::new();
    attributes.text(1, table).text(3, name);
    let mut body = general_header(family.number(), 0).to_vec();
    body.extend(attributes.into_bytes());
    let mut batch = Batch::new();
    let step = format!("look up chain {name} of table {table}");
    batch.push_raw(step, SUBSYSTEM << 8 | GET_CHAIN, 0, &body);
    batch
}

/// `struct nfgenmsg`.
fn general_header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Message type, flags and attributes. `id` tells new sets of one transaction apart.
fn encode(command: &Command, id: u32) -> (u16, u16, Attributes) {
    let mut attributes = Attributes::new();
    attributes.text(1, TABLE);
    let (kind, flags) = match &command.action {
        Action::AddTable => (NEW_TABLE, NLM_F_CREATE),
        Action::DeleteTable => (DELETE_TABLE, 0),
        Action::AddChain { name, hook } => {
            chain(&mut attributes, name, *hook);
            (NEW_CHAIN, NLM_F_CREATE)
        }
        Action::FlushChain { name } => {
            attributes.text(2, name);
            (DELETE_RULE, 0)
        }
        Action::DeleteChain { name } => {
            attributes.text(3, name);
            (DELETE_CHAIN, 0)
        }
        Action::AddRule { chain, statements } => {
            rule(&mut attributes, chain, statements, command.family);
            (NEW_RULE, NLM_F_CREATE | NLM_F_APPEND)
        }
        Action::AddSet(definition) => {
            set(&mut attributes, definition, id);
            (NEW_SET, NLM_F_CREATE)
        }
        Action::AddElement { set, element } => {
            elements(&mut attributes, set, element);
            (NEW_ELEMENT, NLM_F_CREATE | NLM_F_EXCL)
        }
        Action::DeleteElement { set, element } => {
            elements(&mut attributes, set, element);
            (DELETE_ELEMENT, 0)
        }
    };
    (kind, flags, attributes)
}

fn chain(attributes: &mut Attributes, name: &str, hook: Option<Hook>) {
    attributes.text(3, name);
    if let Some(hook) = hook {
        attributes.nest(4, |inner| {
            inner
                .u32(1, hook.point as u32)
                .u32(2, hook.priority.cast_unsigned());
        });
        // Accept: what our chains do not decide is for others to decide.
        attributes.u32(5, 1).text(7, hook.kind);
    }
}

fn rule(attributes: &mut Attributes, chain: &str, statements: &[Statement], family: Family) {
    attributes.text(2, chain);
    attributes.nest(4, |list| {
        for statement in statements {
            statement.encode(list, family);
        }
    });
}

fn set(attributes: &mut Attributes, set: &Set, id: u32) {
    let interval = if set.interval { SET_INTERVAL } else { 0 };
    let map = if set.value.is_some() { SET_MAP } else { 0 };
    attributes.text(2, set.name).u32(3, interval | map);
    attributes
        .u32(4, type_number(&set.key))
        .u32(5, total_length(&set.key));
    if let Some(value) = &set.value {
        attributes.u32(6, type_number(value));
        if *value != [Type::Verdict] {
            attributes.u32(7, total_length(value));
        }
    }
    attributes.u32(10, id);
    attributes.bytes(13, &byte_order(&set.key));
}

/// What `nft list` needs to show keys (`NFTNL_UDATA_SET_KEYBYTEORDER` in libnftnl): 1 is the host's order, 2 the network's. The
/// kernel does not look at it.
fn byte_order(key: &[Type]) -> [u8; 6] {
    let order: u32 = if key == [Type::InterfaceName] { 1 } else { 2 };
    let [a, b, c, d] = order.to_ne_bytes();
    [0, 4, a, b, c, d]
}

/// Concatenations pack six bits per type, as `nft` does to show them.
fn type_number(types: &[Type]) -> u32 {
    types
        .iter()
        .fold(0, |number, kind| number << 6 | kind.number())
}

/// Each field of a concatenation fills whole 4-byte registers; a lone one has its own length.
fn total_length(types: &[Type]) -> u32 {
    match types {
        [lone] => lone.length(),
        several => several
            .iter()
            .map(|kind| kind.length().next_multiple_of(4))
            .sum(),
    }
}

fn elements(attributes: &mut Attributes, set: &str, element: &Element) {
    attributes.text(2, set);
    attributes.nest(3, |list| match &element.key {
        Key::Fields(fields) => one_element(list, &pack(fields), element.value.as_ref(), 0),
        Key::Range(first, last) => {
            one_element(list, &octets(*first), element.value.as_ref(), 0);
            // A range ends before the next address; one that reaches the highest has no end.
            if let Some(end) = after(*last) {
                one_element(list, &octets(end), None, ELEMENT_INTERVAL_END);
            }
        }
    });
}

fn one_element(list: &mut Attributes, key: &[u8], value: Option<&Value>, flags: u32) {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.nest(1, |data| {
            data.bytes(1, key);
        });
        match value {
            None => {}
            Some(Value::Jump(chain)) => {
                element.nest(2, |data| encode_jump(data, chain));
            }
            Some(Value::Fields(fields)) => {
                element.nest(2, |data| {
                    data.bytes(1, &pack(fields));
                });
            }
        }
        if flags != 0 {
            element.u32(3, flags);
        }
    });
}

fn pack(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        match field {
            Field::Address(address) => bytes.extend(octets(*address)),
            Field::Protocol(number) => bytes.push(*number),
            Field::Port(port) => bytes.extend(port.to_be_bytes()),
            Field::Interface(name) => bytes.extend(interface_name(name)),
        }
        if fields.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(IpAddr::V4(u32::from(address).checked_add(1)?.into())),
        IpAddr::V6(address) => Some(IpAddr::V6(u128::from(address).checked_add(1)?.into())),
    }
}

/// The address as it is in a packet.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
