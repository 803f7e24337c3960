//! A container's attachment: a veth pair, one end a bridge port, the other inside with address and default route.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkInfo, LinkMessage,
};

use super::message::{CREATE, change_link, default_route, new_address, set_up};
use crate::name::Mac;
use crate::netlink::{Batch, Connection, NetlinkError};

/// A veth pair whose one end starts in the container's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Veth {
    /// Host's end.
    pub(crate) host_name: String,
    /// Index of the bridge it becomes a port of.
    pub(crate) bridge_index: u32,
    /// Of both ends; `None`: the kernel's 1500.
    pub(crate) mtu: Option<u32>,
    /// Container's end.
    pub(crate) inside_name: String,
    /// Container's address on the link.
    pub(crate) mac: Mac,
    /// Whether the bridge may send a packet back where it came from. A container that asks for its own published port needs it
    /// where bridged packets pass the firewall (`bridge-nf-call-iptables`); others are spared their own broadcasts.
    pub(crate) hairpin: bool,
}

/// What is set up in the container's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) index: u32,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointPlan {
    pub(crate) veth: Veth,
    pub(crate) inside: Inside,
}

impl Veth {
    /// Makes the pair from the host's side; the inner end appears in `namespace`.
    ///
    /// Nothing has to be undone after a later failure: the pair dies with the namespace.
    pub(crate) fn execute(
        &self,
        host: &mut Connection,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        host.exchange(&mut self.batch(namespace.as_raw_fd()))
    }

    fn batch(&self, namespace: RawFd) -> Batch {
        let mut batch = Batch::new();
        let step = format!(
            "create veth pair {} to the bridge with index {}",
            self.host_name, self.bridge_index
        );
        batch.push_route(step, CREATE, self.message(namespace));
        if self.hairpin {
            let step = format!("set hairpin mode on {}", self.host_name);
            batch.push_route(step, 0, self.hairpin_message());
        }
        batch
    }

    /// One message makes both ends. The host's end is up and a bridge port at once; the inner end can't be brought up here, because
    /// `veth_open` refuses until its peer exists.
    fn message(&self, namespace: RawFd) -> RouteNetlinkMessage {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(self.inside_name.clone()),
            LinkAttribute::NetNsFd(namespace),
            LinkAttribute::Address(self.mac.0.to_vec()),
        ];
        peer.attributes.extend(self.mtu.map(LinkAttribute::Mtu));

        let mut host = LinkMessage::default();
        set_up(&mut host);
        host.attributes = vec![
            LinkAttribute::IfName(self.host_name.clone()),
            LinkAttribute::Controller(self.bridge_index),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        host.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        RouteNetlinkMessage::NewLink(host)
    }
}

impl Veth {
    /// Port settings are taken from a change only, not from the message that makes the port.
    fn hairpin_message(&self) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(self.host_name.clone()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
                    true,
                )])),
            ]),
        ];
        RouteNetlinkMessage::NewLink(message)
    }
}

impl Inside {
    /// Sets up the inner end over a connection that was opened in the namespace.
    pub(crate) fn execute(&self, inside: &mut Connection) -> Result<(), NetlinkError> {
        inside.exchange(&mut self.batch())
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        batch.push_route(
            "bring up the container's interface",
            0,
            change_link(self.index, Vec::new(), true),
        );
        for address in &self.addresses {
            batch.push_route(
                format!("add address {address}"),
                CREATE,
                new_address(self.index, *address),
            );
        }
        for gateway in &self.gateways {
            batch.push_route(
                format!("add default route by {gateway}"),
                CREATE,
                default_route(self.index, *gateway),
            );
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use proptest::prelude::*;

    fn reparse(mut message: NetlinkMessage<RouteNetlinkMessage>) -> RouteNetlinkMessage {
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes)
            .unwrap()
            .payload
        {
            NetlinkPayload::InnerMessage(message) => message,
            other => panic!("unexpected {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn veth_message_survives_its_encoding(
            name in "[a-z]{1,15}", bridge_index in 1u32.., mac in any::<[u8; 6]>(), mtu in proptest::option::of(68u32..65536),
        ) {
            let veth = Veth { host_name: name, bridge_index, mtu, inside_name: "eth0".into(), hairpin: false, mac: Mac(mac) };
            let message = veth.message(5);
            prop_assert_eq!(reparse(message.clone().into()), message);
        }
    }

    #[test]
    fn inside_is_up_before_it_is_routed() {
        let inside = Inside {
            index: 2,
            addresses: vec!["172.17.0.2/16".parse().unwrap()],
            gateways: vec!["172.17.0.1".parse().unwrap()],
        };
        let batch = inside.batch();
        let steps: Vec<&str> = (0..batch.len()).map(|index| batch.step(index)).collect();
        assert_eq!(
            steps,
            [
                "bring up the container's interface",
                "add address 172.17.0.2/16",
                "add default route by 172.17.0.1"
            ]
        );
    }
}
