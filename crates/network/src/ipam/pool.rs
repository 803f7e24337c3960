//! The addresses of one subnet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// Why no address was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody has it.
    Taken,
    /// It is not an address of the subnet, or its network or broadcast address.
    OutOfRange,
    /// All are taken.
    Exhausted,
}

/// The addresses of one subnet, IPv4 or IPv6, as offsets from its first.
///
/// The lowest free address is given first, as Docker's default allocator does: small numbers stay in use.
#[derive(Debug, Clone)]
pub(crate) struct AddressPool {
    subnet: IpNet,
    /// First and last offset given without a wish.
    first: u128,
    last: u128,
    taken: BTreeSet<u128>,
    /// No offset from `first` to below this one is free.
    hint: u128,
}

impl AddressPool {
    /// All of `subnet` can be wished for; addresses without a wish come from `range`.
    pub(crate) fn new(subnet: IpNet, range: Option<IpNet>) -> AddressPool {
        let subnet = subnet.trunc();
        let range = range.unwrap_or(subnet).trunc();
        let base = number(subnet.network());
        // A range outside the subnet is cut to it: callers have checked, so this only keeps the arithmetic safe.
        let first = number(range.network()).saturating_sub(base);
        let last = number(range.broadcast())
            .saturating_sub(base)
            .min(size(&subnet) - 1);
        let mut pool = AddressPool {
            subnet,
            first,
            last,
            taken: BTreeSet::new(),
            hint: first,
        };
        pool.taken.extend(reserved(&subnet));
        pool
    }

    pub(crate) fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Takes the lowest free address.
    pub(crate) fn take_any(&mut self) -> Result<IpAddr, Refusal> {
        let mut candidate = self.hint;
        for taken in self.taken.range(candidate..) {
            if *taken != candidate {
                break;
            }
            candidate = candidate.checked_add(1).ok_or(Refusal::Exhausted)?;
        }
        if candidate > self.last {
            self.hint = candidate;
            return Err(Refusal::Exhausted);
        }
        self.taken.insert(candidate);
        self.hint = candidate + 1;
        Ok(self.address(candidate))
    }

    /// Takes `address`.
    pub(crate) fn take(&mut self, address: IpAddr) -> Result<IpAddr, Refusal> {
        let offset = self.offset(address).ok_or(Refusal::OutOfRange)?;
        if reserved(&self.subnet).any(|reserved| reserved == offset) {
            return Err(Refusal::OutOfRange);
        }
        if !self.taken.insert(offset) {
            return Err(Refusal::Taken);
        }
        Ok(address)
    }

    /// Gives `address` back. Addresses of others are ignored.
    pub(crate) fn release(&mut self, address: IpAddr) {
        let Some(offset) = self.offset(address) else {
            return;
        };
        if reserved(&self.subnet).any(|reserved| reserved == offset) {
            return;
        }
        if self.taken.remove(&offset) && offset >= self.first {
            self.hint = self.hint.min(offset);
        }
    }

    fn offset(&self, address: IpAddr) -> Option<u128> {
        let same_family = address.is_ipv4() == self.subnet.addr().is_ipv4();
        (same_family && self.subnet.contains(&address))
            .then(|| number(address) - number(self.subnet.network()))
    }

    fn address(&self, offset: u128) -> IpAddr {
        let value = number(self.subnet.network()) + offset;
        match self.subnet {
            IpNet::V4(_) => {
                let value =
                    u32::try_from(value).expect("an offset inside an IPv4 subnet stays inside");
                IpAddr::V4(value.into())
            }
            IpNet::V6(_) => IpAddr::V6(value.into()),
        }
    }
}

/// The network address and, for IPv4, the broadcast address; neither exists in a /31 (RFC 3021) or /32. IPv6 reserves the
/// subnet-router anycast address (RFC 4291, 2.6.1).
fn reserved(subnet: &IpNet) -> impl Iterator<Item = u128> {
    let hosts = subnet.max_prefix_len() - subnet.prefix_len();
    let (network, broadcast) = match subnet {
        IpNet::V4(_) => (hosts > 1, hosts > 1),
        IpNet::V6(_) => (hosts > 0, false),
    };
    let last = size(subnet) - 1;
    [(network, 0), (broadcast, last)]
        .into_iter()
        .filter_map(|(is, offset)| is.then_some(offset))
}

/// Number of addresses; the whole of IPv6 counts one less than it has.
fn size(subnet: &IpNet) -> u128 {
    let hosts = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    1u128.checked_shl(hosts).unwrap_or(u128::MAX)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(subnet: &str, range: Option<&str>) -> AddressPool {
        AddressPool::new(
            subnet.parse().unwrap(),
            range.map(|range| range.parse().unwrap()),
        )
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lowest_free_address_is_given_first() {
        let mut pool = pool("172.17.0.0/16", None);
        assert_eq!(pool.take(ip("172.17.0.1")), Ok(ip("172.17.0.1")));
        assert_eq!(pool.take_any(), Ok(ip("172.17.0.2")));
        assert_eq!(pool.take_any(), Ok(ip("172.17.0.3")));
        pool.release(ip("172.17.0.2"));
        assert_eq!(pool.take_any(), Ok(ip("172.17.0.2")));
        assert_eq!(pool.take_any(), Ok(ip("172.17.0.4")));
    }

    #[test]
    fn wishes_are_checked() {
        let mut pool = pool("10.1.0.0/24", None);
        for (wish, expected) in [
            ("10.1.0.9", Ok(ip("10.1.0.9"))),
            ("10.1.0.9", Err(Refusal::Taken)),
            ("10.1.0.0", Err(Refusal::OutOfRange)),
            ("10.1.0.255", Err(Refusal::OutOfRange)),
            ("10.1.1.1", Err(Refusal::OutOfRange)),
            ("fd00::1", Err(Refusal::OutOfRange)),
        ] {
            assert_eq!(pool.take(ip(wish)), expected, "{wish}");
        }
    }

    #[test]
    fn a_full_range_says_so_and_recovers() {
        let mut pool = pool("10.1.0.0/24", Some("10.1.0.8/30"));
        let given: Vec<IpAddr> = (0..4).map(|_| pool.take_any().unwrap()).collect();
        assert_eq!(
            given,
            [
                ip("10.1.0.8"),
                ip("10.1.0.9"),
                ip("10.1.0.10"),
                ip("10.1.0.11")
            ]
        );
        assert_eq!(pool.take_any(), Err(Refusal::Exhausted));
        // Outside the range but of the subnet: only by wish, and never given without one.
        assert_eq!(pool.take(ip("10.1.0.200")), Ok(ip("10.1.0.200")));
        pool.release(ip("10.1.0.200"));
        assert_eq!(pool.take_any(), Err(Refusal::Exhausted));
        pool.release(ip("10.1.0.10"));
        assert_eq!(pool.take_any(), Ok(ip("10.1.0.10")));
    }

    #[test]
    fn tiny_and_huge_subnets() {
        let mut point = pool("10.0.0.0/31", None);
        assert_eq!(
            [point.take_any(), point.take_any()],
            [Ok(ip("10.0.0.0")), Ok(ip("10.0.0.1"))]
        );
        assert_eq!(point.take_any(), Err(Refusal::Exhausted));
        assert_eq!(pool("10.0.0.7/32", None).take_any(), Ok(ip("10.0.0.7")));
        assert_eq!(pool("fd00::/64", None).take_any(), Ok(ip("fd00::1")));
        assert_eq!(pool("::/0", None).take_any(), Ok(ip("::1")));
        assert_eq!(pool("0.0.0.0/0", None).take_any(), Ok(ip("0.0.0.1")));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(moves in proptest::collection::vec(proptest::option::of(0u8..32), 1..200)) {
            let mut pool = pool("10.9.0.0/27", None);
            let mut held: BTreeSet<IpAddr> = BTreeSet::new();
            for step in moves {
                match step {
                    None => match pool.take_any() {
                        Ok(address) => {
                            let lowest = (1..31).map(|n| ip(&format!("10.9.0.{n}"))).find(|a| !held.contains(a));
                            prop_assert_eq!(Some(address), lowest);
                            held.insert(address);
                        }
                        Err(refusal) => {
                            prop_assert_eq!(refusal, Refusal::Exhausted);
                            prop_assert_eq!(held.len(), 30);
                        }
                    },
                    Some(n) => {
                        let address = ip(&format!("10.9.0.{n}"));
                        pool.release(address);
                        held.remove(&address);
                    }
                }
            }
        }
    }
}
