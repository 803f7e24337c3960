//! Container networks: address management, plans, netlink, firewall.
//!
//! In: network definitions and endpoint requests. Out: ready network namespaces with addresses. Blocking code, no async.
//! Knows nothing of containers but their id and names. Owns no database: the engine stores [`NetworkRecord`]s.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Daemon-wide settings (dockerd's flags of the same names).
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// `--bip`, CIDR of docker0.
    pub bip: Option<String>,
    /// `--bridge`; `Some("none")` disables the default bridge.
    pub bridge: Option<String>,
    /// `--mtu`.
    pub mtu: Option<u32>,
    /// `--ip-masq`, on unless said otherwise.
    pub no_ip_masq: bool,
    /// `--ip-forward`, on unless said otherwise.
    pub no_ip_forward: bool,
    /// `--iptables=false`: leave the firewall alone.
    pub no_firewall: bool,
}

/// A network, as stored and as inspected.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct NetworkRecord {
    /// 64 hex.
    pub id: String,
    /// `bridge`, `host`, `none`, or user-defined.
    pub name: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// RFC 3339.
    pub created: String,
    /// CIDR, empty for host and null.
    pub subnet: String,
    /// Gateway address.
    pub gateway: String,
}

/// One attachment of a container to a network.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Endpoint {
    /// 64 hex.
    pub endpoint_id: String,
    /// Network's id.
    pub network_id: String,
    /// Network's name.
    pub network_name: String,
    /// Address in the container.
    pub address: Option<IpAddr>,
    /// Its prefix length.
    pub prefix_len: u8,
    /// Default route.
    pub gateway: Option<IpAddr>,
    /// `02:42:…` form.
    pub mac: String,
    /// Host end of the veth pair.
    pub host_interface: String,
}

/// A ready network namespace and what it is attached to.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespace; it dies with its last process and descriptor.
    pub netns: OwnedFd,
    /// Attachments.
    pub endpoints: Vec<Endpoint>,
}

/// Owns the host side of all networks.
#[derive(Debug)]
pub struct NetworkManager {}

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network of that name or id.
    #[error("network {0} not found")]
    NotFound(String),
}

impl NetworkManager {
    /// Makes the default bridge and firewall rules true. `known`: records stored earlier; `in_use`: endpoints of containers that
    /// outlived an earlier daemon, whose addresses stay taken.
    pub fn open(_config: NetworkConfig, _known: Vec<NetworkRecord>, _in_use: Vec<Endpoint>) -> Result<NetworkManager, NetworkError> {
        Ok(NetworkManager {})
    }

    /// All networks, predefined first.
    pub fn networks(&self) -> Vec<NetworkRecord> {
        Vec::new()
    }

    /// A namespace with only loopback (`--network none`).
    pub fn isolated(&self) -> Result<Sandbox, NetworkError> {
        Err(NetworkError::NotFound("none".into()))
    }

    /// A namespace attached to `network` (name or id). `ip`, `mac`: wished-for addresses.
    pub fn attach(&self, _container_id: &str, network: &str, _ip: Option<IpAddr>, _mac: Option<String>) -> Result<Sandbox, NetworkError> {
        Err(NetworkError::NotFound(network.to_owned()))
    }

    /// Gives an endpoint's addresses back. Safe to repeat.
    pub fn release(&self, _endpoint: &Endpoint) {}
}
