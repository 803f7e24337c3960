//! Which subnet a network gets when nobody chose one.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A block from which subnets of one size are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubnetSource {
    pub(crate) base: IpNet,
    /// Prefix length of the subnets.
    pub(crate) size: u8,
}

/// Docker's default IPv4 pools (`daemon/libnetwork/ipamutils` in moby).
pub(crate) fn default_sources() -> Vec<SubnetSource> {
    let block = |a, b, prefix, size| SubnetSource {
        base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix).into(),
        size,
    };
    vec![
        block(172, 17, 16, 16),
        block(172, 18, 16, 16),
        block(172, 19, 16, 16),
        block(172, 20, 14, 16),
        block(172, 24, 14, 16),
        block(172, 28, 14, 16),
        block(192, 168, 16, 20),
    ]
}

/// The default IPv6 pool: a `/48` of the host's own among the unique local addresses (RFC 4193), cut into `/64`. The 40 bits that
/// should be random follow from the host's id, so that they are the same after a restart.
pub(crate) fn local_source(host_id: &str) -> SubnetSource {
    // FNV-1a: any mixing of the id will do.
    let hash = host_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let global = u128::from(hash >> 24);
    let base = Ipv6Addr::from((0xfd_u128 << 120) | (global << 80));
    SubnetSource {
        base: Ipv6Net::new_assert(base, 48).into(),
        size: 64,
    }
}

/// The first subnet of `sources`, of one family, that overlaps nothing in `occupied`: other networks and what the host routes.
pub(crate) fn pick_subnet(
    sources: &[SubnetSource],
    occupied: &[IpNet],
    ipv6: bool,
) -> Option<IpNet> {
    sources
        .iter()
        .filter(|source| source.base.addr().is_ipv6() == ipv6)
        .filter_map(|source| source.base.subnets(source.size).ok())
        .flatten()
        .find(|candidate| !occupied.iter().any(|other| overlap(candidate, other)))
}

/// Whether one contains the other; subnets can't overlap otherwise.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occupied_pools_are_stepped_over() {
        let rows: [(&[&str], &str); 5] = [
            (&[], "172.17.0.0/16"),
            (&["172.17.0.0/16"], "172.18.0.0/16"),
            (&["172.16.0.0/12"], "192.168.0.0/20"),
            (
                &[
                    "172.17.5.0/24",
                    "172.18.0.1/32",
                    "172.19.0.0/16",
                    "172.20.0.0/15",
                ],
                "172.22.0.0/16",
            ),
            (
                &["172.16.0.0/12", "192.168.0.0/24", "192.168.16.0/21"],
                "192.168.32.0/20",
            ),
        ];
        for (occupied, expected) in rows {
            let occupied: Vec<IpNet> = occupied.iter().map(|net| net.parse().unwrap()).collect();
            assert_eq!(
                pick_subnet(&default_sources(), &occupied, false),
                Some(expected.parse().unwrap()),
                "{occupied:?}"
            );
        }
        let everything = [
            "172.16.0.0/12".parse().unwrap(),
            "192.168.0.0/16".parse().unwrap(),
        ];
        assert_eq!(pick_subnet(&default_sources(), &everything, false), None);
    }

    #[test]
    fn the_hosts_own_pool_is_unique_local_and_stable() {
        let source = local_source("a");
        assert_eq!(source, local_source("a"));
        assert_ne!(source, local_source("b"));
        let subnet = pick_subnet(&[source], &[], true).expect("a subnet");
        assert_eq!(subnet.prefix_len(), 64);
        assert!("fd00::/8".parse::<IpNet>().unwrap().contains(&subnet));
        let next = pick_subnet(&[source], &[subnet], true).expect("another");
        assert!(!overlap(&subnet, &next));
    }
}
