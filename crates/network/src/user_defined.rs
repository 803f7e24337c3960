//! Networks that users create: from what they ask to a record.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::error::NetworkError;
use crate::ipam::{AddressPool, SubnetSource, overlap, pick_subnet};
use crate::name::random_id;
use crate::record::{IpamRecord, NetworkRecord, NewNetwork, SubnetRecord, is_predefined};

/// Longest interface name (`IFNAMSIZ` with its zero).
const INTERFACE_NAME_MAX: usize = 15;

/// The record of a new network, checked against `existing` ones and what the host routes.
pub(crate) fn plan(
    new: NewNetwork,
    existing: &[&NetworkRecord],
    sources: &[SubnetSource],
    routed: &[IpNet],
) -> Result<NetworkRecord, NetworkError> {
    check_name(&new, existing)?;
    check_driver(&new)?;
    check_families(&new)?;
    let used: Vec<IpNet> = existing
        .iter()
        .filter_map(|record| record.subnet().parse().ok())
        .collect();
    let user_chosen = new
        .ipam
        .config
        .iter()
        .any(|config| !config.subnet.is_empty());
    let config = match new.ipam.config.as_slice() {
        [] => chosen_for_user(sources, routed, &used)?,
        [config] => complete(config.clone(), sources, routed, &used)?,
        _ => {
            return Err(NetworkError::NotImplemented(
                "more than one subnet of a network".into(),
            ));
        }
    };
    let record = NetworkRecord {
        id: random_id(),
        name: new.name,
        driver: "bridge".into(),
        created: jiff::Timestamp::now().to_string(),
        enable_ipv4: true,
        enable_ipv6: false,
        internal: new.internal,
        attachable: new.attachable,
        ipam: IpamRecord {
            config: vec![config],
            user_chosen,
            ..new.ipam
        },
        options: new.options,
        labels: new.labels,
    };
    check_interface(&record, existing)?;
    Ok(record)
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
        "bridge" => {}
        "host" | "null" => {
            let text = format!("only one instance of \"{}\" network is allowed", new.driver);
            return Err(NetworkError::Forbidden(text));
        }
        "macvlan" | "ipvlan" => {
            return Err(NetworkError::NotImplemented(format!(
                "network driver {}",
                new.driver
            )));
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

fn check_families(new: &NewNetwork) -> Result<(), NetworkError> {
    if new.enable_ipv6 {
        return Err(NetworkError::NotImplemented("IPv6 on networks".into()));
    }
    if !new.enable_ipv4 {
        return Err(NetworkError::Invalid("IPv4 or IPv6 must be enabled".into()));
    }
    Ok(())
}

fn check_interface(
    record: &NetworkRecord,
    existing: &[&NetworkRecord],
) -> Result<(), NetworkError> {
    let name = record.bridge_name().expect("the driver is bridge");
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace();
    if name.len() > INTERFACE_NAME_MAX || name.bytes().any(bad) || name == "." || name == ".." {
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

fn chosen_for_user(
    sources: &[SubnetSource],
    routed: &[IpNet],
    used: &[IpNet],
) -> Result<SubnetRecord, NetworkError> {
    let occupied: Vec<IpNet> = routed.iter().chain(used).copied().collect();
    let subnet = pick_subnet(sources, &occupied).ok_or(NetworkError::NoPoolLeft)?;
    with_gateway(
        SubnetRecord {
            subnet: subnet.to_string(),
            ..SubnetRecord::default()
        },
        subnet,
    )
}

/// Checks what the user gave (wording of moby's `validateIpamConfig`) and fills in the rest.
fn complete(
    config: SubnetRecord,
    sources: &[SubnetSource],
    routed: &[IpNet],
    used: &[IpNet],
) -> Result<SubnetRecord, NetworkError> {
    if config.subnet.is_empty() {
        if !config.gateway.is_empty()
            || !config.ip_range.is_empty()
            || !config.aux_addresses.is_empty()
        {
            return Err(invalid(
                "a gateway, an IP range or auxiliary addresses need a subnet",
            ));
        }
        return chosen_for_user(sources, routed, used);
    }
    let subnet: IpNet = config
        .subnet
        .parse()
        .map_err(|_| invalid(&format!("invalid subnet {}", config.subnet)))?;
    let IpNet::V4(subnet) = subnet else {
        return Err(NetworkError::NotImplemented("IPv6 subnets".into()));
    };
    let problems = problems(&config, subnet);
    if !problems.is_empty() {
        return Err(invalid(&problems.join("\n")));
    }
    if used.iter().any(|other| overlap(&subnet.into(), other)) {
        return Err(NetworkError::PoolOverlaps);
    }
    with_gateway(config, subnet)
}

fn problems(config: &SubnetRecord, subnet: Ipv4Net) -> Vec<String> {
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
    for (what, address) in addresses {
        match address.parse() {
            Ok(IpAddr::V4(address)) if subnet.contains(&address) => {}
            Ok(IpAddr::V4(_)) => problems.push(format!(
                "invalid {what}: parent subnet {subnet} doesn't contain this address"
            )),
            Ok(IpAddr::V6(_)) => {
                problems.push(format!("invalid {what}: parent subnet is an IPv4 block"))
            }
            Err(_) => problems.push(format!("invalid {what}: invalid address")),
        }
    }
    problems
}

fn range_problems(text: &str, subnet: Ipv4Net) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let range = match text.parse() {
        Ok(IpNet::V4(range)) => range,
        Ok(IpNet::V6(_)) => {
            return vec![format!(
                "invalid ip-range {text}: parent subnet is an IPv4 block"
            )];
        }
        Err(_) => {
            return vec![format!(
                "invalid ip-range {text}: invalid CIDR block notation"
            )];
        }
    };
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
    if !overlap(&range.into(), &subnet.into()) {
        problems.push(format!(
            "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
    problems
}

/// The gateway is the first address of the range (or subnet) unless the user named one.
fn with_gateway(mut config: SubnetRecord, subnet: Ipv4Net) -> Result<SubnetRecord, NetworkError> {
    if config.gateway.is_empty() {
        let range = config.ip_range.parse().ok();
        let mut pool = AddressPool::new(subnet.into(), range);
        for reserved in config
            .aux_addresses
            .values()
            .filter_map(|text| text.parse::<Ipv4Addr>().ok())
        {
            // Two names may reserve one address.
            let _ = pool.take(reserved.into());
        }
        let gateway = pool
            .take_any()
            .map_err(|_| invalid(&format!("subnet {subnet} has no room for a gateway")))?;
        config.gateway = gateway.to_string();
    }
    Ok(config)
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
        let bridge = plan(
            self::new("first", "172.17.0.0/16", "", ""),
            &[],
            &default_sources(),
            &[],
        )
        .expect("a first network");
        let planned = plan(
            new.clone(),
            &[&bridge],
            &default_sources(),
            &["172.18.4.0/24".parse().unwrap()],
        );
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
                "invalid network config:\ninvalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/24\ninvalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address",
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
