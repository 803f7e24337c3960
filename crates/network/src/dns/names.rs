//! Who is called what on which network.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::netd::protocol::{Resolving, ResolvingEndpoint};

/// Names that every container has for the host.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// Everything that can be resolved.
#[derive(Debug, Default)]
pub(crate) struct Names {
    containers: HashMap<String, Rc<Resolving>>,
    networks: HashMap<String, Network>,
    /// Where the next answer with several addresses begins.
    turn: Cell<usize>,
}

#[derive(Debug, Default)]
struct Network {
    /// By name in lower case: container's id and addresses.
    names: HashMap<String, Vec<Holder>>,
    /// Container's id and its name.
    addresses: HashMap<IpAddr, (String, String)>,
}

#[derive(Debug)]
struct Holder {
    container: String,
    addresses: Vec<IpAddr>,
}

/// Address family asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn fits(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Family::V4)
    }
}

impl Names {
    /// Adds a container or replaces what was known of it.
    pub(crate) fn put(&mut self, container: Resolving) {
        self.remove(&container.id);
        for endpoint in &container.endpoints {
            let network = self
                .networks
                .entry(endpoint.network_id.clone())
                .or_default();
            network.add(&container.id, endpoint);
        }
        self.containers
            .insert(container.id.clone(), Rc::new(container));
    }

    /// Forgets a container. Says whether it was known.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let Some(container) = self.containers.remove(id) else {
            return false;
        };
        for endpoint in &container.endpoints {
            if let Some(network) = self.networks.get_mut(&endpoint.network_id) {
                network.remove(id, endpoint);
                if network.names.is_empty() {
                    self.networks.remove(&endpoint.network_id);
                }
            }
        }
        true
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Rc<Resolving>> {
        self.containers.get(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Rc<Resolving>> {
        self.containers.values()
    }

    /// Addresses of `name` as `container` sees it. `None`: no such name here. Empty: it has none of this family.
    ///
    /// `a.b.c` is a name on one of its networks, or `a.b` on its network `c`, or `a` on its network `b.c` (moby
    /// `Sandbox.ResolveName`).
    pub(crate) fn addresses(
        &self,
        container: &Resolving,
        name: &str,
        family: Family,
    ) -> Option<Vec<IpAddr>> {
        let name = name.to_ascii_lowercase();
        let found = self.lookup(container, &name).or_else(|| {
            let known = HOST_NAMES.contains(&name.as_str()) && !container.host_addresses.is_empty();
            known.then(|| container.host_addresses.clone())
        })?;
        let mut fitting: Vec<IpAddr> = found.into_iter().filter(|a| family.fits(a)).collect();
        self.rotate(&mut fitting);
        Some(fitting)
    }

    /// Name of `address` as `container` sees it.
    pub(crate) fn name(&self, container: &Resolving, address: IpAddr) -> Option<String> {
        container.endpoints.iter().find_map(|endpoint| {
            let network = self.networks.get(&endpoint.network_id)?;
            let (_, name) = network.addresses.get(&address)?;
            Some(format!("{name}.{}", endpoint.network_name))
        })
    }

    fn lookup(&self, container: &Resolving, name: &str) -> Option<Vec<IpAddr>> {
        let dots = name.rmatch_indices('.');
        let splits = dots.map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
        std::iter::once((name, None))
            .chain(splits)
            .find_map(|(host, network)| {
                self.on_networks(container, host, network, true)
                    .or_else(|| self.on_networks(container, host, network, false))
            })
    }

    /// `links`: only as an alias of the container's own, otherwise only as a name that is none.
    fn on_networks(
        &self,
        container: &Resolving,
        host: &str,
        network: Option<&str>,
        links: bool,
    ) -> Option<Vec<IpAddr>> {
        let fits = |endpoint: &&ResolvingEndpoint| {
            network.is_none_or(|name| endpoint.network_name.eq_ignore_ascii_case(name))
        };
        container
            .endpoints
            .iter()
            .filter(fits)
            .find_map(|endpoint| {
                let link = endpoint
                    .links
                    .iter()
                    .find(|(alias, _)| alias.eq_ignore_ascii_case(host));
                let target = match (link, links) {
                    (Some((_, target)), true) => target.to_ascii_lowercase(),
                    (None, false) => host.to_owned(),
                    _ => return None,
                };
                self.networks
                    .get(&endpoint.network_id)?
                    .names
                    .get(&target)
                    .map(|holders| {
                        holders
                            .iter()
                            .flat_map(|holder| holder.addresses.iter().copied())
                            .collect()
                    })
            })
    }

    /// Who shares a name takes turns in being the first.
    fn rotate(&self, addresses: &mut [IpAddr]) {
        if addresses.len() > 1 {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            addresses.rotate_left(turn % addresses.len());
        }
    }
}

impl Network {
    fn add(&mut self, container: &str, endpoint: &ResolvingEndpoint) {
        for name in &endpoint.names {
            let holders = self.names.entry(name.to_ascii_lowercase()).or_default();
            // Two of its names may differ in case only.
            if holders.iter().all(|holder| holder.container != container) {
                holders.push(Holder {
                    container: container.to_owned(),
                    addresses: endpoint.addresses.clone(),
                });
            }
        }
        if let Some(name) = endpoint.names.first() {
            for address in &endpoint.addresses {
                self.addresses
                    .insert(*address, (container.to_owned(), name.clone()));
            }
        }
    }

    fn remove(&mut self, container: &str, endpoint: &ResolvingEndpoint) {
        for name in &endpoint.names {
            let name = name.to_ascii_lowercase();
            if let Some(holders) = self.names.get_mut(&name) {
                holders.retain(|holder| holder.container != container);
                if holders.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        self.addresses.retain(|_, (owner, _)| owner != container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(network: &str, address: &str, names: &[&str]) -> ResolvingEndpoint {
        ResolvingEndpoint {
            network_id: format!("id-{network}"),
            network_name: network.into(),
            addresses: address.split(' ').map(|a| a.parse().unwrap()).collect(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            links: Vec::new(),
        }
    }

    fn container(id: &str, endpoints: Vec<ResolvingEndpoint>) -> Resolving {
        Resolving {
            id: id.into(),
            endpoints,
            host_addresses: vec!["172.17.0.1".parse().unwrap()],
            ..Resolving::default()
        }
    }

    /// `web` on both networks, `db` on `back` only, `other` on `far`; two share the alias `pool`.
    fn names() -> Names {
        let mut names = Names::default();
        let mut web = container(
            "1",
            vec![
                endpoint("front", "10.1.0.2", &["web", "pool"]),
                endpoint("back.end", "10.2.0.2 fd00::2", &["web"]),
            ],
        );
        web.endpoints[1].links = vec![("store".into(), "db".into())];
        names.put(web);
        names.put(container(
            "2",
            vec![endpoint("back.end", "10.2.0.3", &["db", "Data.Base"])],
        ));
        names.put(container(
            "3",
            vec![endpoint("far", "10.3.0.2", &["other"])],
        ));
        names.put(container(
            "4",
            vec![endpoint("front", "10.1.0.4", &["four", "pool"])],
        ));
        names
    }

    fn ask(names: &Names, from: &str, name: &str, family: Family) -> Option<Vec<String>> {
        let from = names.get(from).unwrap().clone();
        names
            .addresses(&from, name, family)
            .map(|list| list.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_found_on_the_askers_networks_only() {
        let names = names();
        for (from, name, expected) in [
            ("1", "web", Some("10.1.0.2")),
            ("1", "WEB", Some("10.1.0.2")),
            ("1", "web.back.end", Some("10.2.0.2")),
            ("1", "db", Some("10.2.0.3")),
            ("1", "data.base", Some("10.2.0.3")),
            ("1", "data.base.back.end", Some("10.2.0.3")),
            ("1", "store", Some("10.2.0.3")),
            ("1", "store.back.end", Some("10.2.0.3")),
            ("2", "store", None),
            ("2", "web", Some("10.2.0.2")),
            ("1", "other", None),
            ("1", "other.far", None),
            ("4", "web.back.end", None),
            ("4", "db", None),
            ("1", "front", None),
            ("3", "host.docker.internal", Some("172.17.0.1")),
        ] {
            let expected = expected.map(|address| vec![address.to_owned()]);
            assert_eq!(
                ask(&names, from, name, Family::V4),
                expected,
                "{from} {name}"
            );
        }
    }

    #[test]
    fn a_name_without_an_address_of_the_family_is_known_all_the_same() {
        let names = names();
        assert_eq!(ask(&names, "1", "db", Family::V6), Some(Vec::new()));
        assert_eq!(
            ask(&names, "2", "web", Family::V6),
            Some(vec!["fd00::2".into()])
        );
        assert_eq!(ask(&names, "1", "none", Family::V6), None);
    }

    #[test]
    fn shared_aliases_take_turns() {
        let names = names();
        let mut first = Vec::new();
        for _ in 0..4 {
            let answer = ask(&names, "1", "pool", Family::V4).unwrap();
            assert_eq!(answer.len(), 2);
            first.push(answer[0].clone());
        }
        assert_eq!(first[0], first[2]);
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn addresses_have_names() {
        let names = names();
        let web = names.get("1").unwrap().clone();
        let name = |address: &str| names.name(&web, address.parse().unwrap());
        assert_eq!(name("10.2.0.3").as_deref(), Some("db.back.end"));
        assert_eq!(name("fd00::2").as_deref(), Some("web.back.end"));
        assert_eq!(name("10.3.0.2"), None);
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let mut names = names();
        assert!(names.remove("2") && !names.remove("2"));
        assert_eq!(ask(&names, "1", "db", Family::V4), None);
        assert_eq!(ask(&names, "1", "store", Family::V4), None);
        // Renamed, with another address.
        names.put(container(
            "4",
            vec![endpoint("front", "10.1.0.9", &["five"])],
        ));
        assert_eq!(ask(&names, "1", "four", Family::V4), None);
        assert_eq!(
            ask(&names, "1", "pool", Family::V4),
            Some(vec!["10.1.0.2".into()])
        );
        for id in ["1", "3", "4"] {
            names.remove(id);
        }
        assert!(names.networks.is_empty() && names.containers.is_empty());
    }
}
