//! Settings of the host's network stack that bridges need.

use std::fs;
use std::io;

use crate::error::{NetworkError, Step};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Lets the host forward IPv4 packets. Says whether it did not before.
///
/// Docker then also sets the policy of the iptables `FORWARD` chain to drop; here each bridge guards itself, and what the host
/// forwards between its own interfaces stays the administrator's decision.
pub(crate) fn enable_ip_forward() -> Result<bool, NetworkError> {
    let current = fs::read(IP_FORWARD).step(|| format!("read {IP_FORWARD}"))?;
    if current.first() == Some(&b'1') {
        return Ok(false);
    }
    fs::write(IP_FORWARD, "1").step(|| format!("enable {IP_FORWARD}"))?;
    Ok(true)
}

/// Sets `net.ipv4.conf.<interface>.route_localnet`, without which a connection from the host's loopback that is translated to a
/// container finds no way back.
pub(crate) fn enable_route_localnet(interface: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet");
    fs::write(&path, "1").step(|| format!("enable {path}"))
}

/// The bridge takes no router advertisements, as on Docker's default bridge.
pub(crate) fn refuse_router_advertisements(interface: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
    match fs::write(&path, "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.step(|| format!("set {path}")),
    }
}
