//! Owns the host side of all networks.

use std::collections::HashMap;

use ipnet::IpNet;
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::bridge::{Attachment, Bridge, Interface};
use crate::error::{NetworkError, Step};
use crate::firewall::{Change, Firewall, Nftables};
use crate::host;
use crate::ipam::{SubnetSource, default_sources};
use crate::link::{link_by_name, read_bridge, routes};
use crate::name::{random_id, random_veth};
use crate::namespace::{Namespace, NamespacePool};
use crate::netlink::Connection;
use crate::predefined;
use crate::record::{Endpoint, EndpointRequest, NetworkConfig, NetworkRecord, Sandbox};

/// Owns the host side of all networks. Works in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NetworkManager {
    /// Held for one exchange; the kernel serializes these itself (RTNL).
    host: Mutex<Connection>,
    /// Held for decisions only, never while the kernel works.
    networks: Mutex<Networks>,
    firewall: Option<Mutex<Box<dyn Firewall>>>,
    namespaces: NamespacePool,
}

/// All networks, predefined first, then by creation.
#[derive(Debug, Default)]
struct Networks {
    list: Vec<Network>,
}

/// A network at work.
#[derive(Debug)]
struct Network {
    record: NetworkRecord,
    driver: Driver,
    /// By id.
    endpoints: HashMap<String, Endpoint>,
}

#[derive(Debug)]
enum Driver {
    Bridge(Box<Bridge>),
    Host,
    Null,
}

impl NetworkManager {
    /// Makes bridges and firewall rules true. `known`: records stored earlier; `in_use`: endpoints of containers that
    /// outlived an earlier daemon, whose addresses stay taken.
    pub fn open(
        config: NetworkConfig,
        known: Vec<NetworkRecord>,
        in_use: Vec<Endpoint>,
    ) -> Result<NetworkManager, NetworkError> {
        let mut host = Connection::open_route().step(|| "open a netlink socket".into())?;
        let namespaces = NamespacePool::start()?;
        let mut networks = Networks::plan(&config, known, &mut host)?;
        networks.ensure_bridges(&config, &mut host)?;
        networks.adopt(in_use);
        let firewall = if config.no_firewall {
            None
        } else {
            Some(open_firewall(&networks)?)
        };
        Ok(NetworkManager {
            host: Mutex::new(host),
            networks: Mutex::new(networks),
            firewall,
            namespaces,
        })
    }

    /// All networks, predefined first. After [`NetworkManager::open`] the caller stores those it did not know.
    pub fn networks(&self) -> Vec<NetworkRecord> {
        self.networks
            .lock()
            .list
            .iter()
            .map(|network| network.record.clone())
            .collect()
    }

    /// The network of that name, id, or unambiguous id prefix.
    pub fn network(&self, reference: &str) -> Result<NetworkRecord, NetworkError> {
        Ok(self.networks.lock().find(reference)?.record.clone())
    }

    /// Endpoints on the network of that id.
    pub fn endpoints(&self, network_id: &str) -> Vec<Endpoint> {
        let networks = self.networks.lock();
        let network = networks
            .list
            .iter()
            .find(|network| network.record.id == network_id);
        network
            .map(|network| network.endpoints.values().cloned().collect())
            .unwrap_or_default()
    }

    /// A namespace with only loopback (`--network none`), with the endpoint that `none` shows.
    pub fn isolated(&self) -> Result<Sandbox, NetworkError> {
        let endpoint = self.bare_endpoint("none")?;
        let netns = self
            .namespaces
            .take()?
            .finish()
            .step(|| "finish the network namespace".into())?;
        Ok(Sandbox {
            netns,
            endpoints: vec![endpoint],
        })
    }

    /// The endpoint shown for a container on `host`, which has no interface of its own and no namespace to make.
    pub fn host_endpoint(&self) -> Result<Endpoint, NetworkError> {
        self.bare_endpoint("host")
    }

    /// A namespace attached to every network asked for. The first is the one of the default route.
    pub fn attach(
        &self,
        container_id: &str,
        requests: &[EndpointRequest],
    ) -> Result<Sandbox, NetworkError> {
        let mut namespace = self.namespaces.take()?;
        let mut endpoints = Vec::with_capacity(requests.len());
        for request in requests {
            match self.join(&mut namespace, request, endpoints.len()) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => {
                    tracing::debug!(container_id, network = request.network, %error, "attachment failed");
                    endpoints.iter().for_each(|endpoint| self.release(endpoint));
                    return Err(error);
                }
            }
        }
        match namespace.finish() {
            Ok(netns) => Ok(Sandbox { netns, endpoints }),
            Err(error) => {
                endpoints.iter().for_each(|endpoint| self.release(endpoint));
                Err(NetworkError::io("finish the network namespace", error))
            }
        }
    }

    /// Gives an endpoint's addresses and ports back. Safe to repeat. The veth pair is not removed: it dies with the namespace,
    /// which costs nobody any waiting.
    pub fn release(&self, endpoint: &Endpoint) {
        let mut networks = self.networks.lock();
        let Some(network) = networks
            .list
            .iter_mut()
            .find(|network| network.record.id == endpoint.network_id)
        else {
            return;
        };
        // By the id, not by the address: that may be somebody else's by now.
        let Some(endpoint) = network.endpoints.remove(&endpoint.endpoint_id) else {
            return;
        };
        if let Driver::Bridge(bridge) = &mut network.driver {
            bridge.release(&endpoint);
        }
    }

    fn bare_endpoint(&self, name: &str) -> Result<Endpoint, NetworkError> {
        let mut networks = self.networks.lock();
        let network = networks.find_mut(name)?;
        let endpoint = bare_endpoint(&network.record);
        network
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        Ok(endpoint)
    }

    /// Attaches the namespace to one network. `number`: of the interface.
    fn join(
        &self,
        namespace: &mut Namespace,
        request: &EndpointRequest,
        number: usize,
    ) -> Result<Endpoint, NetworkError> {
        let interface = Interface {
            number,
            index: namespace.take_index(),
            default_route: number == 0,
        };
        let mut attachment = match self.networks.lock().plan_attachment(request, &interface)? {
            Planned::Bare(endpoint) => return Ok(endpoint),
            Planned::Attachment(attachment) => attachment,
        };
        match self.make(namespace, &mut attachment) {
            Ok(()) => Ok(attachment.endpoint),
            Err(error) => {
                self.release(&attachment.endpoint);
                Err(error)
            }
        }
    }

    /// Carries an attachment out. A clash of veth names is answered with another name, a bridge that somebody deleted with
    /// another bridge.
    fn make(
        &self,
        namespace: &mut Namespace,
        attachment: &mut Attachment,
    ) -> Result<(), NetworkError> {
        let mut remade = false;
        loop {
            let (netns, _) = namespace.parts();
            let made = attachment.plan.veth.execute(&mut self.host.lock(), netns);
            let error = match made {
                Ok(()) => return set_up_inside(namespace, attachment),
                Err(error) => error,
            };
            if error.is(Errno::EXIST) {
                self.rename(attachment);
            } else if !remade && self.remake_bridge(attachment)? {
                remade = true;
            } else {
                return Err(error.into());
            }
        }
    }

    fn rename(&self, attachment: &mut Attachment) {
        let name = random_veth();
        attachment.plan.veth.host_name.clone_from(&name);
        attachment.endpoint.host_interface = name;
        let mut networks = self.networks.lock();
        let network = networks
            .list
            .iter_mut()
            .find(|network| network.record.id == attachment.endpoint.network_id);
        if let Some(network) = network {
            network.endpoints.insert(
                attachment.endpoint.endpoint_id.clone(),
                attachment.endpoint.clone(),
            );
        }
    }

    /// Makes the attachment's bridge again if it is gone. Says whether it was.
    fn remake_bridge(&self, attachment: &mut Attachment) -> Result<bool, NetworkError> {
        let id = &attachment.endpoint.network_id;
        let plan = {
            let networks = self.networks.lock();
            networks
                .bridges()
                .find(|(record, _)| record.id == *id)
                .map(|(_, bridge)| bridge.plan.clone())
        };
        let Some(plan) = plan else { return Ok(false) };
        let index = plan.ensure(&mut self.host.lock())?;
        if index == attachment.plan.veth.bridge_index {
            return Ok(false);
        }
        attachment.plan.veth.bridge_index = index;
        if let Some((_, bridge)) = self
            .networks
            .lock()
            .bridges_mut()
            .find(|(record, _)| record.id == *id)
        {
            bridge.index = index;
        }
        Ok(true)
    }
}

/// What a request comes to.
enum Planned {
    /// An endpoint without an interface.
    Bare(Endpoint),
    Attachment(Attachment),
}

impl Networks {
    /// The stored networks and the predefined ones, which keep their ids. Makes nothing yet.
    fn plan(
        config: &NetworkConfig,
        known: Vec<NetworkRecord>,
        host: &mut Connection,
    ) -> Result<Networks, NetworkError> {
        let is_predefined =
            |record: &NetworkRecord| ["bridge", "host", "none"].contains(&record.name.as_str());
        let (stored, user_defined): (Vec<_>, Vec<_>) = known.into_iter().partition(is_predefined);
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
            .map(Network::from_record)
            .collect::<Result<_, _>>()?;
        Ok(Networks { list })
    }

    fn ensure_bridges(
        &mut self,
        config: &NetworkConfig,
        host: &mut Connection,
    ) -> Result<(), NetworkError> {
        for (record, bridge) in self.bridges_mut() {
            bridge.index = bridge.plan.ensure(host)?;
            if record.name == "bridge" && !predefined::is_user_managed(config) {
                host::refuse_router_advertisements(&bridge.plan.name)?;
            }
        }
        if !config.no_ip_forward && self.bridges().next().is_some() && host::enable_ip_forward()? {
            tracing::info!("enabled IPv4 forwarding on the host");
        }
        Ok(())
    }

    /// Takes over the endpoints of containers that live. One whose network or address is gone is reported and forgotten.
    fn adopt(&mut self, endpoints: Vec<Endpoint>) {
        for endpoint in endpoints {
            let Some(network) = self
                .list
                .iter_mut()
                .find(|network| network.record.id == endpoint.network_id)
            else {
                tracing::warn!(
                    endpoint = endpoint.endpoint_id,
                    network = endpoint.network_name,
                    "network of a live endpoint is gone"
                );
                continue;
            };
            if let Driver::Bridge(bridge) = &mut network.driver {
                if let Err(error) = bridge.adopt(&endpoint) {
                    tracing::warn!(endpoint = endpoint.endpoint_id, network = endpoint.network_name, %error, "address of a live endpoint");
                    continue;
                }
            }
            network
                .endpoints
                .insert(endpoint.endpoint_id.clone(), endpoint);
        }
    }

    fn plan_attachment(
        &mut self,
        request: &EndpointRequest,
        interface: &Interface,
    ) -> Result<Planned, NetworkError> {
        let network = self.find_mut(&request.network)?;
        let planned = match &mut network.driver {
            Driver::Bridge(bridge) => {
                Planned::Attachment(bridge.plan_attachment(&network.record, request, interface)?)
            }
            Driver::Null => Planned::Bare(bare_endpoint(&network.record)),
            Driver::Host => {
                let text = "container cannot be connected to host network".to_owned();
                return Err(NetworkError::Invalid(text));
            }
        };
        let endpoint = match &planned {
            Planned::Bare(endpoint) => endpoint,
            Planned::Attachment(attachment) => &attachment.endpoint,
        };
        network
            .endpoints
            .insert(endpoint.endpoint_id.clone(), endpoint.clone());
        Ok(planned)
    }

    fn find(&self, reference: &str) -> Result<&Network, NetworkError> {
        Ok(&self.list[self.position(reference)?])
    }

    fn find_mut(&mut self, reference: &str) -> Result<&mut Network, NetworkError> {
        let position = self.position(reference)?;
        Ok(&mut self.list[position])
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

    fn bridges(&self) -> impl Iterator<Item = (&NetworkRecord, &Bridge)> {
        self.list
            .iter()
            .filter_map(|network| match &network.driver {
                Driver::Bridge(bridge) => Some((&network.record, &**bridge)),
                _ => None,
            })
    }

    fn bridges_mut(&mut self) -> impl Iterator<Item = (&NetworkRecord, &mut Bridge)> {
        self.list
            .iter_mut()
            .filter_map(|network| match &mut network.driver {
                Driver::Bridge(bridge) => Some((&network.record, &mut **bridge)),
                _ => None,
            })
    }
}

impl Network {
    fn from_record(record: NetworkRecord) -> Result<Network, NetworkError> {
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
}

/// The inner end's index was predicted, since asking costs an exchange. After a failed attempt it is another one.
fn set_up_inside(
    namespace: &mut Namespace,
    attachment: &mut Attachment,
) -> Result<(), NetworkError> {
    let (_, connection) = namespace.parts();
    let inside = &mut attachment.plan.inside;
    match inside.execute(connection) {
        Err(error) if error.is(Errno::NODEV) => {
            let link = link_by_name(connection, &attachment.plan.veth.inside_name)?;
            inside.index = link.ok_or(error)?.header.index;
            inside.execute(connection)?;
            namespace.skip_index(attachment.plan.inside.index);
            Ok(())
        }
        other => Ok(other?),
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
fn sources(config: &NetworkConfig) -> Result<Vec<SubnetSource>, NetworkError> {
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

fn open_firewall(networks: &Networks) -> Result<Mutex<Box<dyn Firewall>>, NetworkError> {
    let unavailable = |error: NetworkError| match error {
        NetworkError::Io { what, source } => NetworkError::Io {
            what: format!(
                "{what} (nftables is needed in the kernel; --iptables=false does without firewall rules)"
            ),
            source,
        },
        other => other,
    };
    let mut firewall = Nftables::open().map_err(unavailable)?;
    let changes: Vec<Change> = networks
        .bridges()
        .map(|(_, bridge)| Change::AddNetwork(bridge.rules.clone()))
        .collect();
    firewall.reset(&changes).map_err(unavailable)?;
    Ok(Mutex::new(Box::new(firewall)))
}
