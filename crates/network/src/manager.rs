//! Owns the host side of all networks.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::bridge::Bridge;
use crate::conntrack::{Stale, Tracked};
use crate::dns::socket::ResolverSockets;
use crate::driver::Driver;
use crate::error::{NetworkError, Step};
use crate::firewall::{self, Change, Families, Firewall, Firewalld, Owner, Watch, Watched};
use crate::ipam::SubnetSource;
use crate::link::{
    ParentPlan, delete_link, delete_link_soon, is_made_kind, link_by_name, read_bridge, routes,
};
use crate::namespace::NamespacePool;
use crate::netd::client::{self, Netd};
use crate::netd::protocol::Resolving;
use crate::netlink::Connection;
use crate::networks::{Networks, enable_forwarding, sources};
use crate::record::{Endpoint, NetworkConfig, NetworkRecord, NewNetwork, PortMapping};
use crate::user_defined;

/// Owns the host side of all networks. Works in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NetworkManager {
    /// Held for one exchange; the kernel serializes these itself (RTNL).
    pub(crate) host: Mutex<Connection>,
    /// The host's namespace, where the outer ends of pairs go.
    pub(crate) host_namespace: Arc<OwnedFd>,
    /// Held for decisions only, never while the kernel makes links.
    pub(crate) networks: Arc<Mutex<Networks>>,
    /// Locked before `networks` where both are.
    pub(crate) firewall: Option<Arc<Mutex<Box<dyn Firewall>>>>,
    _watch: Option<Watch>,
    firewalld: Option<Firewalld>,
    pub(crate) bare: NamespacePool,
    pub(crate) with_pairs: NamespacePool,
    config: NetworkConfig,
    /// Where new networks get their subnets.
    sources: Vec<SubnetSource>,
    /// Held while a network is created or removed, so that these come one after the other.
    changing: Mutex<()>,
    pub(crate) netd: Option<Netd>,
    tracked: Option<Tracked>,
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
        let opened = networks.ensure_bridges(&config, &mut host)?;
        let netd = config.netd.as_ref().map(|netd| {
            let starter = client::starter(netd.program.clone());
            Netd::open(netd.socket.clone(), starter)
        });
        networks.adopt(&in_use, |id| {
            netd.as_ref()
                .map_or_else(Vec::new, |netd| netd.forwarded(id))
        });
        let families = Families {
            v4: !config.no_firewall,
            v6: !config.no_firewall6,
        };
        let firewall = if families.v4 || families.v6 {
            let changes = networks.firewall_changes();
            let mut firewall = firewall::open(config.firewall_backend, families, &changes)?;
            if !config.ip_forward_no_drop {
                firewall.drop_forwarded(opened)?;
            }
            Some(Arc::new(Mutex::new(firewall)))
        } else {
            None
        };
        let networks = Arc::new(Mutex::new(networks));
        let (watch, firewalld) = match &firewall {
            Some(firewall) => (watch(firewall, &networks), firewalld(firewall, &networks)?),
            None => (None, None),
        };
        let manager = NetworkManager {
            host: Mutex::new(host),
            host_namespace: Arc::new(
                wharf_sys::netns::current().step(|| "open the host's network namespace".into())?,
            ),
            networks,
            firewall,
            _watch: watch,
            firewalld,
            bare,
            with_pairs,
            sources: sources(&config)?,
            config,
            changing: Mutex::new(()),
            netd,
            tracked: Tracked::open().ok(),
        };
        manager.settle_held_ports(&in_use)?;
        Ok(manager)
    }

    /// Makes what netd holds of ports follow from who lives: an earlier one may have died with the daemon, or outlived containers.
    fn settle_held_ports(&self, in_use: &[Endpoint]) -> Result<(), NetworkError> {
        let Some(netd) = &self.netd else {
            return Ok(());
        };
        let held = netd.forwarding();
        let lives = |id: &String| in_use.iter().any(|endpoint| endpoint.endpoint_id == *id);
        let gone: Vec<String> = held.iter().filter(|id| !lives(id)).cloned().collect();
        netd.forget(&gone);
        let missing = |endpoint: &&Endpoint| !held.contains(&endpoint.endpoint_id);
        let missing: Vec<Endpoint> = in_use.iter().filter(missing).cloned().collect();
        self.hold_ports(&missing)
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

    /// How the firewall is spoken to; none where it is left alone.
    pub fn firewall_name(&self) -> Option<&'static str> {
        self.firewall
            .as_ref()
            .map(|firewall| firewall.lock().name())
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

    /// Creates a network: its record, its interface on the host, its firewall rules. The caller stores the record.
    pub fn create(&self, new: NewNetwork) -> Result<NetworkRecord, NetworkError> {
        let _changing = self.changing.lock();
        let routed: Vec<_> = routes(&mut self.host.lock())?
            .into_iter()
            .map(|(net, _)| net)
            .collect();
        let mut network = {
            let networks = self.networks.lock();
            let existing: Vec<&NetworkRecord> = networks.records().collect();
            let facts = user_defined::Facts {
                existing: &existing,
                sources: &self.sources,
                routed: &routed,
                config: &self.config,
            };
            let network = Networks::start(user_defined::plan(new, &facts)?, &self.config)?;
            networks.check_parent(&network)?;
            network
        };
        let record = network.record.clone();
        match &mut network.driver {
            Driver::Bridge(bridge) => self.create_bridge(&record, bridge)?,
            Driver::Parent(parent) => {
                parent.parent.ensure(&mut self.host.lock())?;
            }
            Driver::Host | Driver::Null | Driver::Config => {}
        }
        self.networks.lock().add(network);
        Ok(record)
    }

    fn create_bridge(
        &self,
        record: &NetworkRecord,
        bridge: &mut Bridge,
    ) -> Result<(), NetworkError> {
        let made = {
            let mut host = self.host.lock();
            let existing = read_bridge(&mut host, &bridge.plan.name)?;
            if existing
                .as_ref()
                .is_some_and(|existing| !existing.is_bridge)
            {
                return Err(NetworkError::NotABridge(bridge.plan.name.clone()));
            }
            bridge.index = bridge.plan.ensure(&mut host)?;
            existing.is_none()
        };
        if let Some(tracked) = self.tracked.as_ref().filter(|_| record.internal) {
            // Known connections pass the firewall; an internal network begins with none.
            tracked.forget(&Stale::Subnets(record.subnets().collect()));
        }
        let added = enable_forwarding(&self.config, record).and_then(|opened| {
            self.apply(&[Change::AddNetwork(bridge.rules.clone())])?;
            self.drop_forwarded(opened)
        });
        let Err(error) = added else {
            if let Some(firewalld) = &self.firewalld {
                firewalld.add(&bridge.plan.name);
            }
            return Ok(());
        };
        if made {
            let removed = delete_link(&mut self.host.lock(), &bridge.plan.name, bridge.index);
            if let Err(undo) = removed {
                tracing::warn!(bridge = bridge.plan.name, error = %undo, "bridge of a network that failed stays");
            }
        }
        Err(error)
    }

    /// Flows of datagrams begin anew at ports that came or went, within milliseconds.
    pub(crate) fn forget_flows<'a>(&self, ports: impl Iterator<Item = &'a PortMapping>) {
        if let (Some(tracked), Some(stale)) = (&self.tracked, Stale::of_ports(ports)) {
            tracked.forget_soon(stale);
        }
    }

    /// Removes a network that has no endpoints: its rules, its interface, its record. The caller removes the stored record.
    pub fn remove(&self, reference: &str) -> Result<NetworkRecord, NetworkError> {
        let _changing = self.changing.lock();
        let mut network = self.networks.lock().take(reference)?;
        let record = network.record.clone();
        let removed = match &mut network.driver {
            Driver::Bridge(bridge) => self.remove_bridge(bridge),
            Driver::Parent(parent) => self.remove_parent(&parent.parent),
            Driver::Host | Driver::Null | Driver::Config => Ok(()),
        };
        if let Err(error) = removed {
            self.networks.lock().add(network);
            return Err(error);
        }
        Ok(record)
    }

    fn drop_forwarded(&self, opened: Families) -> Result<(), NetworkError> {
        match &self.firewall {
            Some(firewall) if !self.config.ip_forward_no_drop => {
                firewall.lock().drop_forwarded(opened)
            }
            _ => Ok(()),
        }
    }

    fn remove_bridge(&self, bridge: &Bridge) -> Result<(), NetworkError> {
        self.apply(&[Change::RemoveNetwork(bridge.rules.clone())])?;
        if let Some(firewalld) = &self.firewalld {
            firewalld.remove(&bridge.plan.name);
        }
        // What somebody put in its place is not ours.
        match read_bridge(&mut self.host.lock(), &bridge.plan.name)? {
            Some(found) if found.is_bridge => delete_link_soon(&bridge.plan.name, found.index),
            _ => Ok(()),
        }
    }

    /// A parent that was made for its networks goes with the last of them.
    fn remove_parent(&self, parent: &ParentPlan) -> Result<(), NetworkError> {
        let ours = parent.is_dummy || parent.is_vlan();
        if !ours || self.networks.lock().has_parent(&parent.name) {
            return Ok(());
        }
        let mut host = self.host.lock();
        match link_by_name(&mut host, &parent.name)? {
            Some(link) if is_made_kind(&link, parent.is_dummy) => {
                Ok(delete_link(&mut host, &parent.name, link.header.index)?)
            }
            _ => Ok(()),
        }
    }

    /// Makes changes of the firewall true. When it is not as we left it, all rules are made again, with these changes.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<(), NetworkError> {
        let Some(firewall) = self.firewall.as_ref().filter(|_| !changes.is_empty()) else {
            return Ok(());
        };
        let mut firewall = firewall.lock();
        firewall.apply(changes).or_else(|error| {
            let all = firewall::after(self.networks.lock().firewall_changes(), changes);
            tracing::info!(%error, "making the firewall's rules again");
            firewall.reset(&all).map_err(|_| error)
        })
    }
}

/// Has rules made again that somebody else took away. A host that cannot be watched is none the worse until then.
fn watch(
    firewall: &Arc<Mutex<Box<dyn Firewall>>>,
    networks: &Arc<Mutex<Networks>>,
) -> Option<Watch> {
    let watched = {
        let firewall = firewall.lock();
        Watched {
            sender: firewall.sender(),
            tables: firewall.tables(),
            own: firewall.own_tables(),
        }
    };
    Watch::start(watched, restore(firewall, networks))
        .inspect_err(|error| tracing::debug!(%error, "the firewall is not watched"))
        .ok()
}

/// Has bridges in firewalld's zone, and rules made again after its reloads.
fn firewalld(
    firewall: &Arc<Mutex<Box<dyn Firewall>>>,
    networks: &Arc<Mutex<Networks>>,
) -> Result<Option<Firewalld>, NetworkError> {
    let all = Arc::downgrade(networks);
    let bridges = move || {
        let networks = all.upgrade();
        networks.map_or_else(Vec::new, |networks| networks.lock().bridges())
    };
    let restore = restore(firewall, networks);
    Firewalld::start(Owner {
        bridges: Box::new(bridges),
        reloaded: Box::new(move || restore(false)),
    })
}

/// Makes rules again where some are missing; without looking when that is certain.
fn restore(
    firewall: &Arc<Mutex<Box<dyn Firewall>>>,
    networks: &Arc<Mutex<Networks>>,
) -> impl Fn(bool) + Send + 'static {
    let (firewall, networks) = (Arc::downgrade(firewall), Arc::downgrade(networks));
    move |certain| {
        let (Some(firewall), Some(networks)) = (firewall.upgrade(), networks.upgrade()) else {
            return;
        };
        let mut firewall = firewall.lock();
        let changes = networks.lock().firewall_changes();
        if !certain && firewall.is_intact(&changes) {
            return;
        }
        tracing::info!("somebody took firewall rules away; making them again");
        if let Err(error) = firewall.reset(&changes) {
            tracing::error!(%error, "firewall rules are missing");
        }
    }
}
