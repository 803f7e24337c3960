//! The host's firewall, as far as container networks need it: masquerading, forwarding, published ports.
//!
//! What should be true is said in [`Change`]s; a back end turns them into its own rules and applies each list in one atomic step.

mod firewalld;
mod iptables;
mod nftables;
mod watch;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::NetworkError;
use crate::option::GatewayMode;
use crate::record::{FirewallBackend, Protocol};
use iptables::Iptables;
use nftables::Nftables;

pub(crate) use firewalld::{Firewalld, Owner};
pub(crate) use nftables::Attributes;
pub(crate) use watch::{Watch, Watched};

/// What the firewall knows of a bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    pub(crate) bridge: String,
    pub(crate) masquerade: bool,
    /// Whether containers on the network may talk to each other.
    pub(crate) icc: bool,
    /// No way out, no way in.
    pub(crate) internal: bool,
    /// Interfaces of the host whose neighbours may address containers directly.
    pub(crate) trusted: Vec<String>,
    /// Everybody may (`--allow-direct-routing`); only published ports answer all the same.
    pub(crate) allows_direct_routing: bool,
    pub(crate) v4: Option<FamilyRules>,
    pub(crate) v6: Option<FamilyRules>,
}

impl NetworkRules {
    /// Whether published ports answer at container addresses too.
    pub(crate) fn is_direct(&self, mode: GatewayMode) -> bool {
        mode == GatewayMode::Routed || self.allows_direct_routing || !self.trusted.is_empty()
    }
}

/// One address family of a bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FamilyRules {
    pub(crate) subnet: IpNet,
    /// Host's address on the bridge; the only one in the subnet that other interfaces may address directly.
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) mode: GatewayMode,
    /// What leaves has this source address; `None`: that of the interface it leaves by.
    pub(crate) source: Option<IpAddr>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortRule {
    /// The container's.
    pub(crate) bridge: String,
    /// Its network's, in the family of the addresses.
    pub(crate) mode: GatewayMode,
    /// Whether it answers at the container's address too.
    pub(crate) direct: bool,
    pub(crate) protocol: Protocol,
    /// `0.0.0.0` or `::` stands for all addresses of the host.
    pub(crate) host_address: IpAddr,
    pub(crate) host_port: u16,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// A port that one container may ask of another where others may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkRule {
    /// Of both containers.
    pub(crate) bridge: String,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// One thing that becomes or ceases to be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    AddNetwork(NetworkRules),
    RemoveNetwork(NetworkRules),
    AddPort(PortRule),
    RemovePort(PortRule),
    AddLink(LinkRule),
    RemoveLink(LinkRule),
}

/// Some of the two address families: those that are ours to guard (`--iptables`, `--ip6tables`), those that something is true of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    /// Those of either.
    pub(crate) fn or(self, other: Families) -> Families {
        Families {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }
}

/// A firewall program of the host.
pub(crate) trait Firewall: fmt::Debug + Send {
    /// Throws away every rule of ours, of this or an earlier daemon, and makes `changes` true; in one step, so that traffic sees the
    /// old rules or the new, never none.
    fn reset(&mut self, changes: &[Change]) -> Result<(), NetworkError>;

    /// Makes all of `changes` true, or none.
    fn apply(&mut self, changes: &[Change]) -> Result<(), NetworkError>;

    /// Whether everything in `changes` is still true, after somebody else changed rules.
    fn is_intact(&mut self, changes: &[Change]) -> bool;

    /// Drops what the host forwards between interfaces that are none of ours, of families that it did not forward until now. Docker
    /// does so with iptables; with nftables that stays the administrator's decision.
    fn drop_forwarded(&mut self, _: Families) -> Result<(), NetworkError> {
        Ok(())
    }

    /// As `info` shows it.
    fn name(&self) -> &'static str;

    /// Netlink port number that its changes come from, where it is one.
    fn sender(&self) -> Option<u32> {
        None
    }

    /// Tables in which something may be missing.
    fn tables(&self) -> &'static [&'static str];

    /// Those of them in which everything is ours.
    fn own_tables(&self) -> &'static [&'static str] {
        &[]
    }
}

/// A firewall back end with the rules of `changes`, and none of an earlier daemon's of either back end.
///
/// `auto` is nftables, unless the administrator has rules in `DOCKER-USER` that would lose their effect, or the kernel has no nftables.
/// Its one transaction is the probe: trying first would take an earlier daemon's rules away before the new ones are there.
pub(crate) fn open(
    backend: FirewallBackend,
    families: Families,
    changes: &[Change],
) -> Result<Box<dyn Firewall>, NetworkError> {
    let is_automatic = backend == FirewallBackend::Auto;
    if backend == FirewallBackend::Iptables {
        return open_iptables(families, changes);
    }
    if is_automatic
        && Nftables::has_iptables_chain("DOCKER-USER")
        && Iptables::open(families).is_ok()
    {
        tracing::info!("using iptables: the host has a chain DOCKER-USER");
        return open_iptables(families, changes);
    }
    match open_nftables(families, changes) {
        Err(error) if is_automatic && Iptables::open(families).is_ok() => {
            tracing::info!(%error, "using iptables: nftables does not work here");
            open_iptables(families, changes)
        }
        opened => opened,
    }
}

fn open_iptables(
    families: Families,
    changes: &[Change],
) -> Result<Box<dyn Firewall>, NetworkError> {
    Nftables::remove();
    let mut firewall = Iptables::open(families)?;
    firewall.reset(changes)?;
    Ok(Box::new(firewall))
}

fn open_nftables(
    families: Families,
    changes: &[Change],
) -> Result<Box<dyn Firewall>, NetworkError> {
    if Nftables::has_iptables_chain("DOCKER-FORWARD") {
        iptables::clean_up();
    }
    let mut firewall = Nftables::open(families)?;
    firewall.reset(changes)?;
    Ok(Box::new(firewall))
}

/// Everything that is true after `changes`, where `before` says what was.
pub(crate) fn after(before: Vec<Change>, changes: &[Change]) -> Vec<Change> {
    let mut all = before;
    for change in changes {
        match change {
            Change::RemoveNetwork(network) => {
                all.retain(|other| *other != Change::AddNetwork(network.clone()));
            }
            Change::RemovePort(port) => {
                all.retain(|other| *other != Change::AddPort(port.clone()));
            }
            Change::RemoveLink(link) => {
                all.retain(|other| *other != Change::AddLink(link.clone()));
            }
            add if !all.contains(add) => all.push(add.clone()),
            _ => {}
        }
    }
    all
}
