//! Sizes as people write them.

/// Bytes in a text with a unit of 1024: `512`, `64m`, `1.5GiB` (go-units `RAMInBytes`). `None` for what is no size.
#[must_use]
pub fn ram_in_bytes(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let at = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(at);
    let exponent = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    #[allow(clippy::cast_possible_truncation)] // saturates; nobody has that much memory
    Some((number * 1024f64.powi(exponent)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("512", Some(512)),
            ("64m", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("10 kb", Some(10240)),
            ("", None),
            ("m", None),
            ("1x", None),
        ] {
            assert_eq!(ram_in_bytes(text), bytes, "{text:?}");
        }
    }
}
