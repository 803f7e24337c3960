//! A container's attachment: a pair's host end becomes a bridge port, its inner end gets addresses and the default route.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage,
};

use super::message::{CREATE, change_link, default_route, device_route, new_address};
use super::shaping::Rate;
use crate::error::NetworkError;
use crate::name::Mac;
use crate::netlink::{Batch, Connection, NetlinkError};

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
    /// Whether the port sees no other port of the bridge that is isolated too (Linux 4.18): containers that must not talk to each
    /// other. Frames between ports never pass the firewall, unless `br_netfilter` makes them.
    pub(crate) isolated: bool,
    /// Limit of what goes to the container.
    pub(crate) rate: Option<Rate>,
}

/// What is set up in the container's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    /// The container's interface.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) interface: String,
    /// `None`: the kernel's choice.
    pub(crate) mac: Option<Mac>,
    /// `None`: the kernel's 1500.
    pub(crate) mtu: Option<u32>,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) routes: Vec<DefaultRoute>,
    /// Whether the interface speaks IPv6. Its addresses are refused otherwise.
    pub(crate) ipv6: bool,
    /// `net.ipv4.conf.IFNAME.…` and their values.
    pub(crate) sysctls: Vec<(String, String)>,
    /// Limit of what the container sends. It can't lift it without `CAP_NET_ADMIN`.
    pub(crate) rate: Option<Rate>,
}

/// A default route through an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultRoute {
    /// By way of a gateway.
    By(IpAddr),
    /// Of IPv4 or, when true, IPv6, straight out of the interface.
    Device { ipv6: bool },
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
            batch.push_route(
                step,
                0,
                self.port_message(InfoBridgePort::HairpinMode(true)),
            );
        }
        if self.isolated {
            let step = format!("isolate interface {}", self.index);
            batch.push_route(step, 0, self.port_message(InfoBridgePort::Isolated(true)));
        }
        if let Some(rate) = self.rate {
            rate.push(&mut batch, self.index);
        }
        batch
    }

    /// Port settings are taken only from `RTM_NEWLINK` on what is a port already.
    fn port_message(&self, setting: InfoBridgePort) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = self.index;
        let settings = vec![setting];
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)),
        ])];
        RouteNetlinkMessage::NewLink(message)
    }
}

impl Inside {
    /// Sets up the container's interface over a connection that was opened in its namespace. `sysctls`: writes settings there,
    /// called only where there are any, when the interface has its name and before it has addresses.
    pub(crate) fn execute(
        &self,
        inside: &mut Connection,
        sysctls: impl FnOnce(&Inside) -> Result<(), NetworkError>,
    ) -> Result<(), NetworkError> {
        let mut batch = Batch::new();
        self.push_link(&mut batch);
        if self.ipv6 || !self.sysctls.is_empty() {
            inside.exchange(&mut batch)?;
            sysctls(self)?;
            batch = Batch::new();
        }
        self.push_addresses(&mut batch);
        Ok(inside.exchange(&mut batch)?)
    }

    fn push_link(&self, batch: &mut Batch) {
        let mut attributes: Vec<LinkAttribute> = self
            .mac
            .map(|mac| LinkAttribute::Address(mac.0.to_vec()))
            .into_iter()
            .collect();
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        let step = match self.mac {
            Some(mac) => format!("set MAC address {mac} on {}", self.interface),
            None => format!("bring up {}", self.interface),
        };
        batch.push_route(step, 0, change_link(self.index, attributes, true));
    }

    fn push_addresses(&self, batch: &mut Batch) {
        if let Some(rate) = self.rate {
            rate.push(batch, self.index);
        }
        for address in &self.addresses {
            batch.push_route(
                format!("add address {address}"),
                CREATE,
                new_address(self.index, *address),
            );
        }
        for route in &self.routes {
            route.push(batch, self.index);
        }
    }
}

impl DefaultRoute {
    /// Adds the request that makes this the default route of its family, in place of another.
    pub(crate) fn push(self, batch: &mut Batch, index: u32) {
        let (step, message) = match self {
            DefaultRoute::By(gateway) => (
                format!("add default route by {gateway}"),
                default_route(index, gateway),
            ),
            DefaultRoute::Device { ipv6 } => (
                format!("add default route through interface {index}"),
                device_route(index, ipv6),
            ),
        };
        batch.push_route(step, NLM_F_CREATE | NLM_F_REPLACE, message);
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
            interface: "eth0".into(),
            mac: Some(Mac([2, 0x42, 172, 17, 0, 2])),
            mtu: None,
            addresses: vec!["172.17.0.2/16".parse().unwrap()],
            routes: vec![DefaultRoute::By("172.17.0.1".parse().unwrap())],
            ipv6: false,
            sysctls: Vec::new(),
            rate: None,
        };
        let mut batch = Batch::new();
        inside.push_link(&mut batch);
        inside.push_addresses(&mut batch);
        let expected = [
            "set MAC address 02:42:ac:11:00:02 on eth0",
            "add address 172.17.0.2/16",
            "add default route by 172.17.0.1",
        ];
        assert_eq!(steps(&batch), expected);
    }

    #[test]
    fn port_settings_cost_only_who_needs_them() {
        let port = |hairpin, isolated| Port {
            index: 7,
            bridge_index: 3,
            mtu: None,
            hairpin,
            isolated,
            rate: None,
        };
        let connect = "connect interface 7 to bridge 3";
        assert_eq!(steps(&port(false, false).batch()), [connect]);
        assert_eq!(
            steps(&port(true, true).batch()),
            [
                connect,
                "set hairpin mode on interface 7",
                "isolate interface 7"
            ]
        );
    }
}
