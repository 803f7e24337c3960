//! The notation of detach keys: comma-separated letters and `ctrl-x` (moby `term.ToBytes`).

use crate::{Error, Result};

/// ctrl-p, ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// Bytes of a key sequence. `None` and empty are Docker's default.
pub fn parse(text: Option<&str>) -> Result<Vec<u8>> {
    match text {
        None | Some("") => Ok(DEFAULT.into()),
        Some(text) => text
            .split(',')
            .map(|key| {
                byte(key)
                    .ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
            })
            .collect(),
    }
}

fn byte(key: &str) -> Option<u8> {
    if let [single] = key.as_bytes() {
        return Some(*single);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        b"@" => Some(0),
        b"[" => Some(27),
        b"\\" => Some(28),
        b"]" => Some(29),
        b"^" => Some(30),
        b"_" => Some(31),
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sequences_become_bytes() {
        for (text, bytes) in [
            ("", &[16, 17][..]),
            ("ctrl-a,a", &[1, 97]),
            ("ctrl-[", &[27]),
            ("x", &[120]),
        ] {
            assert_eq!(parse(Some(text)).expect(text), bytes, "{text}");
        }
        assert_eq!(
            parse(Some("ctrl-aa")).expect_err("two letters").to_string(),
            "Invalid detach keys (ctrl-aa) provided"
        );
    }
}
