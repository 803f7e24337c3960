//! Bandwidth limits: a token bucket on what leaves an interface (`tbf`, `linux/pkt_sched.h`).

use crate::error::NetworkError;
use crate::netlink::Batch;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};

const RTM_NEWQDISC: u16 = 36;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// The kernel then computes transmission times itself instead of taking a table.
const LINKLAYER_ETHERNET: u8 = 1;

/// At least what the largest packet before segmentation needs.
const SMALLEST_BURST: u64 = 128 * 1024;

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(u64);

impl Rate {
    /// Reads a rate as tc(8) writes it: bits per second, with `bit`, `kbit`, `mbit`, `gbit`, or bytes with `bps`, `kbps`, `mbps`,
    /// `gbps`.
    pub(crate) fn parse(text: &str) -> Result<Rate, NetworkError> {
        let lower = text.trim().to_ascii_lowercase();
        let end = lower
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(lower.len());
        let (number, unit) = lower.split_at(end);
        let (factor, divisor) = match unit {
            "" | "bit" => (1, 8),
            "kbit" => (1_000, 8),
            "mbit" => (1_000_000, 8),
            "gbit" => (1_000_000_000, 8),
            "bps" => (1, 1),
            "kbps" => (1_000, 1),
            "mbps" => (1_000_000, 1),
            "gbps" => (1_000_000_000, 1),
            _ => return Err(invalid(text)),
        };
        let number: u64 = number.parse().map_err(|_| invalid(text))?;
        match number.checked_mul(factor).map(|rate| rate / divisor) {
            Some(rate) if rate > 0 => Ok(Rate(rate)),
            _ => Err(invalid(text)),
        }
    }

    /// Adds the request that limits what leaves interface `index`.
    pub(crate) fn push(self, batch: &mut Batch, index: u32) {
        // A burst of 20 ms smooths the clock of the kernel; a queue of 50 ms more lets TCP fill the rate.
        let burst = clamp((self.0 / 50).max(SMALLEST_BURST));
        let limit = clamp(self.0 / 20 + u64::from(burst));
        let mut body = vec![0, 0, 0, 0];
        for number in [index, 0, TC_H_ROOT, 0] {
            body.extend(number.to_ne_bytes());
        }
        let mut parameters = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
        parameters.extend(clamp(self.0).to_ne_bytes());
        parameters.extend([0; 12]);
        for number in [limit, 0, 0] {
            parameters.extend(number.to_ne_bytes());
        }
        let mut options = Vec::new();
        attribute(&mut options, TCA_TBF_PARMS, &parameters);
        attribute(&mut options, TCA_TBF_RATE64, &self.0.to_ne_bytes());
        attribute(&mut options, TCA_TBF_BURST, &burst.to_ne_bytes());
        attribute(&mut body, TCA_KIND, b"tbf\0");
        attribute(&mut body, TCA_OPTIONS, &options);
        batch.push_raw(
            format!("limit the rate of interface {index}"),
            RTM_NEWQDISC,
            NLM_F_CREATE | NLM_F_REPLACE,
            &body,
        );
    }
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("attributes are short");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn invalid(text: &str) -> NetworkError {
    NetworkError::Invalid(format!(
        "invalid rate {text:?}: expected a number of bits per second with bit, kbit, mbit or gbit, or of bytes with bps, kbps, mbps or gbps"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_tc_reads_them() {
        for (text, expected) in [
            ("8mbit", Some(1_000_000)),
            ("1gbit", Some(125_000_000)),
            ("800", Some(100)),
            ("10MBps", Some(10_000_000)),
            ("0", None),
            ("7", None),
            ("fast", None),
            ("1.5mbit", None),
            ("99999999999gbit", None),
        ] {
            assert_eq!(Rate::parse(text).ok(), expected.map(Rate), "{text}");
        }
    }
}
