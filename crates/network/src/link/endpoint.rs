//! A container's attachment: a pair's host end becomes a bridge port, its inner end gets addresses and the default route.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage,
};

use super::message::{CREATE, change_link, default_route, new_address};
use crate::name::Mac;
use crate::netlink::{Batch, Connection, NetlinkError};

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointPlan {
    pub(crate) port: Port,
    pub(crate) inside: Inside,
}

/// What is set up on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Host's end of the pair.
    pub(crate) index: u32,
    /// The bridge it becomes a port of.
    pub(crate) bridge_index: u32,
    /// `None`: the kernel's 1500.
    pub(crate) mtu: Option<u32>,
    /// Whether the bridge may send a packet back where it came from. A container that asks for its own published port needs it
    /// where bridged packets pass the firewall (`bridge-nf-call-iptables`); others are spared their own broadcasts.
    pub(crate) hairpin: bool,
}

/// What is set up in the container's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    /// Inner end of the pair.
    pub(crate) index: u32,
    pub(crate) mac: Mac,
    /// `None`: the kernel's 1500.
    pub(crate) mtu: Option<u32>,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
}

impl Port {
    /// Connects the pair to its bridge and brings it up, in one exchange on the host's side.
    ///
    /// Nothing has to be undone after a later failure: the pair dies with the namespace.
    pub(crate) fn execute(&self, host: &mut Connection) -> Result<(), NetlinkError> {
        host.exchange(&mut self.batch())
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        let mut attributes = vec![LinkAttribute::Controller(self.bridge_index)];
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        let step = format!(
            "connect interface {} to bridge {}",
            self.index, self.bridge_index
        );
        batch.push_route(step, 0, change_link(self.index, attributes, true));
        if self.hairpin {
            let step = format!("set hairpin mode on interface {}", self.index);
            batch.push_route(step, 0, self.hairpin_message());
        }
        batch
    }

    /// Port settings are taken only from `RTM_NEWLINK` on what is a port already.
    fn hairpin_message(&self) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = self.index;
        let settings = vec![InfoBridgePort::HairpinMode(true)];
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)),
        ])];
        RouteNetlinkMessage::NewLink(message)
    }
}

impl Inside {
    /// Sets up the inner end, in one exchange over a connection that was opened in the namespace.
    pub(crate) fn execute(&self, inside: &mut Connection) -> Result<(), NetlinkError> {
        inside.exchange(&mut self.batch())
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        let mut attributes = vec![LinkAttribute::Address(self.mac.0.to_vec())];
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        batch.push_route(
            format!("set MAC address {}", self.mac),
            0,
            change_link(self.index, attributes, true),
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

    fn steps(batch: &Batch) -> Vec<&str> {
        (0..batch.len()).map(|index| batch.step(index)).collect()
    }

    #[test]
    fn addresses_come_before_the_routes_that_need_them() {
        let inside = Inside {
            index: 2,
            mac: Mac([2, 0x42, 172, 17, 0, 2]),
            mtu: None,
            addresses: vec!["172.17.0.2/16".parse().unwrap()],
            gateways: vec!["172.17.0.1".parse().unwrap()],
        };
        let expected = [
            "set MAC address 02:42:ac:11:00:02",
            "add address 172.17.0.2/16",
            "add default route by 172.17.0.1",
        ];
        assert_eq!(steps(&inside.batch()), expected);
    }

    #[test]
    fn hairpin_costs_only_who_needs_it() {
        let port = Port {
            index: 7,
            bridge_index: 3,
            mtu: None,
            hairpin: false,
        };
        assert_eq!(steps(&port.batch()), ["connect interface 7 to bridge 3"]);
        let port = Port {
            hairpin: true,
            ..port
        };
        assert_eq!(
            steps(&port.batch()),
            [
                "connect interface 7 to bridge 3",
                "set hairpin mode on interface 7"
            ]
        );
    }
}
