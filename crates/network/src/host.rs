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

/// Whether packets between ports of one bridge pass the firewall (`br_netfilter`). They are translated there, too, and then go from
/// port to port, so that a published port could not be reached from an isolated one.
pub(crate) fn filters_bridged_packets() -> bool {
    ["iptables", "ip6tables"].iter().all(|name| {
        fs::read(format!("/proc/sys/net/bridge/bridge-nf-call-{name}"))
            .is_ok_and(|text| text.first() == Some(&b'1'))
    })
}

/// Lets the host forward IPv6 packets, of all interfaces and of those to come. Says whether it did not before.
pub(crate) fn enable_ip6_forward() -> Result<bool, NetworkError> {
    let mut changed = false;
    for scope in ["default", "all"] {
        let path = format!("/proc/sys/net/ipv6/conf/{scope}/forwarding");
        let current = fs::read(&path).step(|| format!("read {path}"))?;
        if current.first() != Some(&b'1') {
            fs::write(&path, "1").step(|| format!("enable {path}"))?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Lets `interface` speak IPv6, without listening to router advertisements.
pub(crate) fn enable_ipv6(interface: &str) -> io::Result<()> {
    for (name, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/{name}");
        if fs::read_to_string(&path)?.trim() != value {
            fs::write(&path, value)?;
        }
    }
    Ok(())
}

/// Sets `net.ipv4.conf.<interface>.route_localnet`, without which a connection from the host's loopback that is translated to a
/// container finds no way back.
pub(crate) fn enable_route_localnet(interface: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet");
    fs::write(&path, "1").step(|| format!("enable {path}"))
}

/// The host answers ARP for containers on a bridge whose ports are isolated from each other, and so leads their packets through
/// itself, where the firewall decides (`proxy_arp_pvlan`, RFC 3069).
pub(crate) fn lead_neighbours_through(bridge: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/proxy_arp_pvlan");
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
