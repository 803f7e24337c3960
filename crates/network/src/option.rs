//! Driver options by their Docker names, and what they say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::NetworkError;
use crate::link::Rate;

pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
pub(crate) const GATEWAY_MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
pub(crate) const GATEWAY_MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
pub(crate) const TRUSTED_INTERFACES: &str = "com.docker.network.bridge.trusted_host_interfaces";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
pub(crate) const HOST_IPV4: &str = "com.docker.network.host_ipv4";
pub(crate) const HOST_IPV6: &str = "com.docker.network.host_ipv6";
pub(crate) const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
pub(crate) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
pub(crate) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
pub(crate) const ENDPOINT_INTERFACE: &str = "com.docker.network.endpoint.ifname";
pub(crate) const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
pub(crate) const ENDPOINT_MAC: &str = "com.docker.network.endpoint.macaddress";

/// Limit of what goes to a container: of an endpoint, or of each endpoint of a network. Beyond Docker.
pub(crate) const RATE_INGRESS: &str = "wharf.rate.ingress";
/// Limit of what a container sends.
pub(crate) const RATE_EGRESS: &str = "wharf.rate.egress";

/// How containers on a bridge and the rest of the world reach each other, per family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum GatewayMode {
    /// Addresses are translated; from outside only published ports answer, at the host's addresses.
    #[default]
    Nat,
    /// Translated, and every port answers at the container's own address to whoever has a route.
    NatUnprotected,
    /// Not translated; published ports answer at the container's own address.
    Routed,
    /// For internal networks: not even the host has an address on the bridge.
    Isolated,
}

/// The options of a bridge network, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeOptions {
    pub(crate) masquerade: bool,
    pub(crate) icc: bool,
    pub(crate) inhibit_ipv4: bool,
    pub(crate) mode4: GatewayMode,
    pub(crate) mode6: GatewayMode,
    pub(crate) trusted: Vec<String>,
    pub(crate) mtu: Option<u32>,
    pub(crate) host_binding: Option<IpAddr>,
    /// Source address of what leaves, instead of the outgoing interface's.
    pub(crate) source4: Option<IpAddr>,
    pub(crate) source6: Option<IpAddr>,
    pub(crate) interface_prefix: String,
}

impl BridgeOptions {
    /// Reads the options, refusing what makes no sense with moby's words. `internal` networks alone may be isolated.
    pub(crate) fn read(
        options: &BTreeMap<String, String>,
        internal: bool,
    ) -> Result<BridgeOptions, NetworkError> {
        let read = BridgeOptions {
            masquerade: flag(options, MASQUERADE, true)?,
            icc: flag(options, ICC, true)?,
            inhibit_ipv4: flag(options, INHIBIT_IPV4, false)?,
            mode4: gateway_mode(options, GATEWAY_MODE_IPV4)?,
            mode6: gateway_mode(options, GATEWAY_MODE_IPV6)?,
            trusted: trusted(options),
            mtu: mtu(options)?,
            host_binding: address(options, HOST_BINDING)?,
            source4: address(options, HOST_IPV4)?,
            source6: address(options, HOST_IPV6)?,
            interface_prefix: interface_prefix(options),
        };
        if !internal {
            for (mode, family) in [(read.mode4, 4), (read.mode6, 6)] {
                if mode == GatewayMode::Isolated {
                    return Err(NetworkError::Invalid(format!(
                        "gateway mode 'isolated' can only be used for an internal network (IPv{family})"
                    )));
                }
            }
        }
        Ok(read)
    }
}

/// `com.docker.network.driver.mtu`; 0 and empty leave it to the kernel.
pub(crate) fn mtu(options: &BTreeMap<String, String>) -> Result<Option<u32>, NetworkError> {
    let Some(text) = given(options, MTU) else {
        return Ok(None);
    };
    match text.parse::<i64>() {
        Ok(mtu) if mtu < 0 => Err(NetworkError::Invalid(format!("invalid MTU number: {mtu}"))),
        Ok(mtu) => Ok(u32::try_from(mtu).ok().filter(|mtu| *mtu != 0)),
        Err(_) => Err(bad(
            MTU,
            text,
            &format!("strconv.Atoi: parsing {text:?}: invalid syntax"),
        )),
    }
}

/// A bandwidth limit: the endpoint's own goes before its network's.
pub(crate) fn rate(
    endpoint: &BTreeMap<String, String>,
    network: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<Rate>, NetworkError> {
    given(endpoint, name)
        .or_else(|| given(network, name))
        .map(Rate::parse)
        .transpose()
}

/// Beginning of the names of interfaces inside containers.
pub(crate) fn interface_prefix(options: &BTreeMap<String, String>) -> String {
    given(options, INTERFACE_PREFIX).unwrap_or("eth").to_owned()
}

/// A boolean option as Go's `strconv.ParseBool` reads it.
pub(crate) fn flag(
    options: &BTreeMap<String, String>,
    name: &str,
    default: bool,
) -> Result<bool, NetworkError> {
    match given(options, name) {
        None => Ok(default),
        Some(text) => parse_bool(text).ok_or_else(|| {
            bad(
                name,
                text,
                &format!("strconv.ParseBool: parsing {text:?}: invalid syntax"),
            )
        }),
    }
}

/// As Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Some(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn gateway_mode(
    options: &BTreeMap<String, String>,
    name: &str,
) -> Result<GatewayMode, NetworkError> {
    match given(options, name) {
        None | Some("nat") => Ok(GatewayMode::Nat),
        Some("nat-unprotected") => Ok(GatewayMode::NatUnprotected),
        Some("routed") => Ok(GatewayMode::Routed),
        Some("isolated") => Ok(GatewayMode::Isolated),
        Some(other) => Err(bad(name, other, &format!("unknown gateway mode {other}"))),
    }
}

fn trusted(options: &BTreeMap<String, String>) -> Vec<String> {
    let list = given(options, TRUSTED_INTERFACES).unwrap_or_default();
    list.split(':')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn address(options: &BTreeMap<String, String>, name: &str) -> Result<Option<IpAddr>, NetworkError> {
    given(options, name)
        .map(|text| text.parse().map_err(|_| bad(name, text, "nil ip")))
        .transpose()
}

fn given<'a>(options: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    options
        .get(name)
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

fn bad(name: &str, value: &str, why: &str) -> NetworkError {
    NetworkError::Invalid(format!("failed to parse {name} value: {value} ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<BridgeOptions, String> {
        let options = [(name.to_owned(), value.to_owned())].into();
        BridgeOptions::read(&options, false).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_and_nonsense_is_refused() {
        assert!(!read(ICC, "false").unwrap().icc);
        assert_eq!(
            read(GATEWAY_MODE_IPV6, "routed").unwrap().mode6,
            GatewayMode::Routed
        );
        assert_eq!(
            read(TRUSTED_INTERFACES, "eth1:wg0").unwrap().trusted,
            ["eth1", "wg0"]
        );
        assert_eq!(read(MTU, "1450").unwrap().mtu, Some(1450));
        for (name, value, message) in [
            (MTU, "-1", "invalid MTU number: -1"),
            (
                ICC,
                "maybe",
                "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)",
            ),
            (
                GATEWAY_MODE_IPV4,
                "odd",
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: odd (unknown gateway mode odd)",
            ),
            (
                HOST_BINDING,
                "x",
                "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)",
            ),
            (
                GATEWAY_MODE_IPV4,
                "isolated",
                "gateway mode 'isolated' can only be used for an internal network (IPv4)",
            ),
        ] {
            assert_eq!(read(name, value).unwrap_err(), message);
        }
    }
}
