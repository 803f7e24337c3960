//! A bridge interface: what is there, what is wanted, and the difference.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::message::{
    CREATE, addresses, change_link, delete_address, link_by_name, new_address, set_up,
};
use crate::error::{NetworkError, Step};
use crate::host;
use crate::name::Mac;
use crate::netlink::{Batch, Connection, NetlinkError};

const LINK_LOCAL4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);
const LINK_LOCAL6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
const BRIDGE_LINK_LOCAL: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64);

/// A bridge as it exists on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeState {
    pub(crate) index: u32,
    pub(crate) is_bridge: bool,
    pub(crate) up: bool,
    pub(crate) mtu: Option<u32>,
    /// Of both families.
    pub(crate) addresses: Vec<IpNet>,
}

/// A bridge as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgePlan {
    pub(crate) name: String,
    /// Gateway address with the subnet's prefix; `None` leaves the bridge without an address.
    pub(crate) address: Option<IpNet>,
    /// The same for IPv6.
    pub(crate) address6: Option<IpNet>,
    /// Whether the network has IPv6; the bridge then has the link-local `fe80::1` too, as Docker's.
    pub(crate) ipv6: bool,
    /// Whether IPv4 addresses that are there stay (`inhibit_ipv4`: they are the administrator's).
    pub(crate) keeps_addresses: bool,
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
        addresses: addresses(connection, index)?,
    }))
}

/// What an interface is.
pub(super) fn kind(link: &LinkMessage) -> Option<InfoKind> {
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
            Some(state) if state.is_bridge => state,
            Some(_) => {
                let source = io::Error::other("existing interface is not a bridge");
                return Err(self.failure("use", source));
            }
            None => {
                connection.exchange(&mut self.create())?;
                read_bridge(connection, &self.name)?.ok_or_else(|| self.gone())?
            }
        };
        if self.ipv6 {
            host::enable_ipv6(&self.name)
                .map_err(|source| self.failure("enable IPv6 on", source))?;
        }
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
        if !self.keeps_addresses {
            self.adjust_family(&mut batch, state, self.address, IpNet::V4(LINK_LOCAL4));
        }
        if self.ipv6 {
            self.adjust_family(&mut batch, state, self.address6, IpNet::V6(LINK_LOCAL6));
            let own = IpNet::V6(BRIDGE_LINK_LOCAL);
            if self.address6.is_some() && !state.addresses.contains(&own) {
                self.push_new_address(&mut batch, state, own);
            }
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

    /// Replaces the family's addresses by `wanted`, unless it is there. Those in `kept` are nobody's network.
    fn adjust_family(
        &self,
        batch: &mut Batch,
        state: &BridgeState,
        wanted: Option<IpNet>,
        kept: IpNet,
    ) {
        let Some(wanted) = wanted.filter(|wanted| !state.addresses.contains(wanted)) else {
            return;
        };
        let same_family = |old: &&IpNet| old.addr().is_ipv4() == wanted.addr().is_ipv4();
        for old in state.addresses.iter().filter(same_family) {
            if !kept.contains(&old.addr()) {
                batch.push_route(
                    format!("remove address {old} from {}", self.name),
                    0,
                    delete_address(state.index, *old),
                );
            }
        }
        self.push_new_address(batch, state, wanted);
    }

    fn push_new_address(&self, batch: &mut Batch, state: &BridgeState, address: IpNet) {
        batch.push_route(
            format!("add address {address} to {}", self.name),
            CREATE,
            new_address(state.index, address),
        );
    }

    fn gone(&self) -> NetlinkError {
        self.failure(
            "create bridge",
            std::io::Error::other("the interface vanished at once"),
        )
    }

    fn failure(&self, what: &str, source: std::io::Error) -> NetlinkError {
        NetlinkError {
            step: format!("{what} {}", self.name),
            reason: None,
            source,
        }
    }
}

/// How long to wait for an interface to be gone; only a host in trouble takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look whether it is.
const PACE: Duration = Duration::from_micros(200);

/// Removes the interface `index` on a thread of its own, and comes back when nobody finds it any more: that is at once, while the
/// kernel's answer takes tens of milliseconds, until no processor looks at it. The calling thread must be in its namespace.
pub(crate) fn delete_link_soon(name: &str, index: u32) -> Result<(), NetworkError> {
    let mut connection = Connection::open_route().step(|| "open a netlink socket".into())?;
    let (sender, receiver) = mpsc::channel();
    let own_name = name.to_owned();
    thread::Builder::new()
        .name("delete-link".into())
        .stack_size(256 * 1024)
        .spawn(move || {
            let deleted = delete_link(&mut connection, &own_name, index);
            if let Err(error) = &deleted {
                tracing::warn!(%error, "interface of a removed network stays");
            }
            // Nobody listens any more when it took long.
            let _ = sender.send(deleted);
        })
        .step(|| "start the thread delete-link".into())?;
    let socket = any_socket().step(|| "open a socket".into())?;
    let end = Instant::now() + PATIENCE;
    loop {
        match receiver.recv_timeout(PACE) {
            Ok(deleted) => return Ok(deleted?),
            Err(_) if !has_index(&socket, name, index) || Instant::now() > end => return Ok(()),
            Err(_) => {}
        }
    }
}

fn any_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
}

/// Whether an interface is found by its name. This takes no lock of the kernel's, unlike netlink.
fn has_index(socket: &OwnedFd, name: &str, index: u32) -> bool {
    rustix::net::netdevice::name_to_index(socket, name) == Ok(index)
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

    fn state(addresses: &[&str], up: bool) -> BridgeState {
        BridgeState {
            index: 4,
            is_bridge: true,
            up,
            mtu: Some(1500),
            addresses: addresses
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
            address6: None,
            ipv6: false,
            keeps_addresses: false,
            mtu: Some(1500),
        };
        let rows: [(BridgeState, &[&str]); 5] = [
            (state(&["fe80::42/64", "172.17.0.1/16"], true), &[]),
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

    #[test]
    fn a_dual_stack_bridge_has_a_link_local_address_too() {
        let plan = BridgePlan {
            name: "br0".into(),
            address: None,
            address6: Some("fd00:1::1/64".parse().unwrap()),
            ipv6: true,
            keeps_addresses: false,
            mtu: None,
        };
        let batch = plan.adjust(&state(&["fe80::aa/64", "fd00:2::1/64"], true));
        let steps: Vec<&str> = (0..batch.len()).map(|index| batch.step(index)).collect();
        assert_eq!(
            steps,
            [
                "remove address fd00:2::1/64 from br0",
                "add address fd00:1::1/64 to br0",
                "add address fe80::1/64 to br0"
            ]
        );
    }
}
