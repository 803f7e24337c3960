//! The three networks that are always there: `bridge`, `host`, `none`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

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
    let gateway = match (&config.bip, state.and_then(|state| state.ipv4.first())) {
        (Some(bip), _) => parse_bip(bip)?,
        (None, Some(IpNet::V4(address))) => *address,
        (None, _) => first_host(pick_subnet(sources, occupied).ok_or(NetworkError::NoPoolLeft)?),
    };
    let subnet = SubnetRecord {
        subnet: gateway.trunc().to_string(),
        ip_range: ip_range(config, gateway)?,
        gateway: gateway.addr().to_string(),
        aux_addresses: BTreeMap::new(),
    };
    let mut record = plain("bridge", "bridge");
    record.ipam.config = vec![subnet];
    record.options = options(config, interface);
    Ok(record)
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

fn parse_bip(bip: &str) -> Result<Ipv4Net, NetworkError> {
    let invalid =
        || NetworkError::Invalid(format!("parse bip failed: invalid CIDR address: {bip}"));
    let address: Ipv4Net = bip.parse().map_err(|_| invalid())?;
    // A network address can't be the bridge's own.
    if address.prefix_len() < 31 && address.addr() == address.network() {
        return Err(NetworkError::Invalid(format!(
            "bip {bip} is a network address, not one of a host"
        )));
    }
    Ok(address)
}

fn first_host(subnet: Ipv4Net) -> Ipv4Net {
    let first = std::net::Ipv4Addr::from(u32::from(subnet.network()) + 1);
    Ipv4Net::new(first, subnet.prefix_len()).expect("the length comes from a valid subnet")
}

fn ip_range(config: &NetworkConfig, gateway: Ipv4Net) -> Result<String, NetworkError> {
    let Some(text) = &config.fixed_cidr else {
        return Ok(String::new());
    };
    let range: Ipv4Net = text.parse().map_err(|_| {
        NetworkError::Invalid(format!(
            "parse fixed-cidr failed: invalid CIDR address: {text}"
        ))
    })?;
    if !gateway.trunc().contains(&range.trunc()) {
        let text = format!(
            "fixed-cidr {range} is not inside the bridge's subnet {}",
            gateway.trunc()
        );
        return Err(NetworkError::Invalid(text));
    }
    Ok(range.trunc().to_string())
}

/// Docker shows all of these for the default bridge, whether given or not.
fn options(config: &NetworkConfig, interface: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (option::DEFAULT_BRIDGE.into(), "true".into()),
        (option::ICC.into(), (!config.no_icc).to_string()),
        (option::MASQUERADE.into(), (!config.no_ip_masq).to_string()),
        (
            option::HOST_BINDING.into(),
            IpAddr::from([0, 0, 0, 0]).to_string(),
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
            ipv4: if address.is_empty() {
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
