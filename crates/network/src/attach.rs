//! Connecting containers: a new namespace with all its networks, and one network more or less for a container that runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::dns::socket::ResolverSockets;
use crate::driver::{Attachment, Interface, LinkPlan};
use crate::error::{NetworkError, Step};
use crate::firewall::{Change, LinkRule};
use crate::gateway;
use crate::host;
use crate::link::{delete_link, link_by_name, link_names};
use crate::manager::NetworkManager;
use crate::namespace::{self, Namespace};
use crate::netlink::Batch;
use crate::networks::{Network, Wanted};
use crate::record::{Endpoint, EndpointRequest, PortMapping, PortRequest, Sandbox, is_predefined};

impl NetworkManager {
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

    /// As [`NetworkManager::isolated`], in a namespace that was made elsewhere: one that belongs to a user namespace.
    pub fn isolated_in(&self, netns: OwnedFd) -> Result<Sandbox, NetworkError> {
        let endpoint = self.networks.lock().bare_endpoint("none")?;
        match Namespace::new_elsewhere(netns, Arc::clone(&self.host_namespace)).and_then(finish) {
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

    /// As [`NetworkManager::attach`], in a namespace that was made elsewhere.
    pub fn attach_in(
        &self,
        netns: OwnedFd,
        requests: &[EndpointRequest],
    ) -> Result<Sandbox, NetworkError> {
        let wanted = self.networks.lock().interfaces(requests, &[])?;
        let namespace = Namespace::new_elsewhere(netns, Arc::clone(&self.host_namespace))?;
        self.attach_to(namespace, requests, &wanted)
    }

    /// A namespace attached to every network asked for, in this order.
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
        let wanted = self.networks.lock().interfaces(requests, &[])?;
        let with_pair = wanted.first().is_some_and(|wanted| wanted.pair);
        let stock = if with_pair {
            &self.with_pairs
        } else {
            &self.bare
        };
        self.attach_to(stock.take()?, requests, &wanted)
    }

    fn attach_to(
        &self,
        mut namespace: Namespace,
        requests: &[EndpointRequest],
        wanted: &[Wanted],
    ) -> Result<Sandbox, NetworkError> {
        let mut endpoints = Vec::with_capacity(requests.len());
        let attached = self
            .attach_all(&mut namespace, requests, wanted, &mut endpoints)
            .and_then(|()| self.resolver_for(&namespace, &endpoints))
            .and_then(|resolver| Ok((finish(namespace)?, resolver)));
        match attached {
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

    /// Sockets of a name server in the namespace, if one of its networks has DNS.
    fn resolver_for(
        &self,
        namespace: &Namespace,
        endpoints: &[Endpoint],
    ) -> Result<Option<ResolverSockets>, NetworkError> {
        let has_dns = |endpoint: &Endpoint| !is_predefined(&endpoint.network_name);
        if self.netd.is_some() && endpoints.iter().any(has_dns) {
            ResolverSockets::open(namespace.descriptor()).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Plans all attachments, then makes them: which has the default route follows from all.
    fn attach_all(
        &self,
        namespace: &mut Namespace,
        requests: &[EndpointRequest],
        wanted: &[Wanted],
        endpoints: &mut Vec<Endpoint>,
    ) -> Result<(), NetworkError> {
        let mut attachments = Vec::with_capacity(requests.len());
        for (request, wanted) in requests.iter().zip(wanted) {
            let attachment = self.plan(namespace, request, wanted)?;
            endpoints.push(attachment.endpoint.clone());
            attachments.push(attachment);
        }
        let ports: Vec<PortRequest> = requests
            .iter()
            .flat_map(|request| request.ports.iter().cloned())
            .collect();
        let name = requests
            .first()
            .map_or("", |request| request.container_name.as_str());
        self.take_ports(endpoints, &ports, name)?;
        let chosen = gateway::choose(endpoints);
        for (position, mut attachment) in attachments.into_iter().enumerate() {
            attachment.inside.routes = gateway::routes(endpoints, position, chosen);
            attachment.set_hairpin(!endpoints[position].ports.is_empty());
            self.make(namespace, attachment)?;
        }
        self.publish(endpoints)
    }

    /// Connects a container that runs to one more network. `endpoints`: those it has; the new one is added, and published ports
    /// move with the default route. Nothing changes when this fails.
    pub fn connect(
        &self,
        netns: OwnedFd,
        endpoints: &mut Vec<Endpoint>,
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        let mut namespace = Namespace::existing(netns, Arc::clone(&self.host_namespace))?;
        let connected = self.connect_in(&mut namespace, endpoints, request);
        // Also after a failure, so that the container's own interfaces are as they were.
        let finished = finish(namespace).map(drop);
        connected.and(finished)
    }

    fn connect_in(
        &self,
        namespace: &mut Namespace,
        endpoints: &mut Vec<Endpoint>,
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        let used = link_names(&mut namespace.connection)?;
        let one = std::slice::from_ref(request);
        let wanted = self.networks.lock().interfaces(one, &used)?;
        let planned = self.plan(namespace, request, &wanted[0]);
        let attachment = planned.inspect_err(|_| undo_link(namespace, &wanted[0].name))?;
        let new = attachment.endpoint.clone();
        let before = endpoints.clone();
        endpoints.push(new.clone());
        let connected = self
            .make(namespace, attachment)
            .and_then(|()| self.settle(namespace, &before, endpoints, request));
        if connected.is_err() {
            *endpoints = before;
            self.release(&new);
            undo_link(namespace, &new.interface);
        }
        connected
    }

    /// Takes a container that runs off one of its networks. `netns`: none when its processes are gone already.
    pub fn disconnect(
        &self,
        netns: OwnedFd,
        endpoints: &mut Vec<Endpoint>,
        endpoint_id: &str,
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        let position = endpoints
            .iter()
            .position(|endpoint| endpoint.endpoint_id == endpoint_id);
        let position = position.ok_or_else(|| NetworkError::NotFound(endpoint_id.to_owned()))?;
        let mut namespace = Namespace::existing(netns, Arc::clone(&self.host_namespace))?;
        let before = endpoints.clone();
        let gone = endpoints.remove(position);
        let left = remove_link(&mut namespace, &gone.interface)
            .and_then(|()| self.settle(&mut namespace, &before, endpoints, request));
        let finished = finish(namespace).map(drop);
        // The interface is gone: its address is free whatever else failed.
        self.release(&gone);
        left.and(finished)
    }

    /// Makes default routes and published ports follow from who is connected now.
    fn settle(
        &self,
        namespace: &mut Namespace,
        before: &[Endpoint],
        endpoints: &mut [Endpoint],
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        self.move_ports(before, endpoints, request)?;
        let leads = |endpoints: &[Endpoint], position: Option<usize>| {
            position.map(|position| endpoints[position].endpoint_id.clone())
        };
        let (old, new) = (gateway::choose(before), gateway::choose(endpoints));
        let same = leads(before, old.0) == leads(endpoints, new.0)
            && leads(before, old.1) == leads(endpoints, new.1);
        if same {
            return Ok(());
        }
        let mut batch = Batch::new();
        for position in 0..endpoints.len() {
            let routes = gateway::routes(endpoints, position, new);
            if routes.is_empty() {
                continue;
            }
            let name = &endpoints[position].interface;
            // A container with the right to may have removed its interface.
            if let Some(link) = link_by_name(&mut namespace.connection, name)? {
                for route in routes {
                    route.push(&mut batch, link.header.index);
                }
            }
        }
        if batch.len() > 0 {
            namespace.connection.exchange(&mut batch)?;
        }
        Ok(())
    }

    /// Published ports go where the default route of their family goes; in one firewall transaction.
    fn move_ports(
        &self,
        before: &[Endpoint],
        endpoints: &mut [Endpoint],
        request: &EndpointRequest,
    ) -> Result<(), NetworkError> {
        let mappings: Vec<PortMapping> = before
            .iter()
            .flat_map(|endpoint| endpoint.ports.clone())
            .collect();
        let old_rules = self.rules(before);
        let chosen = gateway::choose(endpoints);
        for endpoint in endpoints.iter_mut() {
            endpoint.ports.clear();
        }
        let mut homeless = Vec::new();
        for mapping in &mappings {
            let home = if mapping.host_address.is_ipv4() {
                chosen.0
            } else {
                // Userland carries to an IPv4 address what comes to an IPv6 one.
                chosen.1.or(chosen.0)
            };
            match home {
                Some(home) => endpoints[home].ports.push(mapping.clone()),
                None => homeless.push(mapping.clone()),
            }
        }
        if mappings.is_empty() {
            self.take_ports(endpoints, &request.ports, &request.container_name)?;
        }
        let new_rules = self.rules(endpoints);
        let removed = old_rules
            .iter()
            .filter(|rule| !new_rules.contains(rule))
            .cloned()
            .map(Change::RemovePort);
        let added = new_rules
            .iter()
            .filter(|rule| !old_rules.contains(rule))
            .cloned()
            .map(Change::AddPort);
        let changes: Vec<Change> = removed.chain(added).collect();
        let applied = self.apply(&changes);
        let mut networks = self.networks.lock();
        if applied.is_err() {
            if mappings.is_empty() {
                let taken = endpoints.iter().flat_map(|endpoint| endpoint.ports.clone());
                networks.release_ports(&taken.collect::<Vec<_>>());
            }
            return applied;
        }
        networks.release_ports(&homeless);
        // One that leaves has nothing to give back any more but its address.
        for endpoint in before {
            networks.update(&Endpoint {
                ports: Vec::new(),
                ..endpoint.clone()
            });
        }
        endpoints
            .iter()
            .for_each(|endpoint| networks.update(endpoint));
        drop(networks);
        for endpoint in before.iter().filter(|before| !before.ports.is_empty()) {
            self.stop_holding(&endpoint.endpoint_id);
        }
        if !changes.is_empty() {
            self.forget_flows(endpoints.iter().flat_map(|endpoint| &endpoint.ports));
        }
        self.hold_ports(endpoints)?;
        self.let_loopback_in(endpoints)
    }

    fn rules(&self, endpoints: &[Endpoint]) -> Vec<crate::firewall::PortRule> {
        let networks = self.networks.lock();
        endpoints
            .iter()
            .flat_map(|endpoint| networks.port_rules(endpoint))
            .collect()
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
        self.stop_holding(&endpoint.endpoint_id);
        self.networks.lock().give_back(&released);
        self.forget_flows(endpoint.ports.iter());
    }

    fn plan(
        &self,
        namespace: &mut Namespace,
        request: &EndpointRequest,
        wanted: &Wanted,
    ) -> Result<Attachment, NetworkError> {
        let pair = wanted
            .pair
            .then(|| namespace.take_pair(&wanted.name))
            .transpose()?;
        let interface = Interface {
            pair,
            name: wanted.name.clone(),
        };
        self.networks.lock().plan_attachment(request, &interface)
    }

    /// Takes the ports on the endpoints that lead out.
    fn take_ports(
        &self,
        endpoints: &mut [Endpoint],
        wanted: &[PortRequest],
        container_name: &str,
    ) -> Result<(), NetworkError> {
        if wanted.is_empty() {
            return Ok(());
        }
        // Nothing is published from where nothing leads out, as in Docker.
        let (v4, v6) = gateway::choose(endpoints);
        let Some(home) = v4.or(v6) else {
            return Ok(());
        };
        let endpoint = &mut endpoints[home];
        let mut networks = self.networks.lock();
        networks.take_ports(endpoint, wanted).map_err(|source| {
            NetworkError::ExternalConnectivity {
                name: container_name.to_owned(),
                endpoint_id: endpoint.endpoint_id.clone(),
                source: Box::new(source),
            }
        })?;
        networks.update(endpoint);
        Ok(())
    }

    /// Carries an attachment out. A bridge that somebody deleted is made again.
    fn make(&self, namespace: &mut Namespace, attachment: Attachment) -> Result<(), NetworkError> {
        let Attachment {
            endpoint,
            link,
            mut inside,
        } = attachment;
        match link {
            LinkPlan::Port(mut port) => {
                let connected = port.execute(&mut self.host.lock());
                if let Err(error) = connected {
                    match self.remake_bridge(&endpoint, port.bridge_index)? {
                        Some(index) => port.bridge_index = index,
                        None => return Err(error.into()),
                    }
                    port.execute(&mut self.host.lock())?;
                }
            }
            LinkPlan::Child(child) => {
                let mut host = self.host.lock();
                child.parent.ensure(&mut host)?;
                child.execute(&mut host, namespace.descriptor())?;
                drop(host);
                let link = link_by_name(&mut namespace.connection, &child.name)?;
                inside.index = link.map_or(0, |link| link.header.index);
            }
        }
        namespace.set_up(&inside)
    }

    /// Makes the endpoint's bridge again if it is not the one of `index` any more. Its index.
    fn remake_bridge(&self, endpoint: &Endpoint, index: u32) -> Result<Option<u32>, NetworkError> {
        let id = &endpoint.network_id;
        let plan = {
            let mut networks = self.networks.lock();
            networks
                .by_id(id)
                .and_then(Network::bridge_mut)
                .map(|bridge| bridge.plan.clone())
        };
        let Some(plan) = plan else { return Ok(None) };
        let new = plan.ensure(&mut self.host.lock())?;
        if new == index {
            return Ok(None);
        }
        if let Some(bridge) = self.networks.lock().by_id(id).and_then(Network::bridge_mut) {
            bridge.index = new;
        }
        Ok(Some(new))
    }

    /// Publishes the ports of new endpoints and opens those they are linked to, in one transaction.
    fn publish(&self, endpoints: &[Endpoint]) -> Result<(), NetworkError> {
        let ports = self.rules(endpoints).into_iter().map(Change::AddPort);
        let links: Vec<LinkRule> = {
            let networks = self.networks.lock();
            let links = endpoints
                .iter()
                .flat_map(|endpoint| networks.link_rules(endpoint));
            links.collect()
        };
        if let Some(link) = links.first() {
            host::lead_neighbours_through(&link.bridge)?;
        }
        let changes: Vec<Change> = ports
            .chain(links.into_iter().map(Change::AddLink))
            .collect();
        if !changes.is_empty() {
            self.let_loopback_in(endpoints)?;
            self.apply(&changes)?;
        }
        self.forget_flows(endpoints.iter().flat_map(|endpoint| &endpoint.ports));
        self.hold_ports(endpoints)
    }

    /// Gives the sockets of published ports to netd, which serves what comes to them.
    pub(crate) fn hold_ports(&self, endpoints: &[Endpoint]) -> Result<(), NetworkError> {
        let Some(netd) = &self.netd else {
            return Ok(());
        };
        for endpoint in endpoints.iter().filter(|e| !e.ports.is_empty()) {
            let forwards = self.networks.lock().forwards(endpoint);
            netd.forward(&endpoint.endpoint_id, forwards)?;
        }
        Ok(())
    }

    /// When this returns netd has closed the endpoint's sockets.
    fn stop_holding(&self, endpoint_id: &str) {
        if let Some(netd) = &self.netd {
            netd.forget(&[endpoint_id.to_owned()]);
        }
    }

    /// Lets connections from the host's loopback to published ports find back.
    fn let_loopback_in(&self, endpoints: &[Endpoint]) -> Result<(), NetworkError> {
        let with_ports = endpoints
            .iter()
            .filter(|endpoint| !endpoint.ports.is_empty());
        for endpoint in with_ports {
            let bridge = {
                let mut networks = self.networks.lock();
                networks
                    .by_id(&endpoint.network_id)
                    .and_then(Network::bridge_mut)
                    .map(|bridge| bridge.plan.name.clone())
            };
            if let Some(bridge) = bridge {
                host::enable_route_localnet(&bridge)?;
            }
        }
        Ok(())
    }
}

impl Attachment {
    fn set_hairpin(&mut self, on: bool) {
        if let LinkPlan::Port(port) = &mut self.link {
            port.hairpin = on;
        }
    }
}

/// Removes the container's end, and with it the host's.
fn remove_link(namespace: &mut Namespace, name: &str) -> Result<(), NetworkError> {
    let connection = &mut namespace.connection;
    match link_by_name(connection, name)? {
        Some(link) => Ok(delete_link(connection, name, link.header.index)?),
        None => Ok(()),
    }
}

/// The interface of a failed connection must not stay; without it the container is as it was.
fn undo_link(namespace: &mut Namespace, name: &str) {
    if let Err(error) = remove_link(namespace, name) {
        tracing::warn!(interface = name, %error, "interface of a failed connection stays");
    }
}

fn finish(namespace: Namespace) -> Result<OwnedFd, NetworkError> {
    namespace
        .finish()
        .step(|| "finish the network namespace".into())
}
