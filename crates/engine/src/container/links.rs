//! `--link` on the default bridge: lines in `/etc/hosts`, variables in the environment, and the other container's second name.
//!
//! On networks with DNS a link is a name of the name server's (see [`super::dns`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use wharf_api::container::HostConfig;
use wharf_network::{Endpoint, LinkedPort};

use super::dns::read_link;
use super::files::{self, Files};
use super::network::{Mode, parse_port};
use super::record::{Link, Record};
use super::{Container, environment_key};
use crate::{Engine, Error, Result};

/// The network that links of this kind are made on.
const NETWORK: &str = "bridge";

/// Another container as the linking one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// Names of its line in `/etc/hosts`.
    pub names: String,
    /// Its address.
    pub address: IpAddr,
    /// `ALIAS_PORT_…` and the like.
    pub variables: Vec<String>,
}

/// What is refused where links cannot work (moby `daemon/internal/runconfig`).
pub fn check_mode(host: &HostConfig) -> Result<()> {
    let kind = match Mode::of(host) {
        _ if host.links.as_ref().is_none_or(Vec::is_empty) => return Ok(()),
        Mode::Host => "host",
        Mode::Container(_) => "container",
        Mode::None | Mode::Networks => return Ok(()),
    };
    Err(Error::invalid(format!(
        "conflicting options: {kind} type networking can't be used with links. This would result in undefined behavior"
    )))
}

impl Engine {
    /// The links of a new container, checked.
    pub(crate) fn new_links(&self, host: &HostConfig) -> Result<Vec<Link>> {
        if host.network_mode != NETWORK {
            return Ok(Vec::new());
        }
        let wanted = host.links.iter().flatten();
        wanted
            .map(|text| {
                let (alias, name) = read_link(text);
                let mut target = self.link_target(&name)?;
                while let Mode::Container(owner) = Mode::of(&target.record().host_config) {
                    target = self.link_target(&owner)?;
                }
                if Mode::of(&target.record().host_config) == Mode::Host {
                    return Err(Error::invalid(
                        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                    ));
                }
                Ok(Link {
                    container: target.id.clone(),
                    alias,
                })
            })
            .collect()
    }

    /// A missing one is the request's mistake: "not found" would be taken for a missing image.
    fn link_target(&self, name: &str) -> Result<Arc<Container>> {
        self.containers.get(name).map_err(|error| {
            error
                .with_kind(wharf_api::error::Kind::Invalid)
                .context(format!("could not get container for {name}"))
        })
    }

    /// What a container's links mean now. All must run.
    pub(crate) fn linked(&self, record: &Record) -> Result<Vec<Linked>> {
        let links = record.links.iter();
        links.map(|link| self.linked_one(record, link)).collect()
    }

    /// Ports that the linked containers expose, at their addresses.
    pub(crate) fn linked_ports(&self, record: &Record) -> Result<Vec<LinkedPort>> {
        let mut ports = Vec::new();
        for (link, linked) in record.links.iter().zip(self.linked(record)?) {
            let other = self.containers.get(&link.container)?.record();
            ports.extend(exposed(&other, linked.address));
        }
        Ok(ports)
    }

    /// The same for a container that runs, where `started` just got an address and others may have stopped.
    fn linked_ports_now(&self, record: &Record, started: &str, address: IpAddr) -> Vec<LinkedPort> {
        let ports = |link: &Link| {
            let other = self.containers.by_id(&link.container)?.record();
            let address = if link.container == started {
                address
            } else {
                self.linked_one(record, link).ok()?.address
            };
            Some(exposed(&other, address))
        };
        record.links.iter().filter_map(ports).flatten().collect()
    }

    fn linked_one(&self, record: &Record, link: &Link) -> Result<Linked> {
        let target = self.containers.get(&link.container)?;
        let (other, state) = (target.record(), target.state());
        if !state.status.is_running() {
            return Err(Error::new(
                wharf_api::error::Kind::Internal,
                format!(
                    "Cannot link to a non running container: /{} AS /{}/{}",
                    other.name, record.name, link.alias
                ),
            ));
        }
        let address = address(&state.endpoints).ok_or_else(|| {
            Error::new(
                wharf_api::error::Kind::Internal,
                format!(
                    "container {} not attached to default bridge network",
                    other.id
                ),
            )
        })?;
        let mut names = format!("{} {}", link.alias, other.config.hostname);
        if link.alias != other.name {
            names = format!("{names} {}", other.name);
        }
        Ok(Linked {
            names,
            address,
            variables: variables(&record.name, &link.alias, address, &other),
        })
    }

    /// Links as inspect shows them: `/db:/web/store`.
    pub(crate) fn links_shown(&self, record: &Record) -> Option<Vec<String>> {
        let shown: Vec<String> = record
            .links
            .iter()
            .filter_map(|link| {
                let target = self.containers.by_id(&link.container)?;
                Some(format!(
                    "/{}:/{}/{}",
                    target.name(),
                    record.name,
                    link.alias
                ))
            })
            .collect();
        (!shown.is_empty()).then_some(shown)
    }

    /// Names that containers have through others' links, by id.
    pub(crate) fn link_names(&self) -> BTreeMap<String, Vec<String>> {
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.containers.all() {
            let record = container.record();
            for link in &record.links {
                let name = format!("/{}/{}", record.name, link.alias);
                names.entry(link.container.clone()).or_default().push(name);
            }
        }
        names
    }

    /// Removes the link of that name (`web/store`) and leaves both containers.
    pub(crate) fn remove_link(&self, name: &str) -> Result<()> {
        let plain = name.trim_start_matches('/');
        let (owner, alias) = plain.rsplit_once('/').ok_or_else(|| {
            Error::invalid(format!(
                "Conflict, cannot remove the default link name of the container /{plain}"
            ))
        })?;
        let owner = self.containers.get(owner)?;
        let known = owner.record().links.iter().any(|link| link.alias == alias);
        if !known {
            return Err(Error::no_such_container(name));
        }
        owner.edit_record(&self.database, |record| {
            record.links.retain(|link| link.alias != alias);
        })
    }

    /// Tells those that are linked to a container its new address, in their `/etc/hosts` and to the firewall. Blocking.
    pub(crate) fn update_linking(&self, id: &str, endpoints: &[Endpoint]) {
        let Some(address) = address(endpoints) else {
            return;
        };
        for container in self.containers.all() {
            let record = container.record();
            let links: Vec<&Link> = record.links.iter().filter(|l| l.container == id).collect();
            if links.is_empty() || !container.status().is_running() {
                continue;
            }
            for link in links {
                self.update_link_line(&record, link, address);
            }
            if let Err(error) = self.relink(&container, id, address) {
                tracing::warn!(container = record.id, %error, "a link does not lead anywhere");
            }
        }
    }

    fn update_link_line(&self, record: &Record, link: &Link, address: IpAddr) {
        let path = Files::in_dir(&self.files_dir(record)).hosts;
        let Ok(text) = std::fs::read_to_string(&path) else {
            return;
        };
        let updated = with_address(&text, &link.alias, address);
        if let Err(error) = files::write(&path, &updated) {
            tracing::warn!(container = record.id, %error, "hosts file not updated");
        }
    }

    fn relink(&self, container: &Container, started: &str, address: IpAddr) -> Result<()> {
        let endpoints = container.state().endpoints;
        let Some(own) = endpoints.iter().find(|e| e.network_name == NETWORK) else {
            return Ok(());
        };
        let ports = self.linked_ports_now(&container.record(), started, address);
        let Some(links) = self.network.relink(&own.endpoint_id, ports)? else {
            return Ok(());
        };
        container.edit_state(&self.database, |state| {
            let mut endpoints = state.endpoints.iter_mut();
            if let Some(own) = endpoints.find(|e| e.endpoint_id == own.endpoint_id) {
                own.links = links;
            }
        })
    }
}

/// Ports that a container exposes, at its address.
fn exposed(record: &Record, address: IpAddr) -> Vec<LinkedPort> {
    let ports = record.config.exposed_ports.keys();
    ports
        .filter_map(|port| parse_port(port).ok())
        .map(|(port, protocol)| LinkedPort {
            address,
            protocol,
            port,
        })
        .collect()
}

fn address(endpoints: &[Endpoint]) -> Option<IpAddr> {
    let endpoint = endpoints.iter().find(|e| e.network_name == NETWORK)?;
    endpoint.address
}

/// The line that names `alias` gets the address.
fn with_address(hosts: &str, alias: &str, address: IpAddr) -> String {
    let mut text = String::with_capacity(hosts.len());
    for line in hosts.lines() {
        match line.split_once('\t') {
            Some((_, names)) if names.split(' ').next() == Some(alias) => {
                text.push_str(&format!("{address}\t{names}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Variables of a link (moby `daemon/links`): the first port, each port, ranges of ports, the name, the other's own variables.
fn variables(owner: &str, alias: &str, address: IpAddr, other: &Record) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let mut ports: Vec<(u16, &'static str)> = other
        .config
        .exposed_ports
        .keys()
        .filter_map(|port| parse_port(port).ok())
        .map(|(number, protocol)| (number, protocol.name()))
        .collect();
    ports.sort_by_key(|(number, protocol)| (*protocol != "tcp", *protocol, *number));
    let mut list = Vec::new();
    if let Some((number, protocol)) = ports.first() {
        list.push(format!("{prefix}_PORT={protocol}://{address}:{number}"));
    }
    for run in runs(&ports) {
        for (number, protocol) in run {
            let key = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
            list.push(format!("{key}={protocol}://{address}:{number}"));
            list.push(format!("{key}_ADDR={address}"));
            list.push(format!("{key}_PORT={number}"));
            list.push(format!("{key}_PROTO={protocol}"));
        }
        if let [(first, protocol), .., (last, _)] = run {
            let key = format!("{prefix}_PORT_{first}_{}", protocol.to_uppercase());
            list.push(format!("{key}_START={protocol}://{address}:{first}"));
            list.push(format!("{key}_PORT_START={first}"));
            list.push(format!("{key}_END={protocol}://{address}:{last}"));
            list.push(format!("{key}_PORT_END={last}"));
        }
    }
    list.push(format!("{prefix}_NAME=/{owner}/{alias}"));
    let own = other.config.env.iter().flatten();
    list.extend(
        own.filter(|entry| entry.contains('='))
            .filter(|entry| !["HOME", "PATH"].contains(&environment_key(entry)))
            .map(|entry| format!("{prefix}_ENV_{entry}")),
    );
    list
}

/// Ports of one protocol whose numbers follow each other.
fn runs<'a>(ports: &'a [(u16, &'static str)]) -> impl Iterator<Item = &'a [(u16, &'static str)]> {
    ports.chunk_by(|a, b| a.1 == b.1 && a.0.checked_add(1) == Some(b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_alias_gets_the_new_address() {
        let hosts = "127.0.0.1\tlocalhost\n10.0.0.2\tstore 3f2a db\n10.0.0.2\tother store\n";
        let address = "10.0.0.9".parse().expect("ip");
        assert_eq!(
            with_address(hosts, "store", address),
            "127.0.0.1\tlocalhost\n10.0.0.9\tstore 3f2a db\n10.0.0.2\tother store\n"
        );
    }

    #[test]
    fn runs_of_ports_are_found() {
        let ports = [(80, "tcp"), (81, "tcp"), (90, "tcp"), (91, "udp")];
        let lengths: Vec<usize> = runs(&ports).map(<[_]>::len).collect();
        assert_eq!(lengths, [2, 1, 1]);
    }
}
