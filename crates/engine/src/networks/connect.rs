//! Connecting a container to one more network, and taking it off one; while it runs, too.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use wharf_api::error::Kind;
use wharf_api::network::{ConnectRequest, DisconnectRequest, EndpointSettings};
use wharf_network::{Endpoint, EndpointRequest, NetworkRecord};

use super::endpoint_settings;
use crate::container::network::{self, Mode};
use crate::container::record::Record;
use crate::container::status::Status;
use crate::container::{Container, Live};
use crate::{Engine, Error, Result};

impl Engine {
    /// `POST /networks/{id}/connect`.
    pub async fn network_connect(&self, reference: &str, request: ConnectRequest) -> Result<()> {
        let container = self.containers.get(&request.container)?;
        let settings = request.endpoint_config.unwrap_or_default();
        let reference = reference.to_owned();
        self.finish(move |engine| async move {
            let _lifecycle = container.lifecycle.lock().await;
            engine.connect(&container, &reference, settings).await
        })
        .await
    }

    /// `POST /networks/{id}/disconnect`.
    pub async fn network_disconnect(
        &self,
        reference: &str,
        request: DisconnectRequest,
    ) -> Result<()> {
        let container = match self.containers.get(&request.container) {
            // As Docker: then an endpoint of that name is meant, of a container that is gone.
            Err(error) if request.force && error.kind() == Kind::NotFound => {
                self.network.network(reference)?;
                let text = format!("endpoint {} not found", request.container);
                return Err(Error::new(Kind::NotFound, text));
            }
            found => found?,
        };
        let reference = reference.to_owned();
        self.finish(move |engine| async move {
            let _lifecycle = container.lifecycle.lock().await;
            engine
                .disconnect(&container, &reference, request.force)
                .await
        })
        .await
    }

    async fn connect(
        &self,
        container: &Arc<Container>,
        reference: &str,
        mut settings: EndpointSettings,
    ) -> Result<()> {
        refuse_removed(container)?;
        let found = self.network.network(reference);
        if let (Err(wharf_network::NetworkError::NotFound(_)), None) = (&found, container.live()) {
            // As Docker: a container that is not running may be on a network that is not there yet; its start asks again.
            endpoint_settings::clear_results(&mut settings);
            return self.remember(container, reference, settings);
        }
        let target = found?;
        endpoint_settings::validate(&target.name, &settings)?;
        endpoint_settings::clear_results(&mut settings);
        let record = container.record();
        let connected = self.is_connected(&record, &target);
        if !connected {
            self.check_connectable(&record, &target)?;
        }
        match container.live() {
            Some(_) if connected => Err(already_connected(&record, &target)),
            Some(live) => self.connect_live(container, &live, &target, settings).await,
            // As Docker: connecting a stopped container once more changes nothing.
            None if connected => Ok(()),
            None => self.remember(container, &target.name, settings),
        }
    }

    async fn connect_live(
        &self,
        container: &Arc<Container>,
        live: &Arc<Live>,
        target: &NetworkRecord,
        settings: EndpointSettings,
    ) -> Result<()> {
        let record = container.record();
        let mut request = network::request(&record, &target.name, settings.clone())?;
        request.ports = network::ports(&record)?;
        let before = container.state().endpoints;
        let after = self
            .change_live(live, before.clone(), move |manager, netns, endpoints| {
                manager.connect(netns, endpoints, &request)
            })
            .await?;
        self.remember(container, &target.name, settings)?;
        let new: Vec<Endpoint> = after
            .iter()
            .filter(|endpoint| endpoint.network_id == target.id)
            .cloned()
            .collect();
        self.keep_endpoints(container, live, after)?;
        self.update_hosts(&record, &[], &new);
        self.refresh_names_of(container).await;
        self.tell_attachments("connect", &container.id, &new);
        Ok(())
    }

    async fn disconnect(
        &self,
        container: &Arc<Container>,
        reference: &str,
        force: bool,
    ) -> Result<()> {
        refuse_removed(container)?;
        let found = self.network.network(reference);
        let record = container.record();
        let live = container.live();
        let (target, live) = match (found, live) {
            (Ok(target), Some(live)) => (target, live),
            (Err(error), Some(_)) if !force => return Err(error.into()),
            (found, _) => {
                let name = found.map_or_else(|_| reference.to_owned(), |target| target.name);
                return self.forget_network(container, &record, &name);
            }
        };
        if Mode::of(&record.host_config) == Mode::Host && target.driver == "host" {
            return Err(Error::invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        self.disconnect_live(container, &live, &target).await
    }

    async fn disconnect_live(
        &self,
        container: &Arc<Container>,
        live: &Arc<Live>,
        target: &NetworkRecord,
    ) -> Result<()> {
        let record = container.record();
        let before = container.state().endpoints;
        let gone = before
            .iter()
            .find(|endpoint| endpoint.network_id == target.id)
            .cloned()
            .ok_or_else(|| {
                Error::internal(format!(
                    "container {} is not connected to network {}",
                    container.id, target.name
                ))
            })?;
        let request = EndpointRequest {
            container_name: record.name.clone(),
            ports: network::ports(&record)?,
            ..EndpointRequest::default()
        };
        let id = gone.endpoint_id.clone();
        let after = self
            .change_live(live, before, move |manager, netns, endpoints| {
                manager.disconnect(netns, endpoints, &id, &request)
            })
            .await?;
        self.keep_endpoints(container, live, after)?;
        let name = network_key(&record, target).unwrap_or_else(|| target.name.clone());
        container.edit_record(&self.database, |record| {
            record.networks.remove(&name);
        })?;
        let gone = [gone];
        self.update_hosts(&record, &gone, &[]);
        self.refresh_names_of(container).await;
        self.tell_attachments("disconnect", &container.id, &gone);
        Ok(())
    }

    /// Runs a change of a running container's endpoints on the blocking pool; its endpoints afterwards.
    async fn change_live(
        &self,
        live: &Arc<Live>,
        mut endpoints: Vec<Endpoint>,
        change: impl FnOnce(
            &wharf_network::NetworkManager,
            OwnedFd,
            &mut Vec<Endpoint>,
        ) -> std::result::Result<(), wharf_network::NetworkError>
        + Send
        + 'static,
    ) -> Result<Vec<Endpoint>> {
        let netns = namespace_of(live)?;
        let manager = Arc::clone(&self.network);
        crate::blocking(move || {
            change(&manager, netns, &mut endpoints)?;
            Ok(endpoints)
        })
        .await
    }

    /// Notes a running container's endpoints, unless its run is over meanwhile: then they are given back.
    fn keep_endpoints(
        &self,
        container: &Container,
        live: &Live,
        endpoints: Vec<Endpoint>,
    ) -> Result<()> {
        let mut late = None;
        container.edit_state(&self.database, |state| {
            if state.pid == live.pid {
                state.endpoints = endpoints;
            } else {
                late = Some(endpoints);
            }
        })?;
        match late {
            None => Ok(()),
            Some(endpoints) => {
                endpoints
                    .iter()
                    .for_each(|endpoint| self.network.release(endpoint));
                Err(Error::not_running(&container.id))
            }
        }
    }

    /// Notes that a container is to be on a network.
    fn remember(
        &self,
        container: &Container,
        name: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        container.edit_record(&self.database, |record| {
            record.networks.insert(name.to_owned(), settings);
        })
    }

    /// Notes that a stopped container is not to be on a network.
    fn forget_network(&self, container: &Container, record: &Record, name: &str) -> Result<()> {
        if !record.networks.contains_key(name) {
            return Err(Error::internal(format!(
                "container {} is not connected to the network {name}",
                container.id
            )));
        }
        container.edit_record(&self.database, |record| {
            record.networks.remove(name);
        })
    }

    fn is_connected(&self, record: &Record, target: &NetworkRecord) -> bool {
        network_key(record, target).is_some()
    }

    /// Refuses combinations that make no sense (moby `updateNetworkSettings`).
    fn check_connectable(&self, record: &Record, target: &NetworkRecord) -> Result<()> {
        let mode = Mode::of(&record.host_config);
        let shares = "container sharing network namespace with another container or host cannot be connected to any other network";
        if matches!(mode, Mode::Container(_)) {
            return Err(Error::invalid(shares));
        }
        if mode != Mode::Host && target.driver == "host" {
            return Err(Error::invalid(
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        let others: Vec<NetworkRecord> = record
            .networks
            .keys()
            .filter_map(|name| self.network.network(name).ok())
            .collect();
        if others.iter().any(|other| other.driver == "host") {
            return Err(Error::invalid(shares));
        }
        let none = |record: &NetworkRecord| record.driver == "null" && !record.config_only;
        if !others.is_empty() && (none(target) || others.iter().any(none)) {
            return Err(Error::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        Ok(())
    }

    /// Keeps `/etc/hosts` of a running container true to its addresses.
    fn update_hosts(&self, record: &Record, gone: &[Endpoint], new: &[Endpoint]) {
        let path = self.config.container_dir(&record.id).join("hosts");
        let updated = std::fs::read_to_string(&path).and_then(|text| {
            let text = super::hosts::updated(&text, &record.config, gone, new);
            crate::container::files::write(&path, &text)
        });
        if let Err(error) = updated {
            tracing::warn!(container = record.id, %error, "hosts file not updated");
        }
    }
}

/// The name under which a container has the network.
fn network_key(record: &Record, target: &NetworkRecord) -> Option<String> {
    [&target.name, &target.id]
        .into_iter()
        .find(|name| record.networks.contains_key(*name))
        .cloned()
}

fn already_connected(record: &Record, target: &NetworkRecord) -> Error {
    Error::new(
        Kind::Forbidden,
        format!(
            "endpoint with name {} already exists in network {}",
            record.name, target.name
        ),
    )
}

fn refuse_removed(container: &Container) -> Result<()> {
    match container.status() {
        Status::Removing | Status::Dead => Err(Error::internal(format!(
            "Container {} is marked for removal and cannot be connected or disconnected to the network",
            container.id
        ))),
        _ => Ok(()),
    }
}

/// The network namespace of a running container. The process is looked at after its namespace was opened, so that the namespace is
/// not that of another process with the same number.
fn namespace_of(live: &Live) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", live.pid);
    let file = std::fs::File::open(&path)
        .map_err(|error| Error::caused(&format!("open {path}"), error))?;
    let mut poll = [rustix::event::PollFd::from_borrowed_fd(
        live.pidfd.as_fd(),
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut poll, Some(&now)) {
        Ok(0) => Ok(file.into()),
        _ => Err(Error::conflict("the container has just ended")),
    }
}
