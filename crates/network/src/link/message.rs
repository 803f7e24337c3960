//! The rtnetlink messages that plans are made of.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{Connection, NetlinkError};

/// Makes an object that must not exist.
pub(crate) const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Sets interface flags beside attributes.
pub(crate) fn set_up(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

/// A change to the link `index`.
pub(crate) fn change_link(
    index: u32,
    attributes: Vec<LinkAttribute>,
    up: bool,
) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    if up {
        set_up(&mut message);
    }
    RouteNetlinkMessage::SetLink(message)
}

/// `address` with its prefix, on link `index`. IPv4 gets its broadcast address, IPv6 skips duplicate detection.
pub(crate) fn new_address(index: u32, address: IpNet) -> RouteNetlinkMessage {
    let mut message = address_message(index, address);
    match address {
        IpNet::V4(address) => message
            .attributes
            .push(AddressAttribute::Broadcast(address.broadcast())),
        IpNet::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
    }
    RouteNetlinkMessage::NewAddress(message)
}

/// Takes `address` from link `index`.
pub(crate) fn delete_address(index: u32, address: IpNet) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelAddress(address_message(index, address))
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message
        .attributes
        .push(AddressAttribute::Local(address.addr()));
    message
        .attributes
        .push(AddressAttribute::Address(address.addr()));
    message
}

/// The default route by way of `gateway`.
pub(crate) fn default_route(index: u32, gateway: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    let gateway = match gateway {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    message.attributes.push(RouteAttribute::Gateway(gateway));
    message.attributes.push(RouteAttribute::Oif(index));
    RouteNetlinkMessage::NewRoute(message)
}

/// The default route straight out of an interface.
pub(crate) fn device_route(index: u32, ipv6: bool) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = if ipv6 {
        RouteScope::Universe
    } else {
        RouteScope::Link
    };
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    RouteNetlinkMessage::NewRoute(message)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The link of that name, if there is one.
pub(crate) fn link_by_name(
    connection: &mut Connection,
    name: &str,
) -> Result<Option<LinkMessage>, NetlinkError> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    let step = format!("look up interface {name}");
    match connection.get(&step, RouteNetlinkMessage::GetLink(message)) {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(link)),
        Ok(_) => Ok(None),
        Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names of all links.
pub(crate) fn link_names(connection: &mut Connection) -> Result<Vec<String>, NetlinkError> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let found = connection.dump("list interfaces", request)?;
    let name = |message: RouteNetlinkMessage| {
        let RouteNetlinkMessage::NewLink(link) = message else {
            return None;
        };
        link.attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            })
    };
    Ok(found.into_iter().filter_map(name).collect())
}

/// Addresses of both families of link `index`, those that IPv6 gives itself included.
pub(crate) fn addresses(
    connection: &mut Connection,
    index: u32,
) -> Result<Vec<IpNet>, NetlinkError> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Unspec;
    let found = connection.dump("list addresses", RouteNetlinkMessage::GetAddress(request))?;
    Ok(found
        .into_iter()
        .filter_map(|message| address_of(&message, index))
        .collect())
}

fn address_of(message: &RouteNetlinkMessage, index: u32) -> Option<IpNet> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    if message.header.index != index {
        return None;
    }
    let address = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
        .next()?;
    IpNet::new(address, message.header.prefix_len).ok()
}

/// Destinations of both families that the host routes itself, with the index of their interface: everything in the main table
/// but default routes.
pub(crate) fn routes(connection: &mut Connection) -> Result<Vec<(IpNet, u32)>, NetlinkError> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Unspec;
    let found = connection.dump("list routes", RouteNetlinkMessage::GetRoute(request))?;
    Ok(found.iter().filter_map(destination).collect())
}

fn destination(message: &RouteNetlinkMessage) -> Option<(IpNet, u32)> {
    let RouteNetlinkMessage::NewRoute(route) = message else {
        return None;
    };
    let length = route.header.destination_prefix_length;
    if route.header.table != RouteHeader::RT_TABLE_MAIN || length == 0 {
        return None;
    }
    let mut destination = None;
    let mut interface = 0;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::V4(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::V6(*address));
            }
            RouteAttribute::Oif(index) => interface = *index,
            _ => {}
        }
    }
    Some((IpNet::new(destination?, length).ok()?, interface))
}
