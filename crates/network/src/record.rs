//! The plain values that pass between this crate and the engine: settings, networks, requests, endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dns::socket::ResolverSockets;

/// Daemon-wide settings (dockerd's flags of the same names).
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// `--bip`, CIDR of docker0.
    pub bip: Option<String>,
    /// `--bridge`; `Some("none")` disables the default bridge, another name is a bridge the user manages.
    pub bridge: Option<String>,
    /// `--fixed-cidr`: addresses of the default bridge come from this part of its subnet.
    pub fixed_cidr: Option<String>,
    /// `--mtu`.
    pub mtu: Option<u32>,
    /// `--icc=false`: containers on the default bridge can't talk to each other.
    pub no_icc: bool,
    /// `--ip-masq`, on unless said otherwise.
    pub no_ip_masq: bool,
    /// `--ip-forward`, on unless said otherwise.
    pub no_ip_forward: bool,
    /// `--iptables=false`: leave the firewall alone.
    pub no_firewall: bool,
    /// `--default-address-pool`: base network (CIDR) and size of the subnets cut from it; Docker's own list when empty.
    pub default_address_pools: Vec<(String, u8)>,
    /// Where netd is and what to start it from. Without it there is no DNS and ports are served by translation alone.
    pub netd: Option<NetdConfig>,
}

/// See [`crate::netd`].
#[derive(Debug, Clone)]
pub struct NetdConfig {
    /// Path of its socket.
    pub socket: PathBuf,
    /// The program, started with the argument `netd`; none is a thread of this process.
    pub program: Option<PathBuf>,
}

/// A network, as stored and as inspected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// 64 hex.
    pub id: String,
    /// `bridge`, `host`, `none`, or user-defined.
    pub name: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// RFC 3339.
    pub created: String,
    /// Whether IPv4 is used (create option `EnableIPv4`).
    pub enable_ipv4: bool,
    /// Whether IPv6 is used (create option `EnableIPv6`).
    pub enable_ipv6: bool,
    /// No way out but the bridge itself.
    pub internal: bool,
    /// As given; only swarm looks at it.
    pub attachable: bool,
    /// Address management.
    pub ipam: IpamRecord,
    /// Driver options, `com.docker.network.*` among them.
    pub options: BTreeMap<String, String>,
    /// User's labels.
    pub labels: BTreeMap<String, String>,
}

/// Address management of one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IpamRecord {
    /// `default` or, for host and none, also `default` with no configuration.
    pub driver: String,
    /// Driver options; `None` and empty are told apart by clients.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets, IPv4 first.
    pub config: Vec<SubnetRecord>,
    /// Whether the user chose the subnets; only then fixed addresses are allowed.
    pub user_chosen: bool,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubnetRecord {
    /// CIDR.
    pub subnet: String,
    /// CIDR inside it from which addresses are given; empty: all of it.
    pub ip_range: String,
    /// Gateway address.
    pub gateway: String,
    /// Addresses kept for other uses, by name.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A network to create. What is left open is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNetwork {
    /// Name.
    pub name: String,
    /// Driver's name.
    pub driver: String,
    /// Whether IPv4 is used.
    pub enable_ipv4: bool,
    /// Whether IPv6 is used.
    pub enable_ipv6: bool,
    /// No way out but the bridge itself.
    pub internal: bool,
    /// As given; only swarm looks at it.
    pub attachable: bool,
    /// Address management; no subnets, or ones with empty fields, leave the choice open.
    pub ipam: IpamRecord,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// User's labels.
    pub labels: BTreeMap<String, String>,
}

impl NewNetwork {
    /// A bridge network with everything left open, the name included.
    pub fn bridge() -> NewNetwork {
        NewNetwork {
            name: String::new(),
            driver: "bridge".into(),
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            ipam: IpamRecord {
                driver: "default".into(),
                ..IpamRecord::default()
            },
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl NetworkRecord {
    /// Whether it is one of those that every daemon has and nobody can remove.
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }

    /// CIDR of the IPv4 subnet, empty for host and none.
    pub fn subnet(&self) -> &str {
        self.ipam
            .config
            .first()
            .map_or("", |config| config.subnet.as_str())
    }

    /// Gateway of the IPv4 subnet, empty for host and none.
    pub fn gateway(&self) -> &str {
        self.ipam
            .config
            .first()
            .map_or("", |config| config.gateway.as_str())
    }

    /// Name of the bridge interface, for networks of the bridge driver.
    pub fn bridge_name(&self) -> Option<String> {
        if self.driver != "bridge" {
            return None;
        }
        let named = self
            .options
            .get("com.docker.network.bridge.name")
            .filter(|name| !name.is_empty());
        Some(
            named
                .cloned()
                .unwrap_or_else(|| format!("br-{}", &self.id[..12])),
        )
    }
}

/// `bridge`, `host` and `none`; `default` is another word for the first.
pub(crate) fn is_predefined(name: &str) -> bool {
    ["bridge", "host", "none", "default"].contains(&name)
}

/// What a container asks of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointRequest {
    /// Network's name or id.
    pub network: String,
    /// Container's name, for messages.
    pub container_name: String,
    /// Wished-for address.
    pub address: Option<IpAddr>,
    /// Wished-for MAC address, `02:42:…` form.
    pub mac: Option<String>,
    /// Ports to publish.
    pub ports: Vec<PortRequest>,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp`, `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port in the container.
    pub container_port: u16,
    /// Address of the host; `None`: all.
    pub host_address: Option<IpAddr>,
    /// First port of the host to try; 0: any free one.
    pub host_port: u16,
    /// Last port of the host to try; equal to `host_port` for one port.
    pub host_port_end: u16,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port in the container.
    pub container_port: u16,
    /// Address of the host, `0.0.0.0` for all.
    pub host_address: IpAddr,
    /// Port of the host.
    pub host_port: u16,
}

/// One attachment of a container to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 64 hex.
    pub endpoint_id: String,
    /// Network's id.
    pub network_id: String,
    /// Network's name.
    pub network_name: String,
    /// Address in the container; none on `host` and `none`.
    pub address: Option<IpAddr>,
    /// Its prefix length.
    pub prefix_len: u8,
    /// Default route.
    pub gateway: Option<IpAddr>,
    /// `02:42:…` form, empty on `host` and `none`.
    pub mac: String,
    /// Host end of the veth pair, empty on `host` and `none`.
    pub host_interface: String,
    /// Ports published through this endpoint.
    pub ports: Vec<PortMapping>,
}

/// A ready network namespace and what it is attached to.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespace; it dies with its last process and descriptor.
    pub netns: OwnedFd,
    /// Attachments, in the order asked for.
    pub endpoints: Vec<Endpoint>,
    /// Sockets of its name server, when it is on a network with DNS. To be given to [`crate::NetworkManager::resolve`].
    pub resolver: Option<ResolverSockets>,
}
