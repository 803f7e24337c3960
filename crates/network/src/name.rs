//! Random ids and interface names, MAC addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// 64 hex digits, as Docker's network and endpoint ids.
pub(crate) fn random_id() -> String {
    hex(&random::<32>())
}

/// `veth` and seven hex digits, as Docker names the host's end of a pair. 28 random bits: the kernel refuses the rare clash
/// and the caller draws again.
pub(crate) fn random_veth() -> String {
    format!("veth{}", &hex(&random::<4>())[..7])
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once booted (getrandom(2))");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// `02:42` and the IPv4 address: locally administered, unicast. An address that is given again keeps its MAC, so the
    /// neighbour caches of the host and of other containers never go stale. (Docker up to 27 has this rule; 28 draws a random
    /// one and must announce it.)
    pub(crate) fn from_ipv4(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }

    /// The same idea for an endpoint with any address; random without an IPv4 address.
    pub(crate) fn for_address(address: Option<IpAddr>) -> Mac {
        match address {
            Some(IpAddr::V4(address)) => Mac::from_ipv4(address),
            _ => Mac::random(),
        }
    }

    /// Random, locally administered, unicast.
    pub(crate) fn random() -> Mac {
        let mut bytes = random::<6>();
        bytes[0] = bytes[0] & 0xfe | 0x02;
        Mac(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ();

    /// Six pairs of hex digits separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Mac, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && !part.starts_with('+'))
                .ok_or(())?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        parts.next().is_none().then_some(Mac(bytes)).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_follows_the_address() {
        assert_eq!(
            Mac::from_ipv4(Ipv4Addr::new(172, 17, 0, 2)).to_string(),
            "02:42:ac:11:00:02"
        );
    }

    #[test]
    fn mac_text_is_parsed_strictly() {
        assert_eq!(
            "02:42:AC-11:00:02".parse(),
            Ok(Mac([2, 0x42, 0xac, 0x11, 0, 2]))
        );
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:00:02",
            "02:42:ac:11:00:zz",
            "+2:42:ac:11:00:02",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn veth_names_fit_the_kernel() {
        let name = random_veth();
        assert_eq!(name.len(), 11);
        assert!(name.starts_with("veth"));
    }
}
