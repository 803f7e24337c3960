//! The bridge driver: one network on one bridge interface.

use std::net::IpAddr;

use crate::addresses::Addresses;
use crate::driver::{Attachment, Interface, LinkPlan, inside, mac_of, new_endpoint};
use crate::error::NetworkError;
use crate::firewall::{FamilyRules, LinkRule, NetworkRules, PortRule};
use crate::host;
use crate::link::{BridgePlan, Inside, Port};
use crate::option::{self, BridgeOptions, GatewayMode};
use crate::ports::{Publishing, Reach};
use crate::record::{Endpoint, EndpointRequest, LinkedPort, NetworkRecord, PortMapping};

/// Of a new veth.
const DEFAULT_MTU: u32 = 1500;

/// A bridge network at work.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) plan: BridgePlan,
    /// Index of the interface; it changes when somebody deletes the bridge and it has to be made again.
    pub(crate) index: u32,
    pub(crate) rules: NetworkRules,
    pub(crate) options: BridgeOptions,
    addresses: Addresses,
}

impl Bridge {
    /// Reads a record; makes nothing.
    pub(crate) fn from_record(record: &NetworkRecord) -> Result<Bridge, NetworkError> {
        let name = record.bridge_name().ok_or_else(|| {
            NetworkError::Invalid(format!("network {} has no bridge", record.name))
        })?;
        let options = BridgeOptions::read(&record.options, record.internal)?;
        let addresses = Addresses::from_record(record)?;
        Ok(Bridge {
            plan: bridge_plan(&name, record, &options, &addresses),
            index: 0,
            rules: network_rules(&name, record, &options, &addresses),
            options,
            addresses,
        })
    }

    /// Keeps the address of an endpoint that lives from before.
    pub(crate) fn adopt(&mut self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        self.addresses.adopt(endpoint)
    }

    /// Decides on an attachment; its addresses are taken when this returns.
    pub(crate) fn plan_attachment(
        &mut self,
        record: &NetworkRecord,
        request: &EndpointRequest,
        interface: &Interface,
    ) -> Result<Attachment, NetworkError> {
        let pair = interface.pair.as_ref().ok_or_else(|| {
            NetworkError::Invalid("an attachment to a bridge needs a veth pair".into())
        })?;
        let rate = |name| option::rate(&request.driver_opts, &record.options, name);
        let (to_container, from_container) =
            (rate(option::RATE_INGRESS)?, rate(option::RATE_EGRESS)?);
        let taken = self.addresses.take(record, request)?;
        let mac = match mac_of(request, &taken) {
            Ok(mac) => mac,
            Err(error) => {
                let unused = new_endpoint(record, request, &taken, crate::name::Mac::random(), "");
                self.addresses.release(&unused);
                return Err(error);
            }
        };
        let mut endpoint = new_endpoint(record, request, &taken, mac, &interface.name);
        endpoint.host_interface.clone_from(&pair.host_name);
        if !self.options.icc {
            endpoint.links.clone_from(&request.links);
        }
        // Both ends have it already.
        let mtu = self.plan.mtu.filter(|mtu| *mtu != DEFAULT_MTU);
        let port = Port {
            index: pair.host_index,
            bridge_index: self.index,
            mtu,
            hairpin: false,
            rate: to_container,
            isolated: !self.options.icc && !host::filters_bridged_packets(),
        };
        Ok(Attachment {
            inside: Inside {
                rate: from_container,
                ..inside(&endpoint, request, interface, Some(mac), mtu)
            },
            link: LinkPlan::Port(port),
            endpoint,
        })
    }

    /// How an endpoint is reached from the host's addresses.
    pub(crate) fn reach(&self, endpoint: &Endpoint, publishing: Publishing) -> Reach {
        let v4 = match endpoint.address {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        let leaves_host_alone = |mode| mode == GatewayMode::Routed;
        Reach {
            v4,
            v6: endpoint.address6,
            routed4: leaves_host_alone(self.options.mode4),
            routed6: leaves_host_alone(self.options.mode6),
            userland: publishing.userland,
            default_address: self.options.host_binding.or(publishing.default_address),
            host_ipv6: publishing.host_ipv6,
        }
    }

    /// What the firewall must know of the endpoint's published ports.
    pub(crate) fn port_rules(&self, endpoint: &Endpoint) -> Vec<PortRule> {
        let rule = |mapping: &PortMapping| {
            let (address, mode): (IpAddr, _) = match mapping.host_address {
                IpAddr::V4(_) => (endpoint.address?, self.options.mode4),
                IpAddr::V6(_) => (endpoint.address6?.into(), self.options.mode6),
            };
            Some(PortRule {
                bridge: self.plan.name.clone(),
                mode,
                direct: self.rules.is_direct(mode),
                protocol: mapping.protocol,
                host_address: mapping.host_address,
                host_port: mapping.host_port,
                address,
                port: mapping.container_port,
            })
        };
        endpoint.ports.iter().filter_map(rule).collect()
    }

    /// What the firewall must know of the endpoint's links.
    pub(crate) fn link_rules(&self, endpoint: &Endpoint) -> Vec<LinkRule> {
        let rule = |link: &LinkedPort| {
            let from = endpoint
                .addresses()
                .find(|own| own.is_ipv4() == link.address.is_ipv4())?;
            Some(LinkRule {
                bridge: self.plan.name.clone(),
                from,
                to: link.address,
                protocol: link.protocol,
                port: link.port,
            })
        };
        endpoint.links.iter().filter_map(rule).collect()
    }

    /// Gives the endpoint's address back.
    pub(crate) fn release(&mut self, endpoint: &Endpoint) {
        self.addresses.release(endpoint);
    }
}

fn bridge_plan(
    name: &str,
    record: &NetworkRecord,
    options: &BridgeOptions,
    addresses: &Addresses,
) -> BridgePlan {
    let v4 = addresses
        .v4()
        .first()
        .filter(|_| !options.inhibit_ipv4 && options.mode4 != GatewayMode::Isolated);
    let v6 = addresses
        .v6()
        .first()
        .filter(|_| options.mode6 != GatewayMode::Isolated);
    BridgePlan {
        name: name.to_owned(),
        address: v4.and_then(super::addresses::Subnet::interface_address),
        address6: v6.and_then(super::addresses::Subnet::interface_address),
        ipv6: record.enable_ipv6,
        keeps_addresses: options.inhibit_ipv4,
        mtu: options.mtu,
    }
}

fn network_rules(
    name: &str,
    record: &NetworkRecord,
    options: &BridgeOptions,
    addresses: &Addresses,
) -> NetworkRules {
    let family = |subnet: &super::addresses::Subnet, mode, source| FamilyRules {
        subnet: subnet.net(),
        gateway: subnet.gateway,
        mode,
        source,
    };
    let v4 = addresses
        .v4()
        .first()
        .map(|subnet| family(subnet, options.mode4, options.source4));
    let v6 = addresses
        .v6()
        .first()
        .map(|subnet| family(subnet, options.mode6, options.source6));
    NetworkRules {
        bridge: name.to_owned(),
        masquerade: options.masquerade,
        icc: options.icc,
        internal: record.internal,
        trusted: options.trusted.clone(),
        allows_direct_routing: false,
        v4,
        v6,
    }
}

/// Whether `name` may be the one of an interface (`dev_valid_name` in the kernel).
pub(crate) fn is_interface_name(name: &str) -> bool {
    /// `IFNAMSIZ` with its zero.
    const MAX: usize = 15;
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace();
    !name.is_empty() && name.len() <= MAX && !name.bytes().any(bad) && name != "." && name != ".."
}

/// Options that only say what a record says elsewhere, so that they are not stored twice.
pub(crate) const FAMILY_OPTIONS: [&str; 2] = [option::ENABLE_IPV4, option::ENABLE_IPV6];
