//! Durations and sizes as people write them: `90s`, `1h30m`, `7d`; `500`, `64KiB`, `10GB`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// `1h30m`; units `ms`, `s`, `m`, `h`, `d`, `w`; `0` alone is zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().ok()?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// `10GiB`; units of 1024 (`KiB`, `K`) and of 1000 (`KB`).
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A number of bytes for people.
pub fn show_size(bytes: u64) -> String {
    let mut rest = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if rest < 10 * 1024 {
            return format!("{rest} {unit}");
        }
        rest = rest.div_ceil(1024);
    }
    format!("{rest} TiB")
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// A duration in a configuration; a bare number would be ambiguous, except zero.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = match Written::deserialize(deserializer)? {
        Written::Number(0) => return Ok(Duration::ZERO),
        Written::Number(n) => n.to_string(),
        Written::Text(text) => text,
    };
    parse_duration(&text).ok_or_else(|| {
        D::Error::custom(format!("{text:?} is no duration such as 90s, 1h30m or 7d"))
    })
}

/// A size in a configuration.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Number(n) => Ok(n),
        Written::Text(text) => parse_size(&text).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no size such as 500, 64KiB or 10GB"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("90s", Some(90)),
            ("1h30m", Some(5400)),
            ("7d", Some(604_800)),
            ("5", None),
            ("", None),
            ("h", None),
            ("1y", None),
        ] {
            assert_eq!(
                parse_duration(text),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        for (text, bytes) in [
            ("500", Some(500)),
            ("64KiB", Some(65_536)),
            ("10 GB", Some(10_000_000_000)),
            ("1m", Some(1 << 20)),
            ("x", None),
            ("1.5G", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
