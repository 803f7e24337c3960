//! Owns the host side of all networks.

use std::os::fd::BorrowedFd;

use parking_lot::Mutex;

use crate::bridge::{Attachment, Interface};
use crate::dns::socket::ResolverSockets;
use crate::error::{NetworkError, Step};
use crate::firewall::{Change, Firewall, Nftables};
use crate::host;
use crate::ipam::SubnetSource;
use crate::link::{delete_link, routes};
use crate::namespace::{self, Namespace, NamespacePool};
use crate::netd::client::{self, Netd};
use crate::netd::protocol::Resolving;
use crate::netlink::Connection;
use crate::networks::{Network, Networks, sources};
use crate::record::{
    Endpoint, EndpointRequest, NetworkConfig, NetworkRecord, NewNetwork, Sandbox, is_predefined,
};
use crate::user_defined;

/// Owns the host side of all networks. Works in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NetworkManager {
    /// Held for one exchange; the kernel serializes these itself (RTNL).
    host: Mutex<Connection>,
    /// Held for decisions only, never while the kernel makes links.
    networks: Mutex<Networks>,
    firewall: Option<Mutex<Box<dyn Firewall>>>,
    bare: NamespacePool,
    with_pairs: NamespacePool,
    /// Where new networks get their subnets.
    sources: Vec<SubnetSource>,
    /// Held while a network is created or removed, so that these come one after the other.
    changing: Mutex<()>,
    netd: Option<Netd>,
}

impl NetworkManager {
    /// Makes bridges and firewall rules true. `known`: records stored earlier; `in_use`: endpoints of containers that
    /// outlived an earlier daemon, whose addresses and ports stay taken.
    pub fn open(
        config: NetworkConfig,
        known: Vec<NetworkRecord>,
        in_use: Vec<Endpoint>,
    ) -> Result<NetworkManager, NetworkError> {
        let mut host = Connection::open_route().step(|| "open a netlink socket".into())?;
        let (bare, with_pairs) = (NamespacePool::bare()?, NamespacePool::with_pairs()?);
        let mut networks = Networks::plan(&config, known, &mut host)?;
        networks.ensure_bridges(&config, &mut host)?;
        networks.adopt(in_use);
        let netd = config.netd.as_ref().map(|netd| {
            let starter = client::starter(netd.program.clone());
            Netd::open(netd.socket.clone(), starter)
        });
        let firewall = if config.no_firewall {
            None
        } else {
            Some(Mutex::new(open_firewall(&networks)?))
        };
        Ok(NetworkManager {
            host: Mutex::new(host),
            networks: Mutex::new(networks),
            firewall,
            bare,
            with_pairs,
            sources: sources(&config)?,
            changing: Mutex::new(()),
            netd,
        })
    }

    /// Has a container's names resolved from now on: with the sockets it was attached with, or with those it has.
    pub fn resolve(
        &self,
        container: Resolving,
        sockets: Option<ResolverSockets>,
    ) -> Result<(), NetworkError> {
        match &self.netd {
            Some(netd) => netd.resolve(container, sockets),
            None => Ok(()),
        }
    }

    /// Whether a container has a name server.
    pub fn has_resolver(&self, container_id: &str) -> bool {
        let netd = self.netd.as_ref();
        netd.is_some_and(|netd| netd.has_resolver(container_id))
    }

    /// Lets names and ports end with a container's process, also while no daemon runs.
    pub fn watch(
        &self,
        container_id: &str,
        endpoints: &[Endpoint],
        pidfd: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let Some(netd) = &self.netd else {
            return Ok(());
        };
        let ids = endpoints
            .iter()
            .map(|endpoint| endpoint.endpoint_id.clone());
        netd.watch(container_id, ids.collect(), pidfd)
    }

    /// Ends a container's name server. When this returns, nobody is told its addresses any more.
    pub fn forget(&self, container_id: &str) {
        if let Some(netd) = &self.netd {
            netd.forget(&[container_id.to_owned()]);
        }
    }

    /// After a start: ends what an earlier daemon left of containers that are not in `living`.
    pub fn forget_others(&self, living: &[String]) {
        let Some(netd) = &self.netd else {
            return;
        };
        let mut gone = netd.resolving();
        gone.retain(|id| !living.contains(id));
        netd.forget(&gone);
    }

    /// All networks, predefined first. After [`NetworkManager::open`] the caller stores those it did not know.
    pub fn networks(&self) -> Vec<NetworkRecord> {
        self.networks.lock().records().cloned().collect()
    }

    /// The network of that name, id, or unambiguous id prefix.
    pub fn network(&self, reference: &str) -> Result<NetworkRecord, NetworkError> {
        Ok(self.networks.lock().find(reference)?.record.clone())
    }

    /// Endpoints on the network of that id.
    pub fn endpoints(&self, network_id: &str) -> Vec<Endpoint> {
        let mut networks = self.networks.lock();
        let network = networks.by_id(network_id);
        network
            .map(|network| network.endpoints.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Creates a network: its record, its bridge, its firewall rules. The caller stores the record.
    pub fn create(&self, new: NewNetwork) -> Result<NetworkRecord, NetworkError> {
        let _changing = self.changing.lock();
        let routed: Vec<_> = routes(&mut self.host.lock())?
            .into_iter()
            .map(|(net, _)| net)
            .collect();
        let mut network = {
            let networks = self.networks.lock();
            let existing: Vec<&NetworkRecord> = networks.records().collect();
            Networks::start(user_defined::plan(new, &existing, &self.sources, &routed)?)?
        };
        let record = network.record.clone();
        if let Some(bridge) = network.bridge_mut() {
            bridge.index = bridge.plan.ensure(&mut self.host.lock())?;
            let added = self.apply(&[Change::AddNetwork(bridge.rules.clone())]);
            if let Err(error) = added {
                let removed = delete_link(&mut self.host.lock(), &bridge.plan.name, bridge.index);
                if let Err(undo) = removed {
                    tracing::warn!(bridge = bridge.plan.name, error = %undo, "bridge of a network that failed stays");
                }
                return Err(error);
            }
        }
        self.networks.lock().add(network);
        Ok(record)
    }

    /// Removes a network that has no endpoints: its rules, its bridge, its record. The caller removes the stored record.
    pub fn remove(&self, reference: &str) -> Result<NetworkRecord, NetworkError> {
        let _changing = self.changing.lock();
        let mut network = self.networks.lock().take(reference)?;
        let record = network.record.clone();
        if let Some(bridge) = network.bridge_mut() {
            let removed = self
                .apply(&[Change::RemoveNetwork(bridge.rules.clone())])
                .and_then(|()| {
                    Ok(delete_link(
                        &mut self.host.lock(),
                        &bridge.plan.name,
                        bridge.index,
                    )?)
                });
            if let Err(error) = removed {
                self.networks.lock().add(network);
                return Err(error);
            }
        }
        Ok(record)
    }

    /// A namespace with only loopback (`--network none`), with the endpoint that `none` shows.
    pub fn isolated(&self) -> Result<Sandbox, NetworkError> {
        let endpoint = self.networks.lock().bare_endpoint("none")?;
        match self.bare.take().and_then(finish) {
            Ok(netns) => Ok(Sandbox {
                netns,
                endpoints: vec![endpoint],
                resolver: None,
            }),
            Err(error) => {
                self.release(&endpoint);
                Err(error)
            }
        }
    }

    /// The endpoint shown for a container on `host`, which has no interface of its own and no namespace to make.
    pub fn host_endpoint(&self) -> Result<Endpoint, NetworkError> {
        self.networks.lock().bare_endpoint("host")
    }

    /// A namespace attached to every network asked for. The first is the one of the default route.
    pub fn attach(
        &self,
        container_id: &str,
        requests: &[EndpointRequest],
    ) -> Result<Sandbox, NetworkError> {
        let mut attempts = 1;
        loop {
            match self.attach_once(requests) {
                // Somebody tidied up on the host and deleted interfaces that wait for their container.
                Err(error) if error.is_no_device() && attempts <= namespace::STOCK => attempts += 1,
                Err(error) => {
                    tracing::debug!(container_id, %error, "attachment failed");
                    return Err(error);
                }
                Ok(sandbox) => return Ok(sandbox),
            }
        }
    }

    fn attach_once(&self, requests: &[EndpointRequest]) -> Result<Sandbox, NetworkError> {
        let mut namespace = self.with_pairs.take()?;
        let mut endpoints = Vec::with_capacity(requests.len());
        let attach_all = || {
            for request in requests {
                endpoints.push(self.join(&mut namespace, request, endpoints.len())?);
            }
            let has_dns = |endpoint: &Endpoint| !is_predefined(&endpoint.network_name);
            let resolver = if self.netd.is_some() && endpoints.iter().any(has_dns) {
                Some(ResolverSockets::open(namespace.descriptor())?)
            } else {
                None
            };
            Ok((finish(namespace)?, resolver))
        };
        match attach_all() {
            Ok((netns, resolver)) => Ok(Sandbox {
                netns,
                endpoints,
                resolver,
            }),
            Err(error) => {
                endpoints.iter().for_each(|endpoint| self.release(endpoint));
                Err(error)
            }
        }
    }

    /// Gives an endpoint's addresses and ports back. Safe to repeat. The veth pair is not removed: it dies with the namespace,
    /// which costs nobody any waiting.
    pub fn release(&self, endpoint: &Endpoint) {
        let Some(released) = self.networks.lock().release(endpoint) else {
            return;
        };
        // The address may be given to another container only when nothing is translated to it any more.
        if let Err(error) = self.apply(&released.changes) {
            tracing::warn!(endpoint = endpoint.endpoint_id, %error, "published ports stay in the firewall");
        }
        self.networks.lock().give_back(&released);
    }

    /// Attaches the namespace to one network. `number`: of the interface.
    fn join(
        &self,
        namespace: &mut Namespace,
        request: &EndpointRequest,
        number: usize,
    ) -> Result<Endpoint, NetworkError> {
        if self.firewall.is_none() && !request.ports.is_empty() {
            return Err(NetworkError::NotImplemented(
                "publishing ports without firewall rules".into(),
            ));
        }
        let interface = Interface {
            pair: namespace.take_pair(number)?,
            default_route: number == 0,
        };
        let mut attachment = self.networks.lock().plan_attachment(request, &interface)?;
        let made = self
            .make(namespace, &mut attachment)
            .and_then(|()| self.publish(&attachment));
        match made {
            Ok(()) => Ok(attachment.endpoint),
            Err(error) => {
                self.release(&attachment.endpoint);
                Err(error)
            }
        }
    }

    /// Carries an attachment out. A bridge that somebody deleted is made again.
    fn make(
        &self,
        namespace: &mut Namespace,
        attachment: &mut Attachment,
    ) -> Result<(), NetworkError> {
        let connected = attachment.plan.port.execute(&mut self.host.lock());
        if let Err(error) = connected {
            if !self.remake_bridge(attachment)? {
                return Err(error.into());
            }
            attachment.plan.port.execute(&mut self.host.lock())?;
        }
        Ok(attachment.plan.inside.execute(&mut namespace.connection)?)
    }

    /// Makes the attachment's bridge again if it is gone. Says whether it was.
    fn remake_bridge(&self, attachment: &mut Attachment) -> Result<bool, NetworkError> {
        let id = &attachment.endpoint.network_id;
        let plan = {
            let mut networks = self.networks.lock();
            networks
                .by_id(id)
                .and_then(Network::bridge_mut)
                .map(|bridge| bridge.plan.clone())
        };
        let Some(plan) = plan else { return Ok(false) };
        let index = plan.ensure(&mut self.host.lock())?;
        if index == attachment.plan.port.bridge_index {
            return Ok(false);
        }
        attachment.plan.port.bridge_index = index;
        if let Some(bridge) = self.networks.lock().by_id(id).and_then(Network::bridge_mut) {
            bridge.index = index;
        }
        Ok(true)
    }

    /// Publishes the attachment's ports in one transaction.
    fn publish(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let changes: Vec<Change> = attachment.port_rules().map(Change::AddPort).collect();
        if changes.is_empty() {
            return Ok(());
        }
        host::enable_route_localnet(&attachment.bridge_name)?;
        self.apply(&changes)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), NetworkError> {
        match &self.firewall {
            Some(firewall) if !changes.is_empty() => firewall.lock().apply(changes),
            _ => Ok(()),
        }
    }
}

fn finish(namespace: Namespace) -> Result<std::os::fd::OwnedFd, NetworkError> {
    namespace
        .finish()
        .step(|| "finish the network namespace".into())
}

/// The host's firewall with the rules of all networks and published ports, and none of an earlier daemon's.
fn open_firewall(networks: &Networks) -> Result<Box<dyn Firewall>, NetworkError> {
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
    firewall
        .reset(&networks.firewall_changes())
        .map_err(unavailable)?;
    Ok(Box::new(firewall))
}
