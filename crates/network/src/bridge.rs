//! The bridge driver: one network on one bridge interface.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::error::NetworkError;
use crate::firewall::{NetworkRules, PortRule};
use crate::ipam::{AddressPool, Refusal};
use crate::link::{BridgePlan, EndpointPlan, Inside, Pair, Port};
use crate::name::{Mac, random_id};
use crate::option;
use crate::ports::Ports;
use crate::record::{Endpoint, EndpointRequest, NetworkRecord, PortMapping};

/// Of a new veth.
const DEFAULT_MTU: u32 = 1500;

/// A bridge network at work.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) plan: BridgePlan,
    /// Index of the interface; it changes when somebody deletes the bridge and it has to be made again.
    pub(crate) index: u32,
    pub(crate) rules: NetworkRules,
    pool: AddressPool,
    gateway: Ipv4Addr,
    fixed_addresses: bool,
    /// Where ports are published that name no address of the host.
    host_binding: Ipv4Addr,
}

/// An attachment decided upon: the endpoint and how to make it.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) endpoint: Endpoint,
    pub(crate) plan: EndpointPlan,
    pub(crate) bridge_name: String,
}

impl Attachment {
    /// What the firewall must translate.
    pub(crate) fn port_rules(&self) -> impl Iterator<Item = PortRule> {
        port_rules(&self.endpoint)
    }
}

/// The published ports of an endpoint as the firewall sees them.
pub(crate) fn port_rules(endpoint: &Endpoint) -> impl Iterator<Item = PortRule> {
    endpoint
        .ports
        .iter()
        .filter_map(|mapping| match (endpoint.address, mapping.host_address) {
            (Some(IpAddr::V4(address)), IpAddr::V4(host_address)) => Some(PortRule {
                protocol: mapping.protocol,
                host_address,
                host_port: mapping.host_port,
                address,
                port: mapping.container_port,
            }),
            _ => None,
        })
}

impl Bridge {
    /// Reads a record; makes nothing.
    pub(crate) fn from_record(record: &NetworkRecord) -> Result<Bridge, NetworkError> {
        let name = record.bridge_name().ok_or_else(|| {
            NetworkError::Invalid(format!("network {} has no bridge", record.name))
        })?;
        let config = record.ipam.config.first();
        let config = config.ok_or_else(|| {
            NetworkError::Invalid(format!("network {} has no IPv4 subnet", record.name))
        })?;
        let subnet: Ipv4Net = parse(&config.subnet, "subnet")?;
        let gateway: Ipv4Addr = parse(&config.gateway, "gateway address")?;
        let range = if config.ip_range.is_empty() {
            None
        } else {
            Some(IpNet::V4(parse(&config.ip_range, "IP range")?))
        };

        let mut pool = AddressPool::new(subnet.into(), range);
        let aux = config
            .aux_addresses
            .values()
            .map(|text| parse::<IpAddr>(text, "auxiliary address"));
        for reserved in std::iter::once(Ok(IpAddr::V4(gateway))).chain(aux) {
            // Two names may reserve one address.
            let _ = pool.take(reserved?);
        }
        let mtu = record
            .options
            .get(option::MTU)
            .filter(|mtu| !mtu.is_empty());
        let mtu = mtu
            .map(|mtu| parse(mtu, "MTU"))
            .transpose()?
            .filter(|mtu| *mtu != 0);
        let address = Ipv4Net::new(gateway, subnet.prefix_len())
            .expect("the length comes from a valid subnet");
        Ok(Bridge {
            plan: BridgePlan {
                name: name.clone(),
                address: Some(address.into()),
                mtu,
            },
            index: 0,
            rules: NetworkRules {
                bridge: name,
                subnet: subnet.trunc(),
                gateway: Some(gateway),
                masquerade: flag(record, option::MASQUERADE, true),
                icc: flag(record, option::ICC, true),
                internal: record.internal,
            },
            pool,
            gateway,
            fixed_addresses: record.ipam.user_chosen,
            host_binding: host_binding(record)?,
        })
    }

    pub(crate) fn subnet(&self) -> IpNet {
        self.pool.subnet()
    }

    /// Keeps the address of an endpoint that lives from before.
    pub(crate) fn adopt(&mut self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        match endpoint.address {
            Some(address) => self
                .pool
                .take(address)
                .map(drop)
                .map_err(|refusal| wish_refused(refusal, address)),
            None => Ok(()),
        }
    }

    /// Decides on an attachment; address and ports are taken when this returns.
    pub(crate) fn plan_attachment(
        &mut self,
        record: &NetworkRecord,
        request: &EndpointRequest,
        interface: &Interface,
        ports: &mut Ports,
    ) -> Result<Attachment, NetworkError> {
        let wished_mac = request
            .mac
            .as_deref()
            .filter(|mac| !mac.is_empty())
            .map(parse_mac)
            .transpose()?;
        let endpoint_id = random_id();
        let published = self.take_ports(record, request, ports).map_err(|source| {
            NetworkError::ExternalConnectivity {
                name: request.container_name.clone(),
                endpoint_id: endpoint_id.clone(),
                source: Box::new(source),
            }
        })?;
        let address = self
            .take_address(record, request.address)
            .inspect_err(|_| {
                published.iter().for_each(|mapping| ports.release(mapping));
            })?;
        let mac = wished_mac.unwrap_or_else(|| Mac::for_address(Some(address)));
        let gateway = (!record.internal).then_some(IpAddr::V4(self.gateway));
        let endpoint = Endpoint {
            endpoint_id,
            network_id: record.id.clone(),
            network_name: record.name.clone(),
            address: Some(address),
            prefix_len: self.subnet().prefix_len(),
            gateway,
            mac: mac.to_string(),
            host_interface: interface.pair.host_name.clone(),
            ports: published,
        };
        let plan = self.plan_links(&endpoint, address, mac, interface);
        Ok(Attachment {
            endpoint,
            plan,
            bridge_name: self.plan.name.clone(),
        })
    }

    fn plan_links(
        &self,
        endpoint: &Endpoint,
        address: IpAddr,
        mac: Mac,
        interface: &Interface,
    ) -> EndpointPlan {
        let address =
            IpNet::new(address, endpoint.prefix_len).expect("the length comes from a valid subnet");
        // Both ends have it already.
        let mtu = self.plan.mtu.filter(|mtu| *mtu != DEFAULT_MTU);
        EndpointPlan {
            port: Port {
                index: interface.pair.host_index,
                bridge_index: self.index,
                mtu,
                hairpin: !endpoint.ports.is_empty(),
            },
            inside: Inside {
                index: interface.pair.inside_index,
                mac,
                mtu,
                addresses: vec![address],
                gateways: endpoint
                    .gateway
                    .filter(|_| interface.default_route)
                    .into_iter()
                    .collect(),
            },
        }
    }

    /// All ports, or none. Nothing is published from an internal network, as in Docker.
    fn take_ports(
        &self,
        record: &NetworkRecord,
        request: &EndpointRequest,
        ports: &mut Ports,
    ) -> Result<Vec<PortMapping>, NetworkError> {
        let mut taken = Vec::new();
        for wanted in request.ports.iter().filter(|_| !record.internal) {
            match ports.take(wanted, self.host_binding) {
                Ok(mapping) => taken.push(mapping),
                Err(error) => {
                    taken.iter().for_each(|mapping| ports.release(mapping));
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Gives the endpoint's address back.
    pub(crate) fn release(&mut self, endpoint: &Endpoint) {
        if let Some(address) = endpoint.address {
            self.pool.release(address);
        }
    }

    fn take_address(
        &mut self,
        record: &NetworkRecord,
        wished: Option<IpAddr>,
    ) -> Result<IpAddr, NetworkError> {
        match wished {
            Some(_) if !self.fixed_addresses => Err(NetworkError::AddressNotSupported),
            Some(address) => self
                .pool
                .take(address)
                .map_err(|refusal| wish_refused(refusal, address)),
            None => self
                .pool
                .take_any()
                .map_err(|_| NetworkError::NoAddressLeft {
                    name: record.name.clone(),
                    id: record.id.clone(),
                }),
        }
    }
}

/// The interface of an attachment.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    pub(crate) pair: Pair,
    /// Whether the default route goes here.
    pub(crate) default_route: bool,
}

fn wish_refused(refusal: Refusal, address: IpAddr) -> NetworkError {
    match refusal {
        Refusal::Taken | Refusal::Exhausted => NetworkError::AddressInUse(address),
        Refusal::OutOfRange => NetworkError::AddressOutOfRange(address),
    }
}

fn parse_mac(text: &str) -> Result<Mac, NetworkError> {
    text.parse()
        .map_err(|()| NetworkError::Invalid(format!("invalid MAC address: {text}")))
}

fn parse<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, NetworkError> {
    text.parse()
        .map_err(|_| NetworkError::Invalid(format!("invalid {what}: {text}")))
}

fn host_binding(record: &NetworkRecord) -> Result<Ipv4Addr, NetworkError> {
    match record.options.get(option::HOST_BINDING).map(String::as_str) {
        None | Some("") => Ok(Ipv4Addr::UNSPECIFIED),
        Some(text) => parse(text, "host binding address"),
    }
}

fn flag(record: &NetworkRecord, name: &str, default: bool) -> bool {
    match record.options.get(name).map(String::as_str) {
        Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
        _ => default,
    }
}
