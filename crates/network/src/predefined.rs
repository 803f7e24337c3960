//! The three networks that are always there: `bridge`, `host`, `none`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::NetworkError;
use crate::ipam::{SubnetSource, pick_subnet};
use crate::link::BridgeState;
use crate::name::random_id;
use crate::option;
use crate::record::{IpamRecord, NetworkConfig, NetworkRecord, SubnetRecord};

/// The default bridge's interface when none is named.
const DEFAULT_BRIDGE_INTERFACE: &str = "docker0";

/// Interface of the default bridge; `None` when it is switched off (`--bridge none`).
pub(crate) fn bridge_interface(config: &NetworkConfig) -> Option<&str> {
    match config.bridge.as_deref() {
        None | Some("") => Some(DEFAULT_BRIDGE_INTERFACE),
        Some("none") => None,
        Some(name) => Some(name),
    }
}

/// Whether the default bridge is one that the user made and keeps.
pub(crate) fn is_user_managed(config: &NetworkConfig) -> bool {
    matches!(config.bridge.as_deref(), Some(name) if !name.is_empty() && name != "none")
}

/// `host` or `none`.
pub(crate) fn plain(name: &str, driver: &str) -> NetworkRecord {
    NetworkRecord {
        id: random_id(),
        name: name.into(),
        driver: driver.into(),
        created: jiff::Timestamp::now().to_string(),
        enable_ipv4: true,
        enable_ipv6: false,
        internal: false,
        attachable: false,
        ipam: IpamRecord {
            driver: "default".into(),
            ..IpamRecord::default()
        },
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        config_only: false,
        config_from: String::new(),
    }
}

/// The default bridge network on `interface`: its gateway is `--bip`, or the address the interface has, or that of the first free
/// default pool, in this order (as Docker's `getDefaultBridgeIPAMConf`).
pub(crate) fn plan_bridge(
    config: &NetworkConfig,
    interface: &str,
    state: Option<&BridgeState>,
    sources: &[SubnetSource],
    occupied: &[IpNet],
) -> Result<NetworkRecord, NetworkError> {
    if is_user_managed(config) {
        check_user_bridge(config, interface, state)?;
    }
    let families = [
        Some(Family {
            own: &config.bip,
            option: "bip",
            range: &config.fixed_cidr,
            range_option: "fixed-cidr",
            route: &config.default_gateway,
            route_key: "DefaultGatewayIPv4",
            ipv6: false,
        }),
        config.ipv6.then_some(Family {
            own: &config.bip6,
            option: "bip6",
            range: &config.fixed_cidr_v6,
            range_option: "fixed-cidr-v6",
            route: &config.default_gateway_v6,
            route_key: "DefaultGatewayIPv6",
            ipv6: true,
        }),
    ];
    let mut record = plain("bridge", "bridge");
    for family in families.into_iter().flatten() {
        let subnet = plan_subnet(&family, state, sources, occupied)?;
        record.ipam.config.push(subnet);
    }
    record.enable_ipv6 = config.ipv6;
    record.options = options(config, interface);
    Ok(record)
}

/// The daemon's options about one family of the default bridge.
struct Family<'a> {
    own: &'a Option<String>,
    option: &'static str,
    range: &'a Option<String>,
    range_option: &'static str,
    route: &'a Option<String>,
    route_key: &'static str,
    ipv6: bool,
}

fn plan_subnet(
    family: &Family<'_>,
    state: Option<&BridgeState>,
    sources: &[SubnetSource],
    occupied: &[IpNet],
) -> Result<SubnetRecord, NetworkError> {
    let present = state.and_then(|state| {
        let usable = |net: &&IpNet| net.addr().is_ipv6() == family.ipv6 && !is_link_local(net);
        state.addresses.iter().find(usable).copied()
    });
    let range = fixed_cidr(family)?;
    let gateway = match (family.own, present, range) {
        (Some(own), _, _) => parse_bip(family.option, own, family.ipv6)?,
        (None, Some(present), _) => present,
        // The subnet of IPv6 may be given by its range alone.
        (None, None, Some(range)) if family.ipv6 => first_host(range),
        (None, None, _) => {
            first_host(pick_subnet(sources, occupied, family.ipv6).ok_or(NetworkError::NoPoolLeft)?)
        }
    };
    if let Some(range) = range.filter(|range| !gateway.trunc().contains(range)) {
        return Err(NetworkError::Invalid(format!(
            "{} {range} is not inside the bridge's subnet {}",
            family.range_option,
            gateway.trunc()
        )));
    }
    let mut aux_addresses = BTreeMap::new();
    if let Some(text) = family.route {
        let route: IpAddr = text.parse().map_err(|_| {
            NetworkError::Invalid(format!("invalid default gateway address: {text}"))
        })?;
        if !gateway.trunc().contains(&route) {
            return Err(NetworkError::Invalid(format!(
                "default gateway {route} must be in the network's subnet {}",
                gateway.trunc()
            )));
        }
        aux_addresses.insert(family.route_key.to_owned(), route.to_string());
    }
    Ok(SubnetRecord {
        subnet: gateway.trunc().to_string(),
        ip_range: range
            .filter(|range| *range != gateway.trunc())
            .map_or_else(String::new, |range| range.to_string()),
        gateway: gateway.addr().to_string(),
        aux_addresses,
    })
}

fn is_link_local(net: &IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn check_user_bridge(
    config: &NetworkConfig,
    interface: &str,
    state: Option<&BridgeState>,
) -> Result<(), NetworkError> {
    if config.bip.is_some() {
        let text = "You specified -b & --bip, mutually exclusive options. Please specify only one";
        return Err(NetworkError::Invalid(text.into()));
    }
    match state {
        Some(state) if state.is_bridge => Ok(()),
        Some(_) => Err(NetworkError::Invalid(format!(
            "existing interface {interface} is not a bridge"
        ))),
        None => {
            let text =
                format!("bridge device with non default name {interface} must be created manually");
            Err(NetworkError::Invalid(text))
        }
    }
}

fn parse_bip(option: &str, bip: &str, ipv6: bool) -> Result<IpNet, NetworkError> {
    let invalid = || {
        NetworkError::Invalid(format!(
            "parse {option} failed: invalid CIDR address: {bip}"
        ))
    };
    let address: IpNet = bip.parse().map_err(|_| invalid())?;
    if address.addr().is_ipv6() != ipv6 {
        return Err(invalid());
    }
    // A network address can't be the bridge's own.
    if address.prefix_len() < address.max_prefix_len() - 1 && address.addr() == address.network() {
        return Err(NetworkError::Invalid(format!(
            "{option} {bip} is a network address, not one of a host"
        )));
    }
    Ok(address)
}

fn first_host(subnet: IpNet) -> IpNet {
    let first = subnet.hosts().find(|host| *host != subnet.network());
    IpNet::new(first.unwrap_or(subnet.addr()), subnet.prefix_len())
        .expect("the length comes from a valid subnet")
}

fn fixed_cidr(family: &Family<'_>) -> Result<Option<IpNet>, NetworkError> {
    let Some(text) = family.range else {
        return Ok(None);
    };
    let range: Option<IpNet> = text.parse().ok();
    let range = range.filter(|range| range.addr().is_ipv6() == family.ipv6);
    match range {
        Some(range) => Ok(Some(range.trunc())),
        None => Err(NetworkError::Invalid(format!(
            "parse {} failed: invalid CIDR address: {text}",
            family.range_option
        ))),
    }
}

/// Docker shows all of these for the default bridge, whether given or not.
fn options(config: &NetworkConfig, interface: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (option::DEFAULT_BRIDGE.into(), "true".into()),
        (option::ICC.into(), (!config.no_icc).to_string()),
        (option::MASQUERADE.into(), (!config.no_ip_masq).to_string()),
        (
            option::HOST_BINDING.into(),
            config
                .host_address
                .or(config.default_publish_address)
                .unwrap_or(IpAddr::from([0, 0, 0, 0]))
                .to_string(),
        ),
        (option::BRIDGE_NAME.into(), interface.into()),
        (option::MTU.into(), config.mtu.unwrap_or(1500).to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::default_sources;

    fn plan(
        config: &NetworkConfig,
        existing: Option<&str>,
        occupied: &[&str],
    ) -> Result<(String, String, String), String> {
        let state = existing.map(|address| BridgeState {
            index: 3,
            is_bridge: true,
            up: true,
            mtu: None,
            addresses: if address.is_empty() {
                Vec::new()
            } else {
                vec![address.parse().unwrap()]
            },
        });
        let occupied: Vec<IpNet> = occupied.iter().map(|net| net.parse().unwrap()).collect();
        let interface = bridge_interface(config).unwrap();
        plan_bridge(
            config,
            interface,
            state.as_ref(),
            &default_sources(),
            &occupied,
        )
        .map(|record| {
            (
                record.subnet().into(),
                record.gateway().into(),
                record.ipam.config[0].ip_range.clone(),
            )
        })
        .map_err(|error| error.to_string())
    }

    fn answer(
        subnet: &str,
        gateway: &str,
        range: &str,
    ) -> Result<(String, String, String), String> {
        Ok((subnet.into(), gateway.into(), range.into()))
    }

    #[test]
    fn gateway_is_bip_then_existing_then_default_pool() {
        let none = NetworkConfig::default();
        assert_eq!(
            plan(&none, None, &[]),
            answer("172.17.0.0/16", "172.17.0.1", "")
        );
        assert_eq!(
            plan(&none, None, &["172.17.3.0/24"]),
            answer("172.18.0.0/16", "172.18.0.1", "")
        );
        assert_eq!(
            plan(&none, Some("10.9.8.7/20"), &[]),
            answer("10.9.0.0/20", "10.9.8.7", "")
        );
        let bip = NetworkConfig {
            bip: Some("10.1.2.3/24".into()),
            ..NetworkConfig::default()
        };
        assert_eq!(
            plan(&bip, Some("10.9.8.7/20"), &["10.0.0.0/8"]),
            answer("10.1.2.0/24", "10.1.2.3", "")
        );
        let range = NetworkConfig {
            fixed_cidr: Some("10.1.2.128/25".into()),
            ..bip
        };
        assert_eq!(
            plan(&range, None, &[]),
            answer("10.1.2.0/24", "10.1.2.3", "10.1.2.128/25")
        );
    }

    #[test]
    fn bad_settings_are_refused() {
        let config = |bip: Option<&str>, bridge: Option<&str>, fixed: Option<&str>| NetworkConfig {
            bip: bip.map(Into::into),
            bridge: bridge.map(Into::into),
            fixed_cidr: fixed.map(Into::into),
            ..NetworkConfig::default()
        };
        for bad in [
            config(Some("10.1.2.3"), None, None),
            config(Some("10.1.2.0/24"), None, None),
            config(Some("fd00::1/64"), None, None),
            config(None, None, Some("10.0.0.0/8")),
            config(None, Some("br7"), None),
            config(Some("10.1.2.3/24"), Some("br7"), None),
        ] {
            assert!(plan(&bad, None, &[]).is_err(), "{bad:?}");
        }
        assert_eq!(
            plan(&config(None, Some("br7"), None), Some("10.0.0.1/24"), &[]),
            answer("10.0.0.0/24", "10.0.0.1", "")
        );
    }
}
