//! Which subnet a network gets when nobody chose one.

use ipnet::{IpNet, Ipv4Net};
use std::net::Ipv4Addr;

/// A block from which subnets of one size are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubnetSource {
    pub(crate) base: Ipv4Net,
    /// Prefix length of the subnets.
    pub(crate) size: u8,
}

/// Docker's default pools (`daemon/libnetwork/ipamutils` in moby).
pub(crate) fn default_sources() -> Vec<SubnetSource> {
    let block = |a, b, prefix, size| SubnetSource {
        base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix),
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

/// The first subnet of `sources` that overlaps nothing in `occupied`: other networks and what the host routes.
pub(crate) fn pick_subnet(sources: &[SubnetSource], occupied: &[IpNet]) -> Option<Ipv4Net> {
    sources
        .iter()
        .filter_map(|source| source.base.subnets(source.size).ok())
        .flatten()
        .find(|candidate| {
            !occupied
                .iter()
                .any(|other| overlap(&IpNet::V4(*candidate), other))
        })
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
                pick_subnet(&default_sources(), &occupied),
                Some(expected.parse().unwrap()),
                "{occupied:?}"
            );
        }
        let everything = [
            "172.16.0.0/12".parse().unwrap(),
            "192.168.0.0/16".parse().unwrap(),
        ];
        assert_eq!(pick_subnet(&default_sources(), &everything), None);
    }
}
