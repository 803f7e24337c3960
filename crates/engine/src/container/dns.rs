//! A container's names: which others find it under, and whom it asks itself.

use std::net::IpAddr;
use std::sync::Arc;

use wharf_api::network::EndpointSettings;
use wharf_network::{Endpoint, NetworkRecord, ResolverSockets, Resolving, ResolvingEndpoint};

use super::Container;
use super::files::{self, Files};
use super::network::{Mode, dns_names};
use super::record::Record;
use super::resolv_conf::{HOST_FILE, Kind, ResolvConf, source};
use crate::{Engine, Error, Result};

impl Engine {
    /// Has a container's names resolved from now on. `sockets`: its own name server's, of a new run.
    pub(crate) fn resolve_names(
        &self,
        record: &Record,
        endpoints: &[Endpoint],
        sockets: Option<ResolverSockets>,
    ) -> Result<()> {
        if endpoints.iter().any(has_dns) {
            let resolving = self.resolving(record, endpoints);
            self.network.resolve(resolving, sockets)?;
        }
        Ok(())
    }

    /// Brings names up to date after the container's name or networks changed, and after a restart of the daemon. One that has its
    /// first network with DNS gets a name server. Blocking.
    pub(crate) fn refresh_names(&self, container: &Container) -> Result<()> {
        let (record, state) = (container.record(), container.state());
        if state.pid == 0 || !container.status().is_running() {
            return Ok(());
        }
        if !state.endpoints.iter().any(has_dns) {
            self.network.forget(&container.id);
            return Ok(());
        }
        let is_new = !self.network.has_resolver(&container.id);
        let sockets = if is_new {
            let path = format!("/proc/{}/ns/net", state.pid);
            let namespace = std::fs::File::open(&path)
                .map_err(|error| Error::caused(&format!("open {path}"), error))?;
            Some(ResolverSockets::open(std::os::fd::AsFd::as_fd(&namespace))?)
        } else {
            None
        };
        self.resolve_names(&record, &state.endpoints, sockets)?;
        if is_new {
            let path = Files::in_dir(&self.files_dir(&record)).resolv_conf;
            let current = std::fs::read_to_string(&path).unwrap_or_default();
            // What the user wrote stays.
            if current == self.resolv_conf(&record, plain(&state.endpoints)) {
                let text = self.resolv_conf(&record, Kind::Embedded);
                files::write(&path, &text)
                    .map_err(|error| Error::caused(&format!("write {}", path.display()), error))?;
            }
        }
        Ok(())
    }

    /// The same in a task of its own that nobody waits for.
    pub(crate) async fn refresh_names_of(&self, container: &Arc<Container>) {
        let (Some(engine), container) = (self.handle(), Arc::clone(container)) else {
            return;
        };
        let id = container.id.clone();
        let refreshed = crate::blocking(move || engine.refresh_names(&container)).await;
        if let Err(error) = refreshed {
            tracing::warn!(container = id, %error, "names not up to date");
        }
    }

    /// Text of a container's `/etc/resolv.conf`.
    pub(crate) fn resolv_conf(&self, record: &Record, kind: Kind) -> String {
        let path = source(kind, &self.config.resolv_conf);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        ResolvConf::chosen(path, &text, &record.host_config, &self.config).text(kind)
    }

    fn resolving(&self, record: &Record, endpoints: &[Endpoint]) -> Resolving {
        let text = std::fs::read_to_string(HOST_FILE).unwrap_or_default();
        let file = ResolvConf::chosen(HOST_FILE, &text, &record.host_config, &self.config);
        let networks: Vec<NetworkRecord> = endpoints
            .iter()
            .filter_map(|endpoint| self.network.network(&endpoint.network_id).ok())
            .collect();
        Resolving {
            id: record.id.clone(),
            endpoints: endpoints
                .iter()
                .filter(|endpoint| has_dns(endpoint))
                .map(|endpoint| resolving_endpoint(record, endpoint))
                .collect(),
            servers: file.chosen_servers(),
            host_file: HOST_FILE.into(),
            external: networks.iter().any(|network| !network.internal),
            ndots_chosen: file.has_ndots(),
            host_addresses: self.host_addresses(endpoints),
        }
    }

    /// What the host is called by: as `host-gateway`, or on the container's own network where there is no default bridge.
    fn host_addresses(&self, endpoints: &[Endpoint]) -> Vec<IpAddr> {
        let own = || endpoints.iter().find_map(|endpoint| endpoint.gateway);
        self.host_gateway().or_else(own).into_iter().collect()
    }
}

/// How a container with these attachments reaches name servers.
pub(crate) fn kind(record: &Record, endpoints: &[Endpoint]) -> Kind {
    match Mode::of(&record.host_config) {
        Mode::Host => Kind::Host,
        _ if endpoints.iter().any(has_dns) => Kind::Embedded,
        _ => plain(endpoints),
    }
}

fn plain(endpoints: &[Endpoint]) -> Kind {
    let is_v6 = |endpoint: &Endpoint| endpoint.address6.is_some();
    Kind::Plain {
        ipv6: endpoints.iter().any(is_v6),
    }
}

/// Only networks that users made have names.
fn has_dns(endpoint: &Endpoint) -> bool {
    !matches!(endpoint.network_name.as_str(), "bridge" | "host" | "none")
}

fn resolving_endpoint(record: &Record, endpoint: &Endpoint) -> ResolvingEndpoint {
    let default = EndpointSettings::default();
    let settings = record
        .networks
        .get(&endpoint.network_name)
        .or_else(|| record.networks.get(&endpoint.network_id))
        .unwrap_or(&default);
    let links = settings.links.iter().flatten();
    ResolvingEndpoint {
        network_id: endpoint.network_id.clone(),
        network_name: endpoint.network_name.clone(),
        addresses: endpoint.addresses().collect(),
        names: dns_names(settings, record),
        links: links.map(|link| read_link(link)).collect(),
    }
}

/// Reads `name:alias` or `name`, as alias and name.
pub(crate) fn read_link(link: &str) -> (String, String) {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let plain = |name: &str| name.trim_start_matches('/').to_owned();
    // Containers of old daemons keep `/name:/user/alias`.
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    (plain(alias), plain(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read() {
        for (link, alias, name) in [
            ("db:store", "store", "db"),
            ("db", "db", "db"),
            ("/db:/web/store", "store", "db"),
        ] {
            assert_eq!(read_link(link), (alias.into(), name.into()), "{link}");
        }
    }
}
