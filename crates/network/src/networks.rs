//! All networks in memory: which there are, who is on them, what an attachment would be.
//!
//! Decides and remembers; what it makes on the host it makes at the start only.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::bridge::{Attachment, Bridge, Interface, port_rules};
use crate::error::NetworkError;
use crate::firewall::Change;
use crate::host;
use crate::ipam::{SubnetSource, default_sources};
use crate::link::{read_bridge, routes};
use crate::name::random_id;
use crate::netlink::Connection;
use crate::ports::Ports;
use crate::predefined;
use crate::record::{Endpoint, EndpointRequest, NetworkConfig, NetworkRecord};

/// All networks, predefined first, then by creation.
#[derive(Debug)]
pub(crate) struct Networks {
    list: Vec<Network>,
    ports: Ports,
}

/// A network at work.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) record: NetworkRecord,
    driver: Driver,
    /// By id.
    pub(crate) endpoints: HashMap<String, Endpoint>,
}

#[derive(Debug)]
enum Driver {
    Bridge(Box<Bridge>),
    Host,
    Null,
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
            .map(Networks::start)
            .collect::<Result<_, _>>()?;
        Ok(Networks {
            list,
            ports: Ports::new(),
        })
    }

    /// A network from its record, with nobody on it.
    pub(crate) fn start(record: NetworkRecord) -> Result<Network, NetworkError> {
        let driver = match record.driver.as_str() {
            "bridge" => Driver::Bridge(Box::new(Bridge::from_record(&record)?)),
            "host" => Driver::Host,
            "null" => Driver::Null,
            other => {
                return Err(NetworkError::NotImplemented(format!(
                    "network driver {other}"
                )));
            }
        };
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
    ) -> Result<(), NetworkError> {
        let mut any = false;
        for network in &mut self.list {
            let is_default = network.record.is_predefined();
            let Some(bridge) = network.bridge_mut() else {
                continue;
            };
            bridge.index = bridge.plan.ensure(host)?;
            if is_default && !predefined::is_user_managed(config) {
                host::refuse_router_advertisements(&bridge.plan.name)?;
            }
            any = true;
        }
        if any && !config.no_ip_forward && host::enable_ip_forward()? {
            tracing::info!("enabled IPv4 forwarding on the host");
        }
        Ok(())
    }

    /// Takes over the endpoints of containers that live. One whose network or address is gone is reported and forgotten.
    pub(crate) fn adopt(&mut self, endpoints: Vec<Endpoint>) {
        for endpoint in endpoints {
            if let Err(error) = self.adopt_one(&endpoint) {
                tracing::warn!(endpoint = endpoint.endpoint_id, network = endpoint.network_name, %error, "live endpoint is not as it was");
            }
        }
    }

    fn adopt_one(&mut self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        let network = self
            .list
            .iter_mut()
            .find(|network| network.record.id == endpoint.network_id);
        let network =
            network.ok_or_else(|| NetworkError::NotFound(endpoint.network_name.clone()))?;
        if let Some(bridge) = network.bridge_mut() {
            bridge.adopt(endpoint)?;
        }
        network
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        endpoint
            .ports
            .iter()
            .try_for_each(|mapping| self.ports.adopt(mapping))
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
        let endpoints = self
            .list
            .iter()
            .flat_map(|network| network.endpoints.values());
        bridges
            .chain(endpoints.flat_map(port_rules).map(Change::AddPort))
            .collect()
    }

    /// Decides on an attachment; its addresses and ports are taken when this returns.
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
                bridge.plan_attachment(&network.record, request, interface, &mut self.ports)?
            }
            Driver::Null => return Err(alone("private (none)")),
            Driver::Host => return Err(alone("host")),
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

    /// Forgets an endpoint. `None` when it was forgotten before: known by its id, not by the address, which may be somebody
    /// else's by now.
    pub(crate) fn release(&mut self, endpoint: &Endpoint) -> Option<Released> {
        let endpoint = self
            .by_id(&endpoint.network_id)?
            .endpoints
            .remove(&endpoint.endpoint_id)?;
        let changes = port_rules(&endpoint).map(Change::RemovePort).collect();
        Some(Released { endpoint, changes })
    }

    /// Gives a released endpoint's address and ports to whoever comes next.
    pub(crate) fn give_back(&mut self, released: &Released) {
        let endpoint = &released.endpoint;
        endpoint
            .ports
            .iter()
            .for_each(|mapping| self.ports.release(mapping));
        if let Some(bridge) = self
            .by_id(&endpoint.network_id)
            .and_then(Network::bridge_mut)
        {
            bridge.release(endpoint);
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &NetworkRecord> {
        self.list.iter().map(|network| &network.record)
    }

    pub(crate) fn by_id(&mut self, id: &str) -> Option<&mut Network> {
        self.list.iter_mut().find(|network| network.record.id == id)
    }

    pub(crate) fn find(&self, reference: &str) -> Result<&Network, NetworkError> {
        Ok(&self.list[self.position(reference)?])
    }

    pub(crate) fn add(&mut self, network: Network) {
        self.list.push(network);
    }

    /// Takes a network out that may be removed.
    pub(crate) fn take(&mut self, reference: &str) -> Result<Network, NetworkError> {
        let position = self.position(reference)?;
        let network = &self.list[position];
        if network.record.is_predefined() {
            return Err(NetworkError::Predefined(network.record.name.clone()));
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
            Driver::Host | Driver::Null => None,
        }
    }
}

fn bare_endpoint(record: &NetworkRecord) -> Endpoint {
    Endpoint {
        endpoint_id: random_id(),
        network_id: record.id.clone(),
        network_name: record.name.clone(),
        address: None,
        prefix_len: 0,
        gateway: None,
        mac: String::new(),
        host_interface: String::new(),
        ports: Vec::new(),
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
    let taken = others
        .iter()
        .filter_map(|record| record.subnet().parse().ok());
    let occupied: Vec<IpNet> = routed.chain(taken).collect();
    predefined::plan_bridge(
        config,
        interface,
        state.as_ref(),
        &sources(config)?,
        &occupied,
    )
}

/// `--default-address-pool`, or Docker's pools.
pub(crate) fn sources(config: &NetworkConfig) -> Result<Vec<SubnetSource>, NetworkError> {
    if config.default_address_pools.is_empty() {
        return Ok(default_sources());
    }
    let pools = config
        .default_address_pools
        .iter()
        .filter(|(base, _)| !matches!(base.parse(), Ok(IpNet::V6(_))));
    pools
        .map(|(base, size)| {
            let parsed: ipnet::Ipv4Net = base
                .parse()
                .map_err(|_| NetworkError::Invalid(format!("invalid pool base {base}")))?;
            if !(parsed.prefix_len()..=32).contains(size) {
                return Err(NetworkError::Invalid(format!(
                    "invalid size {size} for the pool {base}"
                )));
            }
            Ok(SubnetSource {
                base: parsed.trunc(),
                size: *size,
            })
        })
        .collect()
}
