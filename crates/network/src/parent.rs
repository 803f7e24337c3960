//! The macvlan and ipvlan drivers: containers on children of an interface of the host.

use std::collections::BTreeMap;

use netlink_packet_route::link::{IpVlanMode, MacVlanMode};

use crate::addresses::Addresses;
use crate::driver::{Attachment, Interface, LinkPlan, inside, mac_of, new_endpoint};
use crate::error::NetworkError;
use crate::link::{ChildKind, ChildPlan, Inside, ParentPlan};
use crate::name::Mac;
use crate::option;
use crate::record::{Endpoint, EndpointRequest, NetworkRecord};

/// A macvlan or ipvlan network at work.
#[derive(Debug)]
pub(crate) struct ParentDriver {
    pub(crate) parent: ParentPlan,
    pub(crate) interface_prefix: String,
    kind: ChildKind,
    mtu: Option<u32>,
    addresses: Addresses,
}

impl ParentDriver {
    /// Reads a record; makes nothing.
    pub(crate) fn from_record(record: &NetworkRecord) -> Result<ParentDriver, NetworkError> {
        Ok(ParentDriver {
            parent: parent_plan(record)?,
            interface_prefix: option::interface_prefix(&record.options),
            kind: kind(&record.driver, &record.options)?,
            mtu: option::mtu(&record.options)?,
            addresses: Addresses::from_record(record)?,
        })
    }

    /// Whether nobody else may have the parent.
    pub(crate) fn is_exclusive(&self) -> bool {
        matches!(self.kind, ChildKind::Macvlan(MacVlanMode::Passthrough))
    }

    /// Keeps the address of an endpoint that lives from before.
    pub(crate) fn adopt(&mut self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        self.addresses.adopt(endpoint)
    }

    /// Gives the endpoint's addresses back.
    pub(crate) fn release(&mut self, endpoint: &Endpoint) {
        self.addresses.release(endpoint);
    }

    /// Decides on an attachment; its addresses are taken when this returns.
    pub(crate) fn plan_attachment(
        &mut self,
        record: &NetworkRecord,
        request: &EndpointRequest,
        interface: &Interface,
    ) -> Result<Attachment, NetworkError> {
        let rate = |name| option::rate(&request.driver_opts, &record.options, name);
        if rate(option::RATE_INGRESS)?.is_some() {
            return Err(NetworkError::NotImplemented(format!(
                "{} on {} networks",
                option::RATE_INGRESS,
                record.driver
            )));
        }
        let from_container = rate(option::RATE_EGRESS)?;
        let taken = self.addresses.take(record, request)?;
        let mac = match self.mac(request, &taken) {
            Ok(mac) => mac,
            Err(error) => {
                let unused = new_endpoint(record, request, &taken, Mac::random(), "");
                self.addresses.release(&unused);
                return Err(error);
            }
        };
        let shown = mac.unwrap_or_else(Mac::random);
        let mut endpoint = new_endpoint(record, request, &taken, shown, &interface.name);
        if mac.is_none() {
            endpoint.mac.clear();
        }
        if matches!(
            self.kind,
            ChildKind::Ipvlan(IpVlanMode::L3 | IpVlanMode::L3S, _)
        ) {
            // Whatever leaves goes through the parent's own routing.
            endpoint.gateway = None;
            endpoint.gateway6 = None;
            endpoint.device_route = !record.internal;
        }
        if self.parent.is_dummy {
            endpoint.gateway = None;
            endpoint.gateway6 = None;
            endpoint.device_route = false;
        }
        Ok(Attachment {
            inside: Inside {
                rate: from_container,
                ..inside(&endpoint, request, interface, mac, self.mtu)
            },
            link: LinkPlan::Child(ChildPlan {
                parent: self.parent.clone(),
                kind: self.kind,
                name: interface.name.clone(),
            }),
            endpoint,
        })
    }

    /// Children of ipvlan have their parent's MAC address.
    fn mac(
        &self,
        request: &EndpointRequest,
        taken: &crate::addresses::Taken,
    ) -> Result<Option<Mac>, NetworkError> {
        match self.kind {
            ChildKind::Ipvlan(..) => Ok(None),
            // The child takes over the parent's own.
            ChildKind::Macvlan(MacVlanMode::Passthrough) => Ok(None),
            ChildKind::Macvlan(_) => mac_of(request, taken).map(Some),
        }
    }
}

/// `-o parent`: an interface, `<interface>.<vlan>` that is made when missing, or nothing: an interface of our own that leads
/// nowhere.
fn parent_plan(record: &NetworkRecord) -> Result<ParentPlan, NetworkError> {
    let name = record.options.get("parent").map_or("", String::as_str);
    if name == "lo" {
        return Err(NetworkError::Invalid(format!(
            "loopback interface is not a valid {} parent link",
            record.driver
        )));
    }
    if !name.is_empty() {
        return Ok(ParentPlan {
            name: name.to_owned(),
            is_dummy: false,
        });
    }
    let prefix = if record.driver == "macvlan" {
        "dm"
    } else {
        "di"
    };
    Ok(ParentPlan {
        name: format!("{prefix}-{}", &record.id[..12]),
        is_dummy: true,
    })
}

fn kind(driver: &str, options: &BTreeMap<String, String>) -> Result<ChildKind, NetworkError> {
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    if driver == "macvlan" {
        return match option("macvlan_mode") {
            "" | "bridge" => Ok(ChildKind::Macvlan(MacVlanMode::Bridge)),
            "private" => Ok(ChildKind::Macvlan(MacVlanMode::Private)),
            "vepa" => Ok(ChildKind::Macvlan(MacVlanMode::Vepa)),
            "passthru" => Ok(ChildKind::Macvlan(MacVlanMode::Passthrough)),
            other => Err(NetworkError::Invalid(format!(
                "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
            ))),
        };
    }
    let mode = match option("ipvlan_mode") {
        "" | "l2" => IpVlanMode::L2,
        "l3" => IpVlanMode::L3,
        "l3s" => IpVlanMode::L3S,
        other => {
            return Err(NetworkError::Invalid(format!(
                "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
            )));
        }
    };
    // Numbers of `IPVLAN_F_*` in linux/if_link.h.
    let flags = match option("ipvlan_flag") {
        "" | "bridge" => 0,
        "private" => 1,
        "vepa" => 2,
        other => {
            return Err(NetworkError::Invalid(format!(
                "requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"
            )));
        }
    };
    Ok(ChildKind::Ipvlan(mode, flags))
}
