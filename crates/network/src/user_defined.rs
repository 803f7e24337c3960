//! Networks that users create: from what they ask to a record.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::bridge::{FAMILY_OPTIONS, is_interface_name};
use crate::error::{NetworkError, join};
use crate::ipam::{AddressPool, SubnetSource, overlap, pick_subnet};
use crate::name::random_id;
use crate::option::{self, BridgeOptions, GatewayMode};
use crate::record::{
    IpamRecord, NetworkConfig, NetworkRecord, NewNetwork, SubnetRecord, is_predefined,
};

/// What a new network is checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) existing: &'a [&'a NetworkRecord],
    pub(crate) sources: &'a [SubnetSource],
    /// What the host routes.
    pub(crate) routed: &'a [IpNet],
    pub(crate) config: &'a NetworkConfig,
}

/// The record of a new network.
pub(crate) fn plan(mut new: NewNetwork, facts: &Facts<'_>) -> Result<NetworkRecord, NetworkError> {
    check_name(&new, facts.existing)?;
    if new.config_only {
        return config_only(new);
    }
    check_driver(&new)?;
    if new.config_from.is_empty() {
        add_default_options(&mut new, facts.config);
    } else {
        copy_configuration(&mut new, facts.existing)?;
    }
    let (ipv4, ipv6) = families(&mut new)?;
    if !ipv4 && !ipv6 {
        return Err(NetworkError::Invalid("IPv4 or IPv6 must be enabled".into()));
    }
    let user_chosen = new
        .ipam
        .config
        .iter()
        .any(|config| !config.subnet.is_empty());
    let mut record = NetworkRecord {
        ipam: IpamRecord {
            config: subnets(&new, facts, ipv4, ipv6)?,
            user_chosen,
            ..new.ipam.clone()
        },
        ..record(new, ipv4, ipv6)
    };
    for name in [option::RATE_INGRESS, option::RATE_EGRESS] {
        option::rate(&record.options, &record.options, name)?;
    }
    settle_parent(&mut record);
    check_interface(&record, facts.existing)?;
    Ok(record)
}

fn record(new: NewNetwork, enable_ipv4: bool, enable_ipv6: bool) -> NetworkRecord {
    NetworkRecord {
        id: random_id(),
        name: new.name,
        driver: new.driver,
        created: jiff::Timestamp::now().to_string(),
        enable_ipv4,
        enable_ipv6,
        internal: new.internal,
        attachable: new.attachable,
        ipam: new.ipam,
        options: new.options,
        labels: new.labels,
        config_only: new.config_only,
        config_from: new.config_from,
    }
}

fn check_name(new: &NewNetwork, existing: &[&NetworkRecord]) -> Result<(), NetworkError> {
    if new.name.trim().is_empty() {
        return Err(NetworkError::Invalid("invalid name: name is empty".into()));
    }
    if is_predefined(&new.name) {
        return Err(NetworkError::Forbidden(format!(
            "operation is not permitted on predefined {} network",
            new.name
        )));
    }
    if existing.iter().any(|record| record.name == new.name) {
        return Err(NetworkError::NameTaken(new.name.clone()));
    }
    Ok(())
}

fn check_driver(new: &NewNetwork) -> Result<(), NetworkError> {
    match new.driver.as_str() {
        "bridge" | "macvlan" | "ipvlan" => {}
        "host" | "null" => {
            let text = format!("only one instance of \"{}\" network is allowed", new.driver);
            return Err(NetworkError::Forbidden(text));
        }
        "overlay" => {
            return Err(NetworkError::Forbidden(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.".into(),
            ));
        }
        other => {
            let text =
                format!("could not find plugin {other} in v1 plugin registry: plugin not found");
            return Err(NetworkError::NoDriver(text));
        }
    }
    match new.ipam.driver.as_str() {
        "default" => Ok(()),
        other => Err(NetworkError::NoDriver(format!(
            "invalid IPAM driver: {other}"
        ))),
    }
}

/// A network that is only there to be copied from (moby `validateConfiguration`).
fn config_only(new: NewNetwork) -> Result<NetworkRecord, NetworkError> {
    if new.internal || new.attachable {
        return Err(NetworkError::Forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.".into(),
        ));
    }
    if !new.config_from.is_empty() {
        return Err(NetworkError::Forbidden(
            "a configuration network cannot depend on another configuration network".into(),
        ));
    }
    let mut new = new;
    let (ipv4, ipv6) = families(&mut new)?;
    check_subnets(&new.ipam.config, ipv6)?;
    let mut record = record(new, ipv4, ipv6);
    record.driver = "null".into();
    Ok(record)
}

fn copy_configuration(
    new: &mut NewNetwork,
    existing: &[&NetworkRecord],
) -> Result<(), NetworkError> {
    let given = new.enable_ipv6 == Some(true)
        || new.enable_ipv4 == Some(false)
        || !new.labels.is_empty()
        || new
            .ipam
            .options
            .as_ref()
            .is_some_and(|options| !options.is_empty())
        || !new.ipam.config.is_empty();
    if given {
        return Err(NetworkError::Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network".into(),
        ));
    }
    if !new.options.is_empty() {
        return Err(NetworkError::Forbidden(
            "network driver options are not supported if the network depends on a configuration network".into(),
        ));
    }
    let source = existing
        .iter()
        .find(|record| record.name == new.config_from && record.config_only)
        .ok_or_else(|| {
            NetworkError::NoDriver(format!(
                "configuration network {:?} does not exist",
                new.config_from
            ))
        })?;
    new.enable_ipv4 = Some(source.enable_ipv4);
    new.enable_ipv6 = Some(source.enable_ipv6);
    new.ipam = source.ipam.clone();
    new.options.clone_from(&source.options);
    new.labels.clone_from(&source.labels);
    Ok(())
}

/// `--default-network-opt`, where the request does not say otherwise.
fn add_default_options(new: &mut NewNetwork, config: &NetworkConfig) {
    for (name, value) in config
        .default_network_opts
        .get(&new.driver)
        .into_iter()
        .flatten()
    {
        new.options
            .entry(name.clone())
            .or_insert_with(|| value.clone());
    }
}

/// Which families the network has: as the request says, else as an option says (moby `createNetwork`).
fn families(new: &mut NewNetwork) -> Result<(bool, bool), NetworkError> {
    let [v4, v6] = FAMILY_OPTIONS;
    let on = |name: &str, decided: Option<bool>, default| match (decided, new.options.get(name)) {
        (Some(on), _) => Ok(on),
        (None, None) => Ok(default),
        (None, Some(value)) => option::parse_bool(value).ok_or_else(|| {
            NetworkError::Invalid(format!("driver-opt {name:?} is not a valid bool"))
        }),
    };
    let families = (
        on(v4, new.enable_ipv4, true)?,
        on(v6, new.enable_ipv6, false)?,
    );
    for (name, decided) in [(v4, new.enable_ipv4), (v6, new.enable_ipv6)] {
        if decided.is_some() {
            new.options.remove(name);
        }
    }
    Ok(families)
}

/// A macvlan or ipvlan network without a parent leads nowhere.
fn settle_parent(record: &mut NetworkRecord) {
    let parent = record
        .options
        .get("parent")
        .is_some_and(|name| !name.is_empty());
    if record.driver != "bridge" && !parent {
        record.internal = true;
    }
}

fn check_interface(
    record: &NetworkRecord,
    existing: &[&NetworkRecord],
) -> Result<(), NetworkError> {
    let Some(name) = record.bridge_name() else {
        return Ok(());
    };
    if !is_interface_name(&name) {
        return Err(NetworkError::Invalid(format!(
            "invalid interface name: {name}"
        )));
    }
    match existing
        .iter()
        .find(|other| other.bridge_name().as_deref() == Some(&name))
    {
        Some(other) => Err(NetworkError::Forbidden(format!(
            "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge name",
            record.id, other.id
        ))),
        None => Ok(()),
    }
}

/// The subnets of both families, complete: those given, and one from the pools for a family of which none is given.
fn subnets(
    new: &NewNetwork,
    facts: &Facts<'_>,
    ipv4: bool,
    ipv6: bool,
) -> Result<Vec<SubnetRecord>, NetworkError> {
    check_subnets(&new.ipam.config, ipv6)?;
    check_number(new)?;
    let used: Vec<IpNet> = facts
        .existing
        .iter()
        .filter(|record| !record.config_only)
        .flat_map(|record| record.subnets())
        .collect();
    let mut all: Vec<SubnetRecord> = Vec::new();
    for (ipv6, on) in [(false, ipv4), (true, ipv6)] {
        let given = new
            .ipam
            .config
            .iter()
            .filter(|config| !config.subnet.is_empty() && config.is_ipv6() == ipv6);
        let mut family: Vec<SubnetRecord> = given.cloned().collect();
        if !on {
            // Kept as given, without a use (as Docker shows them).
            all.extend(family);
            continue;
        }
        for config in &family {
            let net: IpNet = parse_subnet(config)?;
            let own = all.iter().filter_map(|other| other.subnet.parse().ok());
            if used
                .iter()
                .copied()
                .chain(own)
                .any(|other| overlap(&net, &other))
            {
                return Err(NetworkError::PoolOverlaps);
            }
        }
        if family.is_empty() {
            family.push(pick(facts, &used, ipv6)?);
        }
        for config in family {
            all.push(with_gateway(config, new)?);
        }
    }
    Ok(all)
}

/// The bridge driver has one subnet of each family.
fn check_number(new: &NewNetwork) -> Result<(), NetworkError> {
    let number = |ipv6| {
        new.ipam
            .config
            .iter()
            .filter(|config| config.is_ipv6() == ipv6)
            .count()
    };
    if new.driver == "bridge" && (number(false) > 1 || number(true) > 1) {
        return Err(NetworkError::Forbidden(
            "bridge driver doesn't support multiple subnets".into(),
        ));
    }
    Ok(())
}

fn pick(facts: &Facts<'_>, used: &[IpNet], ipv6: bool) -> Result<SubnetRecord, NetworkError> {
    let occupied: Vec<IpNet> = facts.routed.iter().chain(used).copied().collect();
    let subnet = pick_subnet(facts.sources, &occupied, ipv6).ok_or(NetworkError::NoPoolLeft)?;
    Ok(SubnetRecord {
        subnet: subnet.to_string(),
        ..SubnetRecord::default()
    })
}

fn parse_subnet(config: &SubnetRecord) -> Result<IpNet, NetworkError> {
    config.subnet.parse().map_err(|_| {
        invalid(&format!(
            "invalid subnet {}: invalid CIDR block notation",
            config.subnet
        ))
    })
}

/// Checks what the user gave (wording of moby's `validateIpamConfig`).
fn check_subnets(configs: &[SubnetRecord], ipv6: bool) -> Result<(), NetworkError> {
    let mut problems = Vec::new();
    for config in configs {
        if config.subnet.is_empty() {
            let bare = config.gateway.is_empty()
                && config.ip_range.is_empty()
                && config.aux_addresses.is_empty();
            if !bare {
                problems.push("invalid subnet : invalid CIDR block notation".to_owned());
            }
            continue;
        }
        let subnet = parse_subnet(config)?;
        if subnet.addr().is_ipv4() || ipv6 {
            problems.extend(problems_of(config, subnet));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(invalid(&join(&problems)))
    }
}

fn problems_of(config: &SubnetRecord, subnet: IpNet) -> Vec<String> {
    let mut problems = Vec::new();
    if subnet != subnet.trunc() {
        problems.push(format!(
            "invalid subnet {subnet}: it should be {}",
            subnet.trunc()
        ));
    }
    problems.extend(range_problems(&config.ip_range, subnet));
    let mut addresses: BTreeMap<String, &String> = BTreeMap::new();
    if !config.gateway.is_empty() {
        addresses.insert(format!("gateway {}", config.gateway), &config.gateway);
    }
    for (name, address) in &config.aux_addresses {
        addresses.insert(format!("auxiliary address {name}"), address);
    }
    for (what, text) in addresses {
        let problem = match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() != subnet.addr().is_ipv4() => {
                format!("parent subnet is an IPv{} block", family(&subnet))
            }
            Ok(address) if subnet.contains(&address) => continue,
            Ok(_) => format!("parent subnet {subnet} doesn't contain this address"),
            Err(_) => "invalid address".to_owned(),
        };
        problems.push(format!("invalid {what}: {problem}"));
    }
    problems
}

fn range_problems(text: &str, subnet: IpNet) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let Ok(range) = text.parse::<IpNet>() else {
        return vec![format!(
            "invalid ip-range {text}: invalid CIDR block notation"
        )];
    };
    if range.addr().is_ipv4() != subnet.addr().is_ipv4() {
        return vec![format!(
            "invalid ip-range {text}: parent subnet is an IPv{} block",
            family(&subnet)
        )];
    }
    let mut problems = Vec::new();
    if range.prefix_len() < subnet.prefix_len() {
        problems.push(format!(
            "invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if range != range.trunc() {
        problems.push(format!(
            "invalid ip-range {range}: it should be {}",
            range.trunc()
        ));
    }
    if !overlap(&range, &subnet) {
        problems.push(format!(
            "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
    problems
}

fn family(subnet: &IpNet) -> u8 {
    if subnet.addr().is_ipv4() { 4 } else { 6 }
}

/// The gateway is the first address of the range (or subnet) unless the user named one. Networks whose gateway is not ours
/// (macvlan and ipvlan, Docker 28) have the one that was given or none; so do isolated ones.
fn with_gateway(mut config: SubnetRecord, new: &NewNetwork) -> Result<SubnetRecord, NetworkError> {
    if !config.gateway.is_empty() || new.driver != "bridge" || is_isolated(&config, new)? {
        return Ok(config);
    }
    let subnet = parse_subnet(&config)?;
    let range = config.ip_range.parse().ok();
    let mut pool = AddressPool::new(subnet, range);
    for reserved in config
        .aux_addresses
        .values()
        .filter_map(|text| text.parse::<IpAddr>().ok())
    {
        // Two names may reserve one address.
        let _ = pool.take(reserved);
    }
    let gateway = pool
        .take_any()
        .map_err(|_| invalid(&format!("subnet {subnet} has no room for a gateway")))?;
    config.gateway = gateway.to_string();
    Ok(config)
}

fn is_isolated(config: &SubnetRecord, new: &NewNetwork) -> Result<bool, NetworkError> {
    let options = BridgeOptions::read(&new.options, new.internal)?;
    let mode = if config.is_ipv6() {
        options.mode6
    } else {
        options.mode4
    };
    Ok(mode == GatewayMode::Isolated)
}

fn invalid(what: &str) -> NetworkError {
    NetworkError::Invalid(format!("invalid network config:\n{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::default_sources;

    fn new(name: &str, subnet: &str, range: &str, gateway: &str) -> NewNetwork {
        let config = SubnetRecord {
            subnet: subnet.into(),
            ip_range: range.into(),
            gateway: gateway.into(),
            aux_addresses: BTreeMap::new(),
        };
        let config = if config == SubnetRecord::default() {
            Vec::new()
        } else {
            vec![config]
        };
        NewNetwork {
            name: name.into(),
            ipam: IpamRecord {
                driver: "default".into(),
                config,
                ..IpamRecord::default()
            },
            ..NewNetwork::bridge()
        }
    }

    fn check(new: NewNetwork, expected: Result<(&str, &str), &str>) {
        let config = NetworkConfig::default();
        let facts = Facts {
            existing: &[],
            sources: &default_sources(),
            routed: &["172.18.4.0/24".parse().unwrap()],
            config: &config,
        };
        let first = self::new("first", "172.17.0.0/16", "", "");
        let bridge = plan(first, &facts).expect("a first network");
        let facts = Facts {
            existing: &[&bridge],
            ..facts
        };
        let planned = plan(new.clone(), &facts);
        let shown = planned
            .map(|record| (record.subnet().to_owned(), record.gateway().to_owned()))
            .map_err(|error| error.to_string());
        let expected = expected
            .map(|(subnet, gateway)| (subnet.to_owned(), gateway.to_owned()))
            .map_err(str::to_owned);
        assert_eq!(shown, expected, "{new:?}");
    }

    #[test]
    fn subnets_are_chosen_and_checked() {
        check(new("n", "", "", ""), Ok(("172.19.0.0/16", "172.19.0.1")));
        check(
            new("n", "10.1.0.0/24", "", ""),
            Ok(("10.1.0.0/24", "10.1.0.1")),
        );
        check(
            new("n", "10.1.0.0/24", "10.1.0.128/25", ""),
            Ok(("10.1.0.0/24", "10.1.0.128")),
        );
        check(
            new("n", "10.1.0.0/24", "", "10.1.0.254"),
            Ok(("10.1.0.0/24", "10.1.0.254")),
        );
        check(
            new("n", "172.17.9.0/24", "", ""),
            Err("invalid pool request: Pool overlaps with other one on this address space"),
        );
        check(
            new("n", "10.1.0.5/24", "", ""),
            Err("invalid network config:\ninvalid subnet 10.1.0.5/24: it should be 10.1.0.0/24"),
        );
        check(
            new("n", "10.1.0.0/24", "10.0.0.0/8", "10.2.0.1"),
            Err(
                "invalid network config:\n* invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/24\n* invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address",
            ),
        );
    }

    #[test]
    fn names_and_drivers_are_checked() {
        check(
            new("first", "", "", ""),
            Err("network with name first already exists"),
        );
        check(
            new("bridge", "", "", ""),
            Err("operation is not permitted on predefined bridge network"),
        );
        check(new("", "", "", ""), Err("invalid name: name is empty"));
        let host = NewNetwork {
            driver: "host".into(),
            ..new("n", "", "", "")
        };
        check(
            host,
            Err("only one instance of \"host\" network is allowed"),
        );
        let long = [(
            "com.docker.network.bridge.name".to_owned(),
            "a-name-far-too-long".to_owned(),
        )];
        let long = NewNetwork {
            options: long.into(),
            ..new("n", "", "", "")
        };
        check(long, Err("invalid interface name: a-name-far-too-long"));
    }
}
