//! All networks in memory: which there are, who is on them, what an attachment would be.
//!
//! Decides and remembers; what it makes on the host it makes at the start only.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipnet::IpNet;

use crate::bridge::{Bridge, is_interface_name};
use crate::driver::{Attachment, Driver, Interface};
use crate::error::NetworkError;
use crate::firewall::{Change, Families, LinkRule, PortRule};
use crate::host;
use crate::ipam::{SubnetSource, default_sources, local_source};
use crate::link::{read_bridge, routes};
use crate::name::random_id;
use crate::netd::protocol::ForwardedPort;
use crate::netlink::Connection;
use crate::option;
use crate::parent::ParentDriver;
use crate::ports::{Ports, Publishing};
use crate::predefined;
use crate::record::{
    Endpoint, EndpointRequest, NetworkConfig, NetworkRecord, PortMapping, PortRequest,
};

/// All networks, predefined first, then by creation.
#[derive(Debug)]
pub(crate) struct Networks {
    list: Vec<Network>,
    ports: Ports,
    pub(crate) publishing: Publishing,
}

/// A network at work.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) record: NetworkRecord,
    pub(crate) driver: Driver,
    /// By id.
    pub(crate) endpoints: HashMap<String, Endpoint>,
}

/// An endpoint that is gone but for its address and ports, which are given back when the firewall knows.
#[derive(Debug)]
pub(crate) struct Released {
    endpoint: Endpoint,
    /// What the firewall must forget.
    pub(crate) changes: Vec<Change>,
}

impl Networks {
    /// The stored networks and the predefined ones, which keep their ids. Makes nothing yet.
    pub(crate) fn plan(
        config: &NetworkConfig,
        known: Vec<NetworkRecord>,
        host: &mut Connection,
    ) -> Result<Networks, NetworkError> {
        let (stored, mut user_defined): (Vec<_>, Vec<_>) =
            known.into_iter().partition(NetworkRecord::is_predefined);
        user_defined.sort_by(|a, b| a.created.cmp(&b.created));
        let mut records = Vec::new();
        if let Some(interface) = predefined::bridge_interface(config) {
            records.push(plan_default_bridge(config, interface, &user_defined, host)?);
        }
        records.push(predefined::plain("host", "host"));
        records.push(predefined::plain("none", "null"));
        for record in &mut records {
            if let Some(stored) = stored.iter().find(|stored| stored.name == record.name) {
                record.id.clone_from(&stored.id);
                record.created.clone_from(&stored.created);
            }
        }
        records.extend(user_defined);
        let list = records
            .into_iter()
            .map(|record| Networks::start(record, config))
            .collect::<Result<_, _>>()?;
        Ok(Networks {
            list,
            ports: Ports::new(),
            publishing: Publishing::of(config),
        })
    }

    /// A network from its record, with nobody on it.
    pub(crate) fn start(
        record: NetworkRecord,
        config: &NetworkConfig,
    ) -> Result<Network, NetworkError> {
        let mut driver = Driver::of(&record)?;
        if let Driver::Bridge(bridge) = &mut driver {
            bridge.rules.allows_direct_routing = config.allow_direct_routing;
        }
        Ok(Network {
            record,
            driver,
            endpoints: HashMap::new(),
        })
    }

    pub(crate) fn ensure_bridges(
        &mut self,
        config: &NetworkConfig,
        host: &mut Connection,
    ) -> Result<Families, NetworkError> {
        let mut opened = Families::default();
        for network in &mut self.list {
            let is_default = network.record.is_predefined();
            let Some(bridge) = network.bridge_mut() else {
                continue;
            };
            match bridge.plan.ensure(host) {
                Ok(index) => bridge.index = index,
                Err(error) if is_default => return Err(error.into()),
                Err(error) => {
                    // Its own containers do not start; everybody else's do.
                    let name = &network.record.name;
                    tracing::warn!(network = name, %error, "bridge is missing");
                    continue;
                }
            }
            if is_default && !predefined::is_user_managed(config) {
                host::refuse_router_advertisements(&bridge.plan.name)?;
            }
            let now = enable_forwarding(config, &network.record)?;
            opened = opened.or(now);
        }
        self.ensure_parents(host);
        Ok(opened)
    }

    /// Makes parents of macvlan and ipvlan networks that are ours to make. One that can't be made now keeps only its own
    /// containers from starting.
    fn ensure_parents(&self, host: &mut Connection) {
        for network in &self.list {
            if let Driver::Parent(parent) = &network.driver
                && let Err(error) = parent.parent.ensure(host)
            {
                tracing::warn!(network = network.record.name, %error, "parent interface is missing");
            }
        }
    }

    /// Takes over the endpoints of containers that live. One whose network or address is gone is reported and forgotten. `held`:
    /// sockets of an endpoint's ports that outlived the daemon.
    pub(crate) fn adopt(
        &mut self,
        endpoints: &[Endpoint],
        held: impl Fn(&str) -> Vec<(ForwardedPort, Arc<OwnedFd>)>,
    ) {
        for endpoint in endpoints {
            if let Err(error) = self.adopt_one(endpoint, &held(&endpoint.endpoint_id)) {
                tracing::warn!(endpoint = endpoint.endpoint_id, network = endpoint.network_name, %error, "live endpoint is not as it was");
            }
        }
        self.list.iter_mut().for_each(Network::drop_dead_links);
    }

    fn adopt_one(
        &mut self,
        endpoint: &Endpoint,
        held: &[(ForwardedPort, Arc<OwnedFd>)],
    ) -> Result<(), NetworkError> {
        let network = self
            .list
            .iter_mut()
            .find(|network| network.record.id == endpoint.network_id);
        let network =
            network.ok_or_else(|| NetworkError::NotFound(endpoint.network_name.clone()))?;
        match &mut network.driver {
            Driver::Bridge(bridge) => bridge.adopt(endpoint)?,
            Driver::Parent(parent) => parent.adopt(endpoint)?,
            Driver::Host | Driver::Null | Driver::Config => {}
        }
        network
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        let userland = self.publishing.userland;
        endpoint.ports.iter().try_for_each(|mapping| {
            let holds = |port: &ForwardedPort| {
                (port.protocol, port.host_address, port.host_port)
                    == (mapping.protocol, mapping.host_address, mapping.host_port)
            };
            let socket = held.iter().find(|(port, _)| holds(port));
            let socket = socket.map(|(_, socket)| Arc::clone(socket));
            self.ports.adopt(mapping, socket, userland)
        })
    }

    /// Everything that the firewall must know, from nothing.
    pub(crate) fn firewall_changes(&self) -> Vec<Change> {
        let bridges = self
            .list
            .iter()
            .filter_map(|network| match &network.driver {
                Driver::Bridge(bridge) => Some(Change::AddNetwork(bridge.rules.clone())),
                _ => None,
            });
        let of_endpoints = self.list.iter().flat_map(|network| {
            network.endpoints.values().flat_map(|endpoint| {
                let ports = network.port_rules(endpoint).into_iter();
                let links = network.link_rules(endpoint).into_iter();
                ports.map(Change::AddPort).chain(links.map(Change::AddLink))
            })
        });
        bridges.chain(of_endpoints).collect()
    }

    /// Interfaces of all bridge networks.
    pub(crate) fn bridges(&self) -> Vec<String> {
        let bridge = |network: &Network| match &network.driver {
            Driver::Bridge(bridge) => Some(bridge.plan.name.clone()),
            _ => None,
        };
        self.list.iter().filter_map(bridge).collect()
    }

    /// What the firewall must know of an endpoint's published ports.
    pub(crate) fn port_rules(&self, endpoint: &Endpoint) -> Vec<PortRule> {
        let network = self
            .list
            .iter()
            .find(|network| network.record.id == endpoint.network_id);
        network.map_or_else(Vec::new, |network| network.port_rules(endpoint))
    }

    /// What the firewall must know of an endpoint's links.
    pub(crate) fn link_rules(&self, endpoint: &Endpoint) -> Vec<LinkRule> {
        let mut networks = self.list.iter();
        let network = networks.find(|network| network.record.id == endpoint.network_id);
        network.map_or_else(Vec::new, |network| network.link_rules(endpoint))
    }

    /// The interface that each request becomes, in a container that has interfaces called `used`.
    pub(crate) fn interfaces(
        &self,
        requests: &[EndpointRequest],
        used: &[String],
    ) -> Result<Vec<Wanted>, NetworkError> {
        let mut used = used.to_vec();
        let mut wanted = Vec::with_capacity(requests.len());
        for request in requests {
            let network = self.find(&request.network)?;
            let given = request.driver_opts.get(option::ENDPOINT_INTERFACE);
            let name = match given.filter(|name| !name.is_empty()) {
                Some(name) => check_interface_name(name, &used)?,
                None => first_unused(network.driver.interface_prefix(), &used),
            };
            used.push(name.clone());
            wanted.push(Wanted {
                name,
                pair: network.driver.wants_pair(),
            });
        }
        Ok(wanted)
    }

    /// Decides on an attachment; its addresses are taken when this returns.
    pub(crate) fn plan_attachment(
        &mut self,
        request: &EndpointRequest,
        interface: &Interface,
    ) -> Result<Attachment, NetworkError> {
        let position = self.position(&request.network)?;
        let network = &mut self.list[position];
        let alone = |mode: &str| {
            let text =
                "container cannot be connected to multiple networks with one of the networks in";
            NetworkError::Invalid(format!("{text} {mode} mode"))
        };
        let attachment = match &mut network.driver {
            Driver::Bridge(bridge) => {
                bridge.plan_attachment(&network.record, request, interface)?
            }
            Driver::Parent(parent) => {
                parent.plan_attachment(&network.record, request, interface)?
            }
            Driver::Null => return Err(alone("private (none)")),
            Driver::Host => return Err(alone("host")),
            Driver::Config => {
                return Err(NetworkError::Forbidden(format!(
                    "cannot connect container to network {}: configuration networks can't have endpoints",
                    network.record.name
                )));
            }
        };
        let endpoint = &attachment.endpoint;
        network
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        Ok(attachment)
    }

    /// An endpoint without an interface on the network `name`.
    pub(crate) fn bare_endpoint(&mut self, name: &str) -> Result<Endpoint, NetworkError> {
        let position = self.position(name)?;
        let network = &mut self.list[position];
        let endpoint = bare_endpoint(&network.record);
        network
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        Ok(endpoint)
    }

    /// Publishes ports through an endpoint. All, or none.
    pub(crate) fn take_ports(
        &mut self,
        endpoint: &mut Endpoint,
        wanted: &[PortRequest],
    ) -> Result<(), NetworkError> {
        let network = self
            .list
            .iter()
            .find(|network| network.record.id == endpoint.network_id);
        if let Some(Network {
            record,
            driver: Driver::Bridge(bridge),
            ..
        }) = network
            && !record.internal
        {
            let reach = bridge.reach(endpoint, self.publishing);
            let taken = self.ports.take(wanted, &reach);
            endpoint.ports = taken.map_err(|error| self.with_holder(error))?;
        }
        Ok(())
    }

    /// Adds to a refused port who has it.
    fn with_holder(&self, error: NetworkError) -> NetworkError {
        let NetworkError::PortAllocated { binding, .. } = error else {
            return error;
        };
        let has_it = |endpoint: &&Endpoint| {
            let mut ports = endpoint.ports.iter();
            ports.any(|port| format!("{}:{}", port.host_address, port.host_port) == binding)
        };
        let mut endpoints = self
            .list
            .iter()
            .flat_map(|network| network.endpoints.values());
        let holder = endpoints.find(has_it);
        NetworkError::PortAllocated {
            holder: holder.map(|endpoint| endpoint.endpoint_id.clone()),
            binding,
        }
    }

    /// What netd holds of an endpoint's ports.
    pub(crate) fn forwards(&self, endpoint: &Endpoint) -> Vec<(ForwardedPort, Arc<OwnedFd>)> {
        let network = self
            .list
            .iter()
            .find(|network| network.record.id == endpoint.network_id);
        match network.map(|network| &network.driver) {
            Some(Driver::Bridge(bridge)) => {
                let reach = bridge.reach(endpoint, self.publishing);
                self.ports.forwards(&endpoint.ports, &reach)
            }
            _ => Vec::new(),
        }
    }

    /// Gives ports back that no endpoint has any more.
    pub(crate) fn release_ports(&mut self, mappings: &[PortMapping]) {
        mappings
            .iter()
            .for_each(|mapping| self.ports.release(mapping));
    }

    /// Remembers an endpoint that changed.
    pub(crate) fn update(&mut self, endpoint: &Endpoint) {
        if let Some(network) = self.by_id(&endpoint.network_id) {
            network
                .endpoints
                .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        }
    }

    /// Forgets an endpoint. `None` when it was forgotten before: known by its id, not by the address, which may be somebody
    /// else's by now.
    pub(crate) fn release(&mut self, endpoint: &Endpoint) -> Option<Released> {
        let network = self.by_id(&endpoint.network_id)?;
        let endpoint = network.endpoints.remove(&endpoint.endpoint_id)?;
        let ports = network.port_rules(&endpoint).into_iter();
        let links = network.link_rules(&endpoint).into_iter();
        let own = ports
            .map(Change::RemovePort)
            .chain(links.map(Change::RemoveLink));
        let mut changes: Vec<Change> = own.collect();
        changes.extend(network.unlink(&endpoint));
        Some(Released { changes, endpoint })
    }

    /// Gives a released endpoint's addresses and ports to whoever comes next.
    pub(crate) fn give_back(&mut self, released: &Released) {
        let endpoint = &released.endpoint;
        self.release_ports(&endpoint.ports);
        match self
            .by_id(&endpoint.network_id)
            .map(|network| &mut network.driver)
        {
            Some(Driver::Bridge(bridge)) => bridge.release(endpoint),
            Some(Driver::Parent(parent)) => parent.release(endpoint),
            _ => {}
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &NetworkRecord> {
        self.list.iter().map(|network| &network.record)
    }

    pub(crate) fn by_id(&mut self, id: &str) -> Option<&mut Network> {
        self.list.iter_mut().find(|network| network.record.id == id)
    }

    pub(crate) fn with_endpoint(&mut self, id: &str) -> Option<&mut Network> {
        let mut networks = self.list.iter_mut();
        networks.find(|network| network.endpoints.contains_key(id))
    }

    pub(crate) fn find(&self, reference: &str) -> Result<&Network, NetworkError> {
        Ok(&self.list[self.position(reference)?])
    }

    pub(crate) fn add(&mut self, network: Network) {
        self.list.push(network);
    }

    /// Whether a network has this parent interface.
    pub(crate) fn has_parent(&self, name: &str) -> bool {
        self.parents().any(|(_, parent)| parent.parent.name == name)
    }

    /// A parent in pass-through mode has one child alone.
    pub(crate) fn check_parent(&self, new: &Network) -> Result<(), NetworkError> {
        let Driver::Parent(own) = &new.driver else {
            return Ok(());
        };
        let name = &own.parent.name;
        for (record, other) in self
            .parents()
            .filter(|(_, other)| other.parent.name == *name)
        {
            let id = &record.id;
            if own.is_exclusive() {
                return Err(NetworkError::Invalid(format!(
                    "cannot use mode passthru, macvlan network {id} is already using parent interface {name}"
                )));
            }
            if other.is_exclusive() {
                return Err(NetworkError::Invalid(format!(
                    "macvlan network {id} is already using parent interface {name} in mode passthru"
                )));
            }
            if record.driver != new.record.driver {
                // The kernel gives an interface to one of the two drivers.
                return Err(NetworkError::Invalid(format!(
                    "network {id} is already using parent interface {name}"
                )));
            }
        }
        Ok(())
    }

    fn parents(&self) -> impl Iterator<Item = (&NetworkRecord, &ParentDriver)> {
        self.list
            .iter()
            .filter_map(|network| match &network.driver {
                Driver::Parent(parent) => Some((&network.record, &**parent)),
                _ => None,
            })
    }

    /// Takes a network out that may be removed.
    pub(crate) fn take(&mut self, reference: &str) -> Result<Network, NetworkError> {
        let position = self.position(reference)?;
        let network = &self.list[position];
        if network.record.is_predefined() {
            return Err(NetworkError::Predefined(network.record.name.clone()));
        }
        let copied = |other: &Network| other.record.config_from == network.record.name;
        if network.record.config_only && self.list.iter().any(copied) {
            return Err(NetworkError::Forbidden(format!(
                "configuration network {:?} is in use",
                network.record.name
            )));
        }
        if !network.endpoints.is_empty() {
            let id = |endpoint: &Endpoint| format!("id:\"{}\"", &endpoint.endpoint_id[..12]);
            let endpoints = network
                .endpoints
                .values()
                .map(id)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(NetworkError::InUse {
                name: network.record.name.clone(),
                endpoints,
            });
        }
        Ok(self.list.remove(position))
    }

    /// Full id, then name, then id prefix, as Docker looks networks up.
    fn position(&self, reference: &str) -> Result<usize, NetworkError> {
        let not_found = || NetworkError::NotFound(reference.to_owned());
        let by = |fits: &dyn Fn(&NetworkRecord) -> bool| {
            self.list.iter().position(|network| fits(&network.record))
        };
        if reference.is_empty() {
            return Err(not_found());
        }
        if let Some(position) =
            by(&|record| record.id == reference).or_else(|| by(&|record| record.name == reference))
        {
            return Ok(position);
        }
        let mut matches = self
            .list
            .iter()
            .enumerate()
            .filter(|(_, network)| network.record.id.starts_with(reference));
        let (position, _) = matches.next().ok_or_else(not_found)?;
        match matches.count() {
            0 => Ok(position),
            more => Err(NetworkError::Ambiguous(reference.to_owned(), more + 1)),
        }
    }
}

impl Network {
    pub(crate) fn bridge_mut(&mut self) -> Option<&mut Bridge> {
        match &mut self.driver {
            Driver::Bridge(bridge) => Some(bridge),
            _ => None,
        }
    }

    fn port_rules(&self, endpoint: &Endpoint) -> Vec<PortRule> {
        match &self.driver {
            Driver::Bridge(bridge) => bridge.port_rules(endpoint),
            _ => Vec::new(),
        }
    }

    /// Whether links say who may talk to whom.
    pub(crate) fn is_linked(&self) -> bool {
        matches!(&self.driver, Driver::Bridge(bridge) if !bridge.options.icc)
    }

    pub(crate) fn link_rules(&self, endpoint: &Endpoint) -> Vec<LinkRule> {
        match &self.driver {
            Driver::Bridge(bridge) => bridge.link_rules(endpoint),
            _ => Vec::new(),
        }
    }
}

/// An interface to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Name in the container.
    pub(crate) name: String,
    /// Whether it is one end of a veth pair.
    pub(crate) pair: bool,
}

fn check_interface_name(name: &str, used: &[String]) -> Result<String, NetworkError> {
    if !is_interface_name(name) {
        return Err(NetworkError::Invalid(format!(
            "invalid interface name: {name}"
        )));
    }
    if name == "lo" || used.iter().any(|other| other == name) {
        return Err(NetworkError::Forbidden(format!(
            "interface name {name} is already used by the container"
        )));
    }
    Ok(name.to_owned())
}

/// `eth0`, `eth1`, …: the first that nobody has.
fn first_unused(prefix: &str, used: &[String]) -> String {
    (0..)
        .map(|number: u32| format!("{prefix}{number}"))
        .find(|name| !used.contains(name))
        .expect("fewer interfaces than numbers")
}

/// Lets the host forward what a bridge network needs. Says of which families it did not before.
pub(crate) fn enable_forwarding(
    config: &NetworkConfig,
    record: &NetworkRecord,
) -> Result<Families, NetworkError> {
    let on = !config.no_ip_forward;
    let opened = Families {
        v4: on && record.enable_ipv4 && host::enable_ip_forward()?,
        v6: on && record.enable_ipv6 && host::enable_ip6_forward()?,
    };
    if opened.v4 || opened.v6 {
        tracing::info!(?opened, "enabled forwarding on the host");
    }
    Ok(opened)
}

fn bare_endpoint(record: &NetworkRecord) -> Endpoint {
    Endpoint {
        endpoint_id: random_id(),
        network_id: record.id.clone(),
        network_name: record.name.clone(),
        ..Endpoint::default()
    }
}

fn plan_default_bridge(
    config: &NetworkConfig,
    interface: &str,
    others: &[NetworkRecord],
    host: &mut Connection,
) -> Result<NetworkRecord, NetworkError> {
    let state = read_bridge(host, interface)?;
    let index = state.as_ref().map(|state| state.index);
    // The bridge's own route does not speak against its subnet.
    let routed = routes(host)?
        .into_iter()
        .filter(|(_, through)| Some(*through) != index)
        .map(|(net, _)| net);
    let taken = others.iter().flat_map(NetworkRecord::subnets);
    let occupied: Vec<IpNet> = routed.chain(taken).collect();
    predefined::plan_bridge(
        config,
        interface,
        state.as_ref(),
        &sources(config)?,
        &occupied,
    )
}

/// `--default-address-pool`, or Docker's pools, per family.
pub(crate) fn sources(config: &NetworkConfig) -> Result<Vec<SubnetSource>, NetworkError> {
    let mut sources = config
        .default_address_pools
        .iter()
        .map(|(base, size)| source(base, *size))
        .collect::<Result<Vec<_>, _>>()?;
    if !sources.iter().any(|source| source.base.addr().is_ipv4()) {
        sources.extend(default_sources());
    }
    if !sources.iter().any(|source| source.base.addr().is_ipv6()) {
        sources.push(local_source(&config.host_id));
    }
    Ok(sources)
}

fn source(base: &str, size: u8) -> Result<SubnetSource, NetworkError> {
    let parsed: IpNet = base
        .parse()
        .map_err(|_| NetworkError::Invalid(format!("invalid pool base {base}")))?;
    if !(parsed.prefix_len()..=parsed.max_prefix_len()).contains(&size) {
        return Err(NetworkError::Invalid(format!(
            "invalid size {size} for the pool {base}"
        )));
    }
    Ok(SubnetSource {
        base: parsed.trunc(),
        size,
    })
}
