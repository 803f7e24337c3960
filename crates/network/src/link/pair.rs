//! A veth pair between a container's namespace and the host, not yet connected to anything.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};

use super::message::{CREATE, change_link, link_by_name};
use crate::name::random_veth;
use crate::netlink::{Batch, Connection, NetlinkError};

/// Both ends of a pair. It dies with the namespace of its inner end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Host's end.
    pub(crate) host_name: String,
    pub(crate) host_index: u32,
    /// Container's end, up already.
    pub(crate) inside_name: String,
    pub(crate) inside_index: u32,
}

impl Pair {
    /// Makes a pair over a connection in the container's namespace. The host's end appears in `host` under a random name and
    /// stays down; a name that is taken is drawn again.
    pub(crate) fn create(
        inside: &mut Connection,
        host: BorrowedFd<'_>,
        inside_name: &str,
    ) -> Result<Pair, NetlinkError> {
        loop {
            let host_name = random_veth();
            let mut batch = Batch::new();
            batch.push_route(
                format!("create veth pair {host_name}"),
                CREATE,
                message(&host_name, inside_name, host.as_raw_fd()),
            );
            match inside.exchange(&mut batch) {
                Ok(()) => return Pair::find(inside, host_name, inside_name),
                Err(error)
                    if error.is(rustix::io::Errno::EXIST)
                        && link_by_name(inside, inside_name)?.is_none() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The same pair with another name inside. Only an interface that is down changes its name on kernels before 6.2.
    pub(crate) fn renamed(
        mut self,
        inside: &mut Connection,
        name: &str,
    ) -> Result<Pair, NetlinkError> {
        let mut down = LinkMessage::default();
        down.header.index = self.inside_index;
        down.header.change_mask |= LinkFlags::Up;
        let mut batch = Batch::new();
        let step = format!("rename {} to {name}", self.inside_name);
        batch.push_route(&*step, 0, RouteNetlinkMessage::SetLink(down));
        let new_name = vec![LinkAttribute::IfName(name.to_owned())];
        batch.push_route(&*step, 0, change_link(self.inside_index, new_name, true));
        inside.exchange(&mut batch)?;
        name.clone_into(&mut self.inside_name);
        Ok(self)
    }

    /// Reads the indices the kernel gave, and brings the inner end up.
    fn find(
        inside: &mut Connection,
        host_name: String,
        inside_name: &str,
    ) -> Result<Pair, NetlinkError> {
        let vanished = || NetlinkError {
            step: format!("find veth pair {host_name}"),
            reason: None,
            source: std::io::Error::other("the interface vanished at once"),
        };
        let link = link_by_name(inside, inside_name)?.ok_or_else(vanished)?;
        let peer = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Link(index) => Some(*index),
                _ => None,
            });
        let host_index = peer.ok_or_else(vanished)?;
        let mut batch = Batch::new();
        batch.push_route(
            "bring up the container's interface",
            0,
            change_link(link.header.index, Vec::new(), true),
        );
        inside.exchange(&mut batch)?;
        Ok(Pair {
            host_name,
            host_index,
            inside_name: inside_name.to_owned(),
            inside_index: link.header.index,
        })
    }
}

/// One message makes both ends.
fn message(host_name: &str, inside_name: &str, host: RawFd) -> RouteNetlinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(host_name.to_owned()),
        LinkAttribute::NetNsFd(host),
    ];
    let mut own = LinkMessage::default();
    own.attributes = vec![
        LinkAttribute::IfName(inside_name.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    RouteNetlinkMessage::NewLink(own)
}

/// Says that link `index` gives itself no IPv6 address. A bridge's port needs none, and looking for duplicates of it would take
/// the kernel's network lock at a bad moment.
pub(crate) fn without_ipv6_address(index: u32) -> RouteNetlinkMessage {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    change_link(
        index,
        vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![mode],
        )])],
        false,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn message_survives_its_encoding(host_name in "[a-z]{1,15}", inside_name in "[a-z]{1,15}", host in 0..1000i32) {
            let sent = message(&host_name, &inside_name, host);
            let mut netlink: NetlinkMessage<RouteNetlinkMessage> = sent.clone().into();
            netlink.finalize();
            let mut bytes = vec![0; netlink.buffer_len()];
            netlink.serialize(&mut bytes);
            let read = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).expect("our own message");
            prop_assert_eq!(read.payload, NetlinkPayload::InnerMessage(sent));
        }
    }
}
