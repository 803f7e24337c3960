//! The host's firewall, as far as container networks need it: masquerading, forwarding, published ports.
//!
//! What should be true is said in [`Change`]s; a back end turns them into its own rules and applies each list in one atomic step.

mod nftables;

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::error::NetworkError;
use crate::record::Protocol;

pub(crate) use nftables::{Attributes, Nftables};

/// What the firewall knows of a bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    pub(crate) bridge: String,
    pub(crate) subnet: Ipv4Net,
    /// Host's address on the bridge; the only one in the subnet that other interfaces may address directly.
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) masquerade: bool,
    /// Whether containers on the network may talk to each other.
    pub(crate) icc: bool,
    /// No way out, no way in.
    pub(crate) internal: bool,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortRule {
    pub(crate) protocol: Protocol,
    /// `0.0.0.0` stands for all addresses of the host.
    pub(crate) host_address: Ipv4Addr,
    pub(crate) host_port: u16,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
}

/// One thing that becomes or ceases to be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    AddNetwork(NetworkRules),
    RemoveNetwork(NetworkRules),
    AddPort(PortRule),
    RemovePort(PortRule),
}

/// A firewall program of the host.
pub(crate) trait Firewall: fmt::Debug + Send {
    /// Throws away every rule of ours, of this or an earlier daemon, and makes `changes` true; in one step, so that traffic sees the
    /// old rules or the new, never none.
    fn reset(&mut self, changes: &[Change]) -> Result<(), NetworkError>;

    /// Makes all of `changes` true, or none.
    fn apply(&mut self, changes: &[Change]) -> Result<(), NetworkError>;
}
