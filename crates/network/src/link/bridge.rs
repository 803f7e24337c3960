//! A bridge interface: what is there, what is wanted, and the difference.

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::message::{
    CREATE, change_link, delete_address, ipv4_addresses, link_by_name, new_address, set_up,
};
use crate::name::Mac;
use crate::netlink::{Batch, Connection, NetlinkError};

/// A bridge as it exists on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeState {
    pub(crate) index: u32,
    pub(crate) is_bridge: bool,
    pub(crate) up: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) ipv4: Vec<IpNet>,
}

/// A bridge as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgePlan {
    pub(crate) name: String,
    /// Gateway address with the subnet's prefix; `None` leaves the bridge without an address.
    pub(crate) address: Option<IpNet>,
    pub(crate) mtu: Option<u32>,
}

/// Reads the interface `name`, if there is one.
pub(crate) fn read_bridge(
    connection: &mut Connection,
    name: &str,
) -> Result<Option<BridgeState>, NetlinkError> {
    let Some(link) = link_by_name(connection, name)? else {
        return Ok(None);
    };
    let index = link.header.index;
    Ok(Some(BridgeState {
        index,
        is_bridge: kind(&link) == Some(InfoKind::Bridge),
        up: link.header.flags.contains(LinkFlags::Up),
        mtu: link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            }),
        ipv4: ipv4_addresses(connection, index)?,
    }))
}

fn kind(link: &LinkMessage) -> Option<InfoKind> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
                LinkInfo::Kind(kind) => Some(kind.clone()),
                _ => None,
            }),
            _ => None,
        })
}

impl BridgePlan {
    /// Makes the bridge as planned, keeping what fits. Safe to repeat. Returns its index.
    pub(crate) fn ensure(&self, connection: &mut Connection) -> Result<u32, NetlinkError> {
        let state = match read_bridge(connection, &self.name)? {
            Some(state) => state,
            None => {
                connection.exchange(&mut self.create())?;
                read_bridge(connection, &self.name)?.ok_or_else(|| self.gone())?
            }
        };
        let mut batch = self.adjust(&state);
        if batch.len() > 0 {
            connection.exchange(&mut batch)?;
        }
        Ok(state.index)
    }

    fn create(&self) -> Batch {
        let mut message = LinkMessage::default();
        set_up(&mut message);
        message.attributes = vec![
            LinkAttribute::IfName(self.name.clone()),
            // Without an address of its own a bridge takes the lowest of its ports' and changes with them.
            LinkAttribute::Address(Mac::random().0.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        let mut batch = Batch::new();
        batch.push_route(
            format!("create bridge {}", self.name),
            CREATE,
            RouteNetlinkMessage::NewLink(message),
        );
        batch
    }

    /// What `state` lacks. Docker replaces an address that differs; so do we.
    fn adjust(&self, state: &BridgeState) -> Batch {
        let mut batch = Batch::new();
        if let Some(wanted) = self.address.filter(|wanted| !state.ipv4.contains(wanted)) {
            for old in &state.ipv4 {
                batch.push_route(
                    format!("remove address {old} from {}", self.name),
                    0,
                    delete_address(state.index, *old),
                );
            }
            batch.push_route(
                format!("add address {wanted} to {}", self.name),
                CREATE,
                new_address(state.index, wanted),
            );
        }
        let mtu = self.mtu.filter(|mtu| state.mtu != Some(*mtu));
        if mtu.is_some() || !state.up {
            let attributes = mtu.map(LinkAttribute::Mtu).into_iter().collect();
            batch.push_route(
                format!("bring up {}", self.name),
                0,
                change_link(state.index, attributes, true),
            );
        }
        batch
    }

    fn gone(&self) -> NetlinkError {
        NetlinkError {
            step: format!("create bridge {}", self.name),
            reason: None,
            source: std::io::Error::other("the interface vanished at once"),
        }
    }
}

/// Removes the interface `index`.
pub(crate) fn delete_link(
    connection: &mut Connection,
    name: &str,
    index: u32,
) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let mut batch = Batch::new();
    batch.push_route(
        format!("remove interface {name}"),
        0,
        RouteNetlinkMessage::DelLink(message),
    );
    match connection.exchange(&mut batch) {
        Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(ipv4: &[&str], up: bool) -> BridgeState {
        BridgeState {
            index: 4,
            is_bridge: true,
            up,
            mtu: Some(1500),
            ipv4: ipv4
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
        }
    }

    #[test]
    fn only_differences_are_changed() {
        let plan = BridgePlan {
            name: "docker0".into(),
            address: Some("172.17.0.1/16".parse().unwrap()),
            mtu: Some(1500),
        };
        let rows: [(BridgeState, &[&str]); 4] = [
            (state(&["172.17.0.1/16"], true), &[]),
            (state(&[], true), &["add address 172.17.0.1/16 to docker0"]),
            (
                state(&["10.0.0.1/8"], true),
                &[
                    "remove address 10.0.0.1/8 from docker0",
                    "add address 172.17.0.1/16 to docker0",
                ],
            ),
            (state(&["172.17.0.1/16"], false), &["bring up docker0"]),
        ];
        for (state, expected) in rows {
            let batch = plan.adjust(&state);
            let steps: Vec<&str> = (0..batch.len()).map(|index| batch.step(index)).collect();
            assert_eq!(steps, expected, "{state:?}");
        }
    }
}
