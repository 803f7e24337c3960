//! One line of Docker's json-file format.
//!
//! Field order, escapes and the time format are those of moby's `jsonlog` package (Go's HTML-safe JSON): `log`, `stream`,
//! `attrs`, `time`; U+FFFD for each byte that is not UTF-8; RFC 3339 with the fraction's trailing zeros removed.

/// What ends every line of one batch: everything after the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineEnd {
    /// `","stream":…,"time":…}` and a newline.
    bytes: Vec<u8>,
}

impl LineEnd {
    /// `attrs` is an encoded JSON object or empty.
    pub fn new(stream: &str, attrs: &[u8], time_ns: i64) -> LineEnd {
        let mut bytes = Vec::with_capacity(80 + attrs.len());
        bytes.extend_from_slice(b"\",\"stream\":\"");
        bytes.extend_from_slice(stream.as_bytes());
        if !attrs.is_empty() {
            bytes.extend_from_slice(b"\",\"attrs\":");
            bytes.extend_from_slice(attrs);
            bytes.extend_from_slice(b",\"time\":\"");
        } else {
            bytes.extend_from_slice(b"\",\"time\":\"");
        }
        bytes.extend_from_slice(rfc3339_nano(time_ns).as_bytes());
        bytes.extend_from_slice(b"\"}\n");
        LineEnd { bytes }
    }
}

/// Appends one line. `complete`: the text was followed by a newline, which becomes part of it.
pub fn push_line(out: &mut Vec<u8>, text: &[u8], complete: bool, end: &LineEnd) {
    out.reserve(text.len() + end.bytes.len() + 16);
    out.extend_from_slice(b"{\"log\":\"");
    push_escaped(out, text);
    if complete {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(&end.bytes);
}

/// `{"key":"value",…}`, or nothing for no pairs. Sorted by key, as Go writes maps.
pub fn encode_attrs(attrs: &[(String, String)]) -> Vec<u8> {
    if attrs.is_empty() {
        return Vec::new();
    }
    let mut sorted: Vec<_> = attrs.iter().collect();
    sorted.sort();
    let mut out = Vec::new();
    for (key, value) in sorted {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.push(b'"');
        push_escaped(&mut out, key.as_bytes());
        out.extend_from_slice(b"\":\"");
        push_escaped(&mut out, value.as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
    out
}

/// Appends `text` as the inside of a JSON string.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        out.extend_from_slice(text);
        return;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let (valid, invalid) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, false),
            // Go replaces byte by byte, not by maximal subpart.
            Err(error) => (
                std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
                true,
            ),
        };
        push_escaped_str(out, valid);
        rest = &rest[valid.len()..];
        if invalid {
            out.extend_from_slice(b"\\ufffd");
            rest = &rest[1..];
        }
    }
}

/// No byte needs a second look. Without a branch per byte, so that the compiler can compare many at once.
fn is_plain(text: &[u8]) -> bool {
    let special = |byte: u8| {
        !(0x20..0x80).contains(&byte)
            | (byte == b'"')
            | (byte == b'\\')
            | (byte == b'<')
            | (byte == b'>')
            | (byte == b'&')
    };
    !text
        .iter()
        .fold(false, |found, &byte| found | special(byte))
}

fn push_escaped_str(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            0..0x20 => &[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ],
            // The line separators U+2028 and U+2029, which JavaScript takes for newlines.
            0xe2 if bytes[at..].starts_with(b"\xe2\x80\xa8") => b"\\u2028",
            0xe2 if bytes[at..].starts_with(b"\xe2\x80\xa9") => b"\\u2029",
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..at]);
        out.extend_from_slice(escape);
        start = at + if byte == 0xe2 { 3 } else { 1 };
    }
    out.extend_from_slice(&bytes[start..]);
}

/// UTC, nanoseconds without trailing zeros: Go's `RFC3339Nano`.
pub fn rfc3339_nano(time_ns: i64) -> String {
    let seconds = time_ns.div_euclid(1_000_000_000);
    let nanos = time_ns.rem_euclid(1_000_000_000);
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    );
    if nanos != 0 {
        text.push_str(format!(".{nanos:09}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Days since 1970-01-01 to year, month, day of the proleptic Gregorian calendar. Counts in years that begin in March, so that the leap
/// day is the last of its year (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_escaped_as_go_does() {
        let cases: [(&[u8], &str); 11] = [
            (b"plain text 123", "plain text 123"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"<a href='x'>&", r"\u003ca href='x'\u003e\u0026"),
            (b"\t\r\x00\x1b[0m\x7f", "\\u0009\\r\\u0000\\u001b[0m\x7f"),
            ("gr\u{fc}n \u{4e2d}".as_bytes(), "gr\u{fc}n \u{4e2d}"),
            (
                "x\u{2028}y\u{2029}z\u{2027}".as_bytes(),
                "x\\u2028y\\u2029z\u{2027}",
            ),
            (b"\xff", r"\ufffd"),
            (b"ok\xe4\xb8", r"ok\ufffd\ufffd"),
            (b"\xed\xa0\x80!", r"\ufffd\ufffd\ufffd!"),
            ("\u{fffd}".as_bytes(), "\u{fffd}"),
            (b"", ""),
        ];
        for (text, expected) in cases {
            let mut out = Vec::new();
            push_escaped(&mut out, text);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{text:?}");
        }
    }

    #[test]
    fn times_are_written_as_go_does() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_507_200_123_456_789, "2026-11-24T08:00:00.123456789Z"),
            (1_795_507_200_120_000_000, "2026-11-24T08:00:00.12Z"),
            (951_782_399_000_000_001, "2000-02-28T23:59:59.000000001Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
            (-1_000_000, "1969-12-31T23:59:59.999Z"),
        ];
        for (time, expected) in cases {
            assert_eq!(rfc3339_nano(time), expected);
        }
    }

    #[test]
    fn line_has_dockers_field_order() {
        let mut out = Vec::new();
        push_line(&mut out, b"hello", true, &LineEnd::new("stdout", b"", 1));
        let attrs = encode_attrs(&[("tag".into(), "a<b".into()), ("env".into(), "1".into())]);
        push_line(&mut out, b"part", false, &LineEnd::new("stderr", &attrs, 1));
        assert_eq!(
            String::from_utf8(out).expect("utf-8"),
            "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00.000000001Z\"}\n\
             {\"log\":\"part\",\"stream\":\"stderr\",\"attrs\":{\"env\":\"1\",\"tag\":\"a\\u003cb\"},\"time\":\"1970-01-01T00:00:00.000000001Z\"}\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_json(text in "\\PC{0,40}|[\\x00-\\x7f]{0,60}|.{0,30}") {
            let mut out = vec![b'"'];
            push_escaped(&mut out, text.as_bytes());
            out.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("valid JSON"), text);
        }

        #[test]
        fn any_bytes_become_valid_json(text: Vec<u8>) {
            let mut out = Vec::new();
            push_line(&mut out, &text, true, &LineEnd::new("stdout", b"", 5));
            let value: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
            prop_assert!(value["log"].as_str().expect("text").ends_with('\n'));
        }
    }
}
