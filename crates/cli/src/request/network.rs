//! `--network`, in its short and long form, and the flags that describe the first network's endpoint.

use std::collections::BTreeMap;

use wharf_api::network::{EndpointIpamConfig, EndpointSettings};

use super::address::is_mac;
use crate::flags::parse::Matches;

/// Networks of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Networks {
    /// The first network.
    pub mode: String,
    /// How the container takes part in them.
    pub endpoints: BTreeMap<String, Option<EndpointSettings>>,
}

/// Checks a `--network` value.
pub fn check(value: &str) -> Result<(), String> {
    parse_one(value).map(drop)
}

/// Reads `--network` and the flags of its endpoint.
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse(matches: &Matches) -> Result<Networks, String> {
    let given: Vec<&String> = matches
        .list("network")
        .iter()
        .chain(matches.list("net"))
        .collect();
    if given.is_empty() {
        let mut endpoint = EndpointSettings::default();
        apply_flags(matches, "default", &mut endpoint)?;
        check_endpoint("default", &endpoint)?;
        return Ok(Networks {
            mode: "default".into(),
            endpoints: BTreeMap::from([("default".into(), Some(endpoint))]),
        });
    }
    let mut networks = Networks::default();
    for (i, value) in given.iter().enumerate() {
        let (name, mut endpoint) = parse_one(value)?;
        if i == 0 {
            networks.mode.clone_from(&name);
            apply_flags(matches, &name, &mut endpoint)?;
        }
        check_endpoint(&name, &endpoint)?;
        if networks.endpoints.contains_key(&name) {
            return Err(format!(
                "network {} is specified multiple times",
                crate::flags::parse::quote(&name)
            ));
        }
        // A lone network without options is left to the daemon.
        if given.len() > 1 || endpoint != EndpointSettings::default() {
            networks.endpoints.insert(name, Some(endpoint));
        }
    }
    let user_defined = networks
        .endpoints
        .keys()
        .filter(|name| is_user_defined(name))
        .count();
    if user_defined > 0 && user_defined < networks.endpoints.len() {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".into());
    }
    Ok(networks)
}

/// Not one of the modes that have a meaning of their own.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none" | "") && !name.starts_with("container:")
}

fn parse_one(value: &str) -> Result<(String, EndpointSettings), String> {
    let is_long = value.split(',').all(|field| field.contains('=')) && value.contains('=');
    if !is_long {
        return Ok((value.to_owned(), EndpointSettings::default()));
    }
    let mut name = String::new();
    let mut endpoint = EndpointSettings::default();
    for field in super::mount::csv(value)? {
        let lower = field.to_lowercase();
        let Some((key, value)) = lower.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(format!("invalid field {field}"));
        };
        let value = value.trim().to_owned();
        match key.trim() {
            "name" => name = value,
            "alias" => endpoint.aliases.get_or_insert_default().push(value),
            "ip" => endpoint.ipam_config.get_or_insert_default().ipv4_address = value,
            "ip6" => endpoint.ipam_config.get_or_insert_default().ipv6_address = value,
            "mac-address" => endpoint.mac_address = value,
            "link-local-ip" => endpoint
                .ipam_config
                .get_or_insert_default()
                .link_local_ips
                .push(value),
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .filter(|(key, _)| !key.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                let options = endpoint.driver_opts.get_or_insert_default();
                options.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            "gw-priority" => {
                endpoint.gw_priority = value
                    .parse()
                    .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if name.is_empty() {
        Err("network name/id is not specified".into())
    } else {
        Ok((name, endpoint))
    }
}

/// `--network-alias`, `--ip`, … describe the first network; given twice they contradict each other.
fn apply_flags(
    matches: &Matches,
    name: &str,
    endpoint: &mut EndpointSettings,
) -> Result<(), String> {
    let clash = |flag: &str, what: &str| {
        Err(format!(
            "conflicting options: cannot specify both {flag} and per-network {what}"
        ))
    };
    let aliases: Vec<String> = matches
        .list("network-alias")
        .iter()
        .chain(matches.list("net-alias"))
        .cloned()
        .collect();
    if !aliases.is_empty() {
        if endpoint.aliases.is_some() {
            return clash("--network-alias", "alias");
        }
        endpoint.aliases = Some(aliases);
    }
    let links = matches.list("link");
    if is_user_defined(name) && !links.is_empty() {
        endpoint.links = Some(links.to_vec());
    }
    let ipam = endpoint.ipam_config.clone().unwrap_or_default();
    let mut own = EndpointIpamConfig::default();
    if let Some(ip) = matches.text("ip") {
        if !ipam.ipv4_address.is_empty() {
            return clash("--ip", "IPv4 address");
        }
        own.ipv4_address = ip.to_owned();
    }
    if let Some(ip) = matches.text("ip6") {
        if !ipam.ipv6_address.is_empty() {
            return clash("--ip6", "IPv6 address");
        }
        own.ipv6_address = ip.to_owned();
    }
    let local = matches.list("link-local-ip");
    if !local.is_empty() {
        if !ipam.link_local_ips.is_empty() {
            return clash("--link-local-ip", "link-local IP addresses");
        }
        own.link_local_ips = local.to_vec();
    }
    if own != EndpointIpamConfig::default() {
        let pick = |own: String, given: String| if own.is_empty() { given } else { own };
        endpoint.ipam_config = Some(EndpointIpamConfig {
            ipv4_address: pick(own.ipv4_address, ipam.ipv4_address),
            ipv6_address: pick(own.ipv6_address, ipam.ipv6_address),
            link_local_ips: if own.link_local_ips.is_empty() {
                ipam.link_local_ips
            } else {
                own.link_local_ips
            },
        });
    }
    if let Some(mac) = matches.text("mac-address") {
        if !endpoint.mac_address.is_empty() {
            return clash("--mac-address", "MAC address");
        }
        endpoint.mac_address = mac.to_owned();
    }
    Ok(())
}

fn check_endpoint(name: &str, endpoint: &EndpointSettings) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err("no name set for network".into());
    }
    if !is_user_defined(name) {
        if endpoint
            .aliases
            .as_ref()
            .is_some_and(|aliases| !aliases.is_empty())
        {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".into(),
            );
        }
        if endpoint
            .links
            .as_ref()
            .is_some_and(|links| !links.is_empty())
        {
            return Err("links are only supported for user-defined networks".into());
        }
    }
    if !endpoint.mac_address.is_empty() && !is_mac(endpoint.mac_address.trim()) {
        return Err(format!(
            "{} is not a valid mac address",
            endpoint.mac_address
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_form_describes_the_endpoint() {
        let (name, endpoint) =
            parse_one("name=n,alias=a,alias=b,ip=10.0.0.2,gw-priority=3").expect("fits");
        assert_eq!(name, "n");
        assert_eq!(endpoint.aliases, Some(vec!["a".into(), "b".into()]));
        assert_eq!(endpoint.ipam_config.expect("set").ipv4_address, "10.0.0.2");
        assert_eq!(endpoint.gw_priority, 3);
        assert_eq!(parse_one("bridge").expect("fits").0, "bridge");
        assert_eq!(
            parse_one("alias=a"),
            Err("network name/id is not specified".into())
        );
        assert_eq!(
            parse_one("name=a,foo=b"),
            Err("invalid field key foo".into())
        );
    }
}
