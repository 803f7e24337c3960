//! The plain values that pass between this crate and the engine: settings, networks, requests, endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dns::socket::ResolverSockets;

/// Daemon-wide settings (dockerd's flags of the same names).
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// Stable name of this host; the default IPv6 pool follows from it.
    pub host_id: String,
    /// `--bip`, CIDR of docker0.
    pub bip: Option<String>,
    /// `--bip6`.
    pub bip6: Option<String>,
    /// `--ipv6`: the default bridge has IPv6 too.
    pub ipv6: bool,
    /// `--fixed-cidr-v6`.
    pub fixed_cidr_v6: Option<String>,
    /// `--default-gateway`: of containers on the default bridge, instead of the bridge's own address.
    pub default_gateway: Option<String>,
    /// `--default-gateway-v6`.
    pub default_gateway_v6: Option<String>,
    /// `--default-network-opt`: options of new networks, by driver.
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
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
    /// `--iptables=false`: leave the IPv4 firewall alone.
    pub no_firewall: bool,
    /// `--ip6tables=false`: leave the IPv6 firewall alone.
    pub no_firewall6: bool,
    /// `--firewall-backend`.
    pub firewall_backend: FirewallBackend,
    /// `--allow-direct-routing`: published ports may be asked for at the container's own address too.
    pub allow_direct_routing: bool,
    /// `--ip-forward-no-drop`.
    pub ip_forward_no_drop: bool,
    /// `--default-address-pool`: base network (CIDR) and size of the subnets cut from it; Docker's own list when empty.
    pub default_address_pools: Vec<(String, u8)>,
    /// `--ip`: where ports are published through the default bridge that name no address of the host.
    pub host_address: Option<IpAddr>,
    /// The same for every network that does not say otherwise.
    pub default_publish_address: Option<IpAddr>,
    /// `--userland-proxy=false`: what address translation does not reach is not reached.
    pub no_userland_proxy: bool,
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

/// How the host's firewall is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirewallBackend {
    /// nftables, unless the host's rules hook into Docker's iptables chains or the kernel has no nftables.
    #[default]
    Auto,
    /// The `iptables` and `ip6tables` programs.
    Iptables,
    /// nftables over netlink.
    Nftables,
}

impl FromStr for FirewallBackend {
    type Err = ();

    fn from_str(text: &str) -> Result<FirewallBackend, ()> {
        match text {
            "" | "auto" => Ok(FirewallBackend::Auto),
            "iptables" => Ok(FirewallBackend::Iptables),
            "nftables" => Ok(FirewallBackend::Nftables),
            _ => Err(()),
        }
    }
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
    /// Only a source of configuration for other networks; nothing can join it.
    #[serde(default)]
    pub config_only: bool,
    /// Network the configuration was copied from; empty: none.
    #[serde(default)]
    pub config_from: String,
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

impl SubnetRecord {
    /// Whether the subnet is an IPv6 one.
    pub fn is_ipv6(&self) -> bool {
        self.subnet.contains(':')
    }
}

/// A network to create. What is left open is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNetwork {
    /// Name.
    pub name: String,
    /// Driver's name.
    pub driver: String,
    /// Whether IPv4 is used; on unless an option says otherwise.
    pub enable_ipv4: Option<bool>,
    /// Whether IPv6 is used; off unless an option says otherwise.
    pub enable_ipv6: Option<bool>,
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
    /// Only a source of configuration for other networks.
    pub config_only: bool,
    /// Network to copy the configuration from; empty: none.
    pub config_from: String,
}

impl NewNetwork {
    /// A bridge network with everything left open, the name included.
    pub fn bridge() -> NewNetwork {
        NewNetwork {
            name: String::new(),
            driver: "bridge".into(),
            enable_ipv4: None,
            enable_ipv6: None,
            internal: false,
            attachable: false,
            ipam: IpamRecord {
                driver: "default".into(),
                ..IpamRecord::default()
            },
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            config_only: false,
            config_from: String::new(),
        }
    }
}

impl NetworkRecord {
    /// Whether it is one of those that every daemon has and nobody can remove.
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }

    /// CIDR of the first IPv4 subnet, empty where there is none.
    pub fn subnet(&self) -> &str {
        self.ipv4().map_or("", |config| config.subnet.as_str())
    }

    /// Gateway of the first IPv4 subnet, empty where there is none.
    pub fn gateway(&self) -> &str {
        self.ipv4().map_or("", |config| config.gateway.as_str())
    }

    fn ipv4(&self) -> Option<&SubnetRecord> {
        self.ipam.config.iter().find(|config| !config.is_ipv6())
    }

    /// All subnets of both families.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.ipam
            .config
            .iter()
            .filter_map(|config| config.subnet.parse().ok())
    }

    /// Name of the bridge interface, for networks of the bridge driver.
    pub fn bridge_name(&self) -> Option<String> {
        if self.driver != "bridge" || self.config_only {
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
    /// Wished-for IPv4 address.
    pub address: Option<IpAddr>,
    /// Wished-for IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// Further addresses of the interface, as they are.
    pub link_local: Vec<IpAddr>,
    /// Wished-for MAC address, `02:42:…` form.
    pub mac: Option<String>,
    /// Ports to publish. They go to whichever network has the default route.
    pub ports: Vec<PortRequest>,
    /// The network with the highest gets the default route.
    pub gw_priority: i64,
    /// `com.docker.network.endpoint.*` and our own.
    pub driver_opts: BTreeMap<String, String>,
    /// What it may ask of others where containers may not talk to each other (`--link` with `--icc=false`).
    pub links: Vec<LinkedPort>,
}

/// A port of another container on the same network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedPort {
    /// The other's address.
    pub address: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// A port that it exposes.
    pub port: u16,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 64 hex.
    pub endpoint_id: String,
    /// Network's id.
    pub network_id: String,
    /// Network's name.
    pub network_name: String,
    /// IPv4 address in the container; none on `host` and `none`.
    pub address: Option<IpAddr>,
    /// Its prefix length.
    pub prefix_len: u8,
    /// Where a default route through this network goes.
    pub gateway: Option<IpAddr>,
    /// IPv6 address in the container.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
    /// Its prefix length.
    #[serde(default)]
    pub prefix_len6: u8,
    /// Where an IPv6 default route through this network goes.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// A default route through this network needs no gateway (ipvlan in layer 3).
    #[serde(default)]
    pub device_route: bool,
    /// The endpoint with the highest has the default route.
    #[serde(default)]
    pub gw_priority: i64,
    /// Interface in the container, empty on `host` and `none`.
    #[serde(default)]
    pub interface: String,
    /// `02:42:…` form, empty on `host` and `none`.
    pub mac: String,
    /// Host end of the veth pair, empty on `host` and `none`.
    pub host_interface: String,
    /// Ports published through this endpoint.
    pub ports: Vec<PortMapping>,
    /// What it may ask of others on a network without communication between containers.
    #[serde(default)]
    pub links: Vec<LinkedPort>,
}

impl Endpoint {
    /// Addresses in the container, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.address6.map(IpAddr::V6);
        self.address.into_iter().chain(v6)
    }
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
