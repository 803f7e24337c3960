//! A container's networks: what it asks for, what it gets, how inspect shows it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use wharf_api::container::{HostConfig, NetworkSettings, PortBinding, PortMap};
use wharf_api::network::{EndpointSettings, NetworkingConfig};
use wharf_network::{
    Endpoint, EndpointRequest, LinkedPort, NetworkManager, PortRequest, Protocol, ResolverSockets,
    Sandbox,
};

use super::record::{Record, State};
use crate::{Engine, Error, Result, ids};

/// How a container is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Only loopback.
    None,
    /// The host's own network.
    Host,
    /// Another container's network, by its id or name.
    Container(String),
    /// One or more networks.
    Networks,
}

impl Mode {
    /// Reads `HostConfig.NetworkMode`.
    pub fn of(host: &HostConfig) -> Mode {
        match host.network_mode.as_str() {
            "none" => Mode::None,
            "host" => Mode::Host,
            mode => match mode.strip_prefix("container:") {
                Some(name) => Mode::Container(name.to_owned()),
                None => Mode::Networks,
            },
        }
    }
}

/// The networks of a new container by name: those of the request, and the one the mode names. `own_name` tells a network's name,
/// because clients also name one by its id or the beginning of it (moby `updateContainerNetworkSettings`).
pub fn wanted(
    host: &HostConfig,
    request: Option<NetworkingConfig>,
    own_name: impl Fn(&str) -> String,
) -> BTreeMap<String, EndpointSettings> {
    if matches!(Mode::of(host), Mode::Container(_)) {
        return BTreeMap::new();
    }
    let given = request
        .and_then(|config| config.endpoints_config)
        .unwrap_or_default();
    let mut networks: BTreeMap<String, EndpointSettings> = given
        .into_iter()
        .map(|(name, settings)| {
            let name = match name.as_str() {
                "default" => "bridge".to_owned(),
                name => own_name(name),
            };
            (name, settings.unwrap_or_default())
        })
        .collect();
    networks.entry(own_name(&host.network_mode)).or_default();
    networks
}

/// The name of a network that may be named by its id or the beginning of it; as it is while there is no such network.
pub fn own_name(manager: &NetworkManager, reference: &str) -> String {
    manager
        .network(reference)
        .map_or_else(|_| reference.to_owned(), |network| network.name)
}

/// What a start brings into being.
#[derive(Debug, Default)]
pub struct Attached {
    /// Namespace to join; none with the host's network or another container's.
    pub netns: Option<OwnedFd>,
    /// Attachments.
    pub endpoints: Vec<Endpoint>,
    /// 64 hex.
    pub sandbox_id: String,
    /// Sockets of its name server, on networks with DNS.
    pub resolver: Option<ResolverSockets>,
}

/// Connects a container. `links`: what it may ask of containers that it is linked to; `given`: its network namespace, where it must
/// belong to a user namespace. Blocking.
pub fn attach(
    manager: &NetworkManager,
    record: &Record,
    links: &[LinkedPort],
    given: Option<OwnedFd>,
) -> Result<Attached> {
    let sandbox_id = ids::random();
    match Mode::of(&record.host_config) {
        Mode::Container(_) => Ok(Attached::default()),
        Mode::Host => Ok(Attached {
            netns: None,
            endpoints: vec![manager.host_endpoint()?],
            sandbox_id,
            resolver: None,
        }),
        Mode::None => {
            let sandbox = isolated(manager, given)?;
            Ok(Attached {
                netns: Some(sandbox.netns),
                endpoints: sandbox.endpoints,
                sandbox_id,
                resolver: None,
            })
        }
        Mode::Networks if lacks_bridge(manager, record) => {
            let sandbox = isolated(manager, given)?;
            sandbox
                .endpoints
                .iter()
                .for_each(|one| manager.release(one));
            Ok(Attached {
                netns: Some(sandbox.netns),
                sandbox_id,
                ..Attached::default()
            })
        }
        Mode::Networks => {
            let mut requests = requests(manager, record)?;
            for request in requests.iter_mut().filter(|one| one.network == "bridge") {
                request.links = links.to_vec();
            }
            let sandbox = match given {
                Some(netns) => manager.attach_in(netns, &requests),
                None => manager.attach(&record.id, &requests),
            };
            let sandbox = sandbox.map_err(|error| {
                Error::from(error).context("failed to set up container networking")
            })?;
            Ok(Attached {
                netns: Some(sandbox.netns),
                endpoints: sandbox.endpoints,
                sandbox_id,
                resolver: sandbox.resolver,
            })
        }
    }
}

fn isolated(manager: &NetworkManager, given: Option<OwnedFd>) -> Result<Sandbox> {
    Ok(match given {
        Some(netns) => manager.isolated_in(netns)?,
        None => manager.isolated()?,
    })
}

/// Whether a container wants the default bridge alone, and the daemon has none (`--bridge=none`): as Docker, it runs without network.
fn lacks_bridge(manager: &NetworkManager, record: &Record) -> bool {
    record.host_config.network_mode == "bridge"
        && record.networks.keys().all(|name| name == "bridge")
        && manager.network("bridge").is_err()
}

/// One request per network, the mode's own first: it has the first interface.
fn requests(manager: &NetworkManager, record: &Record) -> Result<Vec<EndpointRequest>> {
    let mode = &record.host_config.network_mode;
    let primary = &match record.networks.contains_key(mode) {
        true => mode.clone(),
        false => own_name(manager, mode),
    };
    let mut names: Vec<&String> = record
        .networks
        .keys()
        .filter(|name| *name != primary)
        .collect();
    if record.networks.contains_key(primary) || names.is_empty() {
        names.insert(0, primary);
    }
    let mut ports = ports(record)?;
    names
        .into_iter()
        .map(|name| {
            let settings = record.networks.get(name).cloned().unwrap_or_default();
            let mut request = request(record, name, settings)?;
            if *name == *primary && request.mac.is_none() {
                request.mac = Some(record.config.mac_address.clone());
            }
            request.ports = std::mem::take(&mut ports);
            Ok(request)
        })
        .collect()
}

/// What a container asks of one network, without ports.
pub fn request(record: &Record, name: &str, settings: EndpointSettings) -> Result<EndpointRequest> {
    let ipam = settings.ipam_config.unwrap_or_default();
    let mac = settings.mac_address;
    Ok(EndpointRequest {
        network: name.to_owned(),
        container_name: record.name.clone(),
        address: parse_address(&ipam.ipv4_address, 4)?,
        address6: match parse_address(&ipam.ipv6_address, 6)? {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        },
        link_local: ipam
            .link_local_ips
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        mac: (!mac.is_empty()).then_some(mac),
        ports: Vec::new(),
        gw_priority: settings.gw_priority,
        driver_opts: settings.driver_opts.unwrap_or_default(),
        links: Vec::new(),
    })
}

fn parse_address(text: &str, family: u8) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .ok()
        .filter(|address: &IpAddr| address.is_ipv4() == (family == 4))
        .map(Some)
        .ok_or_else(|| Error::invalid(format!("invalid IPv{family} address: {text}")))
}

/// Ports to publish: bindings, and with `-P` every exposed one.
pub fn ports(record: &Record) -> Result<Vec<PortRequest>> {
    let host = &record.host_config;
    let mut requests = Vec::new();
    let empty = PortMap::new();
    let bindings = host.port_bindings.as_ref().unwrap_or(&empty);
    for (port, wanted) in bindings {
        for binding in wanted.iter().flatten() {
            requests.push(port_request(port, binding)?);
        }
    }
    if host.publish_all_ports {
        let missing = record
            .config
            .exposed_ports
            .keys()
            .filter(|port| !bindings.contains_key(*port));
        for port in missing {
            requests.push(port_request(port, &PortBinding::default())?);
        }
    }
    Ok(requests)
}

fn port_request(port: &str, binding: &PortBinding) -> Result<PortRequest> {
    let (container_port, protocol) = parse_port(port)?;
    let invalid = || {
        Error::invalid(format!(
            "invalid port specification: {:?}",
            binding.host_port
        ))
    };
    let (first, last) = match binding.host_port.as_str() {
        "" => (0, 0),
        text => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (
                first.parse().map_err(|_| invalid())?,
                last.parse().map_err(|_| invalid())?,
            )
        }
    };
    let host_address = match binding.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid host IP: {text}")))?,
        ),
    };
    Ok(PortRequest {
        protocol,
        container_port,
        host_address,
        host_port: first,
        host_port_end: last,
    })
}

/// Reads `80/tcp`.
pub fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let invalid = || Error::invalid(format!("invalid port specification: {text:?}"));
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(invalid()),
    };
    match number.parse() {
        Ok(0) | Err(_) => Err(invalid()),
        Ok(number) => Ok((number, protocol)),
    }
}

/// Refuses ports that make no sense, at create.
pub fn validate(record_ports: Option<&PortMap>) -> Result<()> {
    for (port, bindings) in record_ports.into_iter().flatten() {
        parse_port(port)?;
        for binding in bindings.iter().flatten() {
            port_request(port, binding)?;
        }
    }
    Ok(())
}

/// Refuses endpoint settings that make no sense, at create.
pub fn validate_endpoints(networking: Option<&NetworkingConfig>) -> Result<()> {
    let endpoints = networking.and_then(|config| config.endpoints_config.as_ref());
    for (name, settings) in endpoints.into_iter().flatten() {
        if let Some(settings) = settings {
            crate::networks::endpoint_settings::validate(name, settings)?;
        }
    }
    Ok(())
}

/// The part of inspect about networks.
pub fn settings(record: &Record, state: &State) -> NetworkSettings {
    let mut settings = NetworkSettings {
        sandbox_id: state.sandbox_id.clone(),
        sandbox_key: sandbox_key(state),
        ports: port_map(record, state),
        networks: networks(record, state),
        ..NetworkSettings::default()
    };
    settings.fill_bridge_fields();
    settings
}

/// A path that enters the namespace, as Docker's does. Docker pins namespaces by bind mounts; ours live and die with
/// their processes, so the path leads through init.
fn sandbox_key(state: &State) -> String {
    if state.sandbox_id.is_empty() || state.pid == 0 {
        String::new()
    } else {
        format!("/proc/{}/ns/net", state.pid)
    }
}

/// Networks with what was asked for and, while running, what was got.
pub fn networks(record: &Record, state: &State) -> BTreeMap<String, EndpointSettings> {
    let mut networks = record.networks.clone();
    for (name, settings) in &mut networks {
        let endpoint = state
            .endpoints
            .iter()
            .find(|endpoint| endpoint.network_name == *name || endpoint.network_id == *name);
        if let Some(endpoint) = endpoint {
            fill(settings, endpoint, record);
        }
    }
    networks
}

fn fill(settings: &mut EndpointSettings, endpoint: &Endpoint, record: &Record) {
    let text =
        |address: Option<IpAddr>| address.map_or_else(String::new, |address| address.to_string());
    settings.network_id.clone_from(&endpoint.network_id);
    settings.endpoint_id.clone_from(&endpoint.endpoint_id);
    settings.gateway = text(endpoint.gateway);
    settings.ip_address = text(endpoint.address);
    settings.ip_prefix_len = i64::from(endpoint.prefix_len);
    settings.mac_address.clone_from(&endpoint.mac);
    settings.ipv6_gateway = text(endpoint.gateway6.map(IpAddr::V6));
    settings.global_ipv6_address = text(endpoint.address6.map(IpAddr::V6));
    settings.global_ipv6_prefix_len = i64::from(endpoint.prefix_len6);
    let predefined = matches!(endpoint.network_name.as_str(), "bridge" | "host" | "none");
    if !predefined {
        settings.dns_names = Some(dns_names(settings, record));
    }
}

/// Names other containers may use: the container's, its aliases, short id and host name, each once.
pub(crate) fn dns_names(settings: &EndpointSettings, record: &Record) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(settings.aliases.iter().flatten().cloned());
    names.push(ids::short(&record.id).to_owned());
    names.push(record.config.hostname.clone());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

/// `Ports` of inspect: exposed ones with null, published ones with their bindings.
pub fn port_map(record: &Record, state: &State) -> PortMap {
    let mut map = PortMap::new();
    if state.endpoints.is_empty() {
        return map;
    }
    for port in record.config.exposed_ports.keys() {
        map.insert(port.clone(), None);
    }
    for mapping in state.endpoints.iter().flat_map(|endpoint| &endpoint.ports) {
        let key = format!("{}/{}", mapping.container_port, mapping.protocol.name());
        map.entry(key)
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: mapping.host_address.to_string(),
                host_port: match mapping.host_port {
                    // Routed: asked for at the container's own address.
                    0 => String::new(),
                    port => port.to_string(),
                },
            });
    }
    map
}

impl Engine {
    /// Path of the network namespace of the container that `record` shares it with.
    pub(crate) fn shared_network(&self, record: &Record) -> Result<Option<PathBuf>> {
        let Mode::Container(name) = Mode::of(&record.host_config) else {
            return Ok(None);
        };
        self.namespace_of(&name, "net")
            .map(Some)
            .map_err(|error| match error.kind() {
                wharf_api::error::Kind::NotFound => error,
                _ => Error::conflict(format!(
                    "cannot join network namespace of a non running container: {error}"
                )),
            })
    }

    /// Gives a run's addresses back and tells of it. Blocking.
    pub(crate) fn release_network(&self, container: &str, endpoints: &[Endpoint]) {
        // Nobody is told an address that may be another's a moment later.
        self.network.forget(container);
        for endpoint in endpoints {
            self.network.release(endpoint);
        }
        self.tell_attachments("disconnect", container, endpoints);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let binding = |host_ip: &str, host_port: &str| PortBinding {
            host_ip: host_ip.into(),
            host_port: host_port.into(),
        };
        let request = port_request("80/udp", &binding("127.0.0.1", "8000-8010")).expect("ports");
        assert_eq!(
            (
                request.container_port,
                request.host_port,
                request.host_port_end
            ),
            (80, 8000, 8010)
        );
        assert_eq!(request.protocol, Protocol::Udp);
        assert_eq!(
            port_request("80", &binding("", "")).expect("any").host_port,
            0
        );
        for (port, host_port) in [
            ("0/tcp", ""),
            ("x/tcp", ""),
            ("80/odd", ""),
            ("80/tcp", "x"),
        ] {
            assert!(
                port_request(port, &binding("", host_port)).is_err(),
                "{port} {host_port}"
            );
        }
    }

    #[test]
    fn the_mode_names_a_network() {
        let host = HostConfig {
            network_mode: "bridge".into(),
            ..HostConfig::default()
        };
        assert!(wanted(&host, None, str::to_owned).contains_key("bridge"));
        let request = NetworkingConfig {
            endpoints_config: Some([("default".to_owned(), None)].into()),
        };
        assert_eq!(wanted(&host, Some(request), str::to_owned).len(), 1);
        let shared = HostConfig {
            network_mode: "container:x".into(),
            ..HostConfig::default()
        };
        assert!(wanted(&shared, None, str::to_owned).is_empty());
        let by_id = HostConfig {
            network_mode: "0123".into(),
            ..HostConfig::default()
        };
        let own_name = |name: &str| match name {
            "0123" | "01234567" => "shop".to_owned(),
            name => name.to_owned(),
        };
        let request = NetworkingConfig {
            endpoints_config: Some([("01234567".to_owned(), None)].into()),
        };
        let networks = wanted(&by_id, Some(request), own_name);
        assert!(networks.keys().eq(["shop"]));
    }
}
