//! What a network's driver contributes: how an attachment is decided upon and made.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addresses::Taken;
use crate::bridge::Bridge;
use crate::error::NetworkError;
use crate::link::{ChildPlan, Inside, Pair, Port};
use crate::name::{Mac, random_id};
use crate::option;
use crate::parent::ParentDriver;
use crate::record::{Endpoint, EndpointRequest, NetworkRecord};

/// A network's driver at work.
#[derive(Debug)]
pub(crate) enum Driver {
    Bridge(Box<Bridge>),
    /// macvlan or ipvlan.
    Parent(Box<ParentDriver>),
    Host,
    Null,
    /// A configuration-only network.
    Config,
}

/// An attachment decided upon: the endpoint and how to make it.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) endpoint: Endpoint,
    pub(crate) link: LinkPlan,
    pub(crate) inside: Inside,
}

/// Where the interface comes from.
#[derive(Debug)]
pub(crate) enum LinkPlan {
    /// A veth pair, whose host end becomes a port of a bridge.
    Port(Port),
    /// A child of an interface of the host.
    Child(ChildPlan),
}

/// The interface of an attachment as far as it is there.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    /// Pair made beforehand; drivers that make no pairs get none.
    pub(crate) pair: Option<Pair>,
    /// Name it gets in the container.
    pub(crate) name: String,
}

impl Driver {
    pub(crate) fn of(record: &NetworkRecord) -> Result<Driver, NetworkError> {
        if record.config_only {
            return Ok(Driver::Config);
        }
        match record.driver.as_str() {
            "bridge" => Ok(Driver::Bridge(Box::new(Bridge::from_record(record)?))),
            "macvlan" | "ipvlan" => {
                Ok(Driver::Parent(Box::new(ParentDriver::from_record(record)?)))
            }
            "host" => Ok(Driver::Host),
            "null" => Ok(Driver::Null),
            other => Err(NetworkError::NotImplemented(format!(
                "network driver {other}"
            ))),
        }
    }

    /// Whether attachments are veth pairs.
    pub(crate) fn wants_pair(&self) -> bool {
        matches!(self, Driver::Bridge(_))
    }

    /// Beginning of interface names in containers.
    pub(crate) fn interface_prefix(&self) -> &str {
        match self {
            Driver::Bridge(bridge) => &bridge.options.interface_prefix,
            Driver::Parent(parent) => &parent.interface_prefix,
            Driver::Host | Driver::Null | Driver::Config => "eth",
        }
    }
}

/// The endpoint that a request becomes with these addresses.
pub(crate) fn new_endpoint(
    record: &NetworkRecord,
    request: &EndpointRequest,
    taken: &Taken,
    mac: Mac,
    interface: &str,
) -> Endpoint {
    // Nothing leads out of an internal network.
    let leads_out = !record.internal;
    Endpoint {
        endpoint_id: random_id(),
        network_id: record.id.clone(),
        network_name: record.name.clone(),
        address: taken.v4.map(|v4| IpAddr::V4(v4.address)),
        prefix_len: taken.v4.map_or(0, |v4| v4.prefix_len),
        gateway: taken
            .v4
            .and_then(|v4| v4.gateway)
            .filter(|_| leads_out)
            .map(IpAddr::V4),
        address6: taken.v6.map(|v6| v6.address),
        prefix_len6: taken.v6.map_or(0, |v6| v6.prefix_len),
        gateway6: taken.v6.and_then(|v6| v6.gateway).filter(|_| leads_out),
        gw_priority: request.gw_priority,
        interface: interface.to_owned(),
        mac: mac.to_string(),
        ..Endpoint::default()
    }
}

/// The MAC address wished for, or the one that follows from the IPv4 address.
pub(crate) fn mac_of(request: &EndpointRequest, taken: &Taken) -> Result<Mac, NetworkError> {
    let option = request.driver_opts.get(option::ENDPOINT_MAC);
    let wished = request
        .mac
        .as_ref()
        .or(option)
        .filter(|mac| !mac.is_empty())
        .map(|mac| parse_mac(mac))
        .transpose()?;
    Ok(wished.unwrap_or_else(|| Mac::for_address(taken.v4.map(|v4| IpAddr::V4(v4.address)))))
}

/// What is set up in the container.
pub(crate) fn inside(
    endpoint: &Endpoint,
    request: &EndpointRequest,
    interface: &Interface,
    mac: Option<Mac>,
    mtu: Option<u32>,
) -> Inside {
    let v4 = endpoint
        .address
        .and_then(|address| IpNet::new(address, endpoint.prefix_len).ok());
    let v6 = endpoint
        .address6
        .and_then(|address| IpNet::new(address.into(), endpoint.prefix_len6).ok());
    let link_local = request.link_local.iter().map(|address| match address {
        // As Docker adds them: a /16 of 169.254.0.0, a /64 of fe80::.
        IpAddr::V4(_) => IpNet::new(*address, 16).expect("16 is a valid length"),
        IpAddr::V6(_) => IpNet::new(*address, 64).expect("64 is a valid length"),
    });
    Inside {
        index: interface.pair.as_ref().map_or(0, |pair| pair.inside_index),
        mac,
        mtu,
        addresses: v4.into_iter().chain(v6).chain(link_local).collect(),
        routes: Vec::new(),
        ipv6: endpoint.address6.is_some() || request.link_local.iter().any(IpAddr::is_ipv6),
        sysctls: sysctls(&request.driver_opts),
        rate: None,
        interface: interface.name.clone(),
    }
}

/// `net.ipv4.conf.IFNAME.log_martians=1,…` as pairs; what is malformed has been refused before.
fn sysctls(options: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let text = options
        .get(option::ENDPOINT_SYSCTLS)
        .map_or("", String::as_str);
    text.split(',')
        .filter_map(|setting| setting.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

fn parse_mac(text: &str) -> Result<Mac, NetworkError> {
    text.parse()
        .map_err(|()| NetworkError::Invalid(format!("invalid MAC address: {text}")))
}
