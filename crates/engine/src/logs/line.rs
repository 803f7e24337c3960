//! One line of a json-file log, parsed without building a JSON tree.
//!
//! Docker writes `{"log":"text\n","stream":"stdout","attrs":{…},"time":"…"}` with the keys in this order. Lines in
//! another shape (hand-edited, written by another tool) take the slow path through `serde_json`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::{memchr, memchr2, memmem};

/// Which stream a line came from; the values are those of Docker's frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The text with its newline, if it had one.
    pub log: Cow<'a, [u8]>,
    /// Its stream.
    pub stream: Stream,
    /// RFC 3339 in UTC, up to nine digits of fraction.
    pub time: Cow<'a, str>,
    /// The raw `attrs` object, when there is one.
    pub attrs: Option<Cow<'a, [u8]>>,
}

/// Parses one line without its final newline. `None`: not a log line.
pub fn parse(text: &[u8]) -> Option<Line<'_>> {
    parse_usual(text).or_else(|| parse_any(text))
}

fn parse_usual(text: &[u8]) -> Option<Line<'_>> {
    let rest = text.strip_prefix(b"{\"log\":\"")?;
    let (log, rest) = take_string(rest)?;
    let rest = rest.strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = if let Some(rest) = rest.strip_prefix(b"out\",") {
        (Stream::Stdout, rest)
    } else {
        (Stream::Stderr, rest.strip_prefix(b"err\",")?)
    };
    let (attrs, rest) = match rest.strip_prefix(b"\"attrs\":") {
        Some(rest) => {
            let end = memmem::rfind(rest, b",\"time\":\"")?;
            (Some(Cow::Borrowed(&rest[..end])), &rest[end + 1..])
        }
        None => (None, rest),
    };
    let rest = rest.strip_prefix(b"\"time\":\"")?;
    let end = memchr(b'"', rest)?;
    if &rest[end..] != b"\"}" {
        return None;
    }
    let time = std::str::from_utf8(&rest[..end]).ok()?;
    Some(Line {
        log,
        stream,
        time: Cow::Borrowed(time),
        attrs,
    })
}

/// Reads a JSON string whose opening quote is gone; gives its value and what follows the closing quote.
fn take_string(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let stop = memchr2(b'"', b'\\', text)?;
    if text[stop] == b'"' {
        return Some((Cow::Borrowed(&text[..stop]), &text[stop + 1..]));
    }
    // Nearly every line holds exactly one escape: its final newline.
    if text[stop + 1..].starts_with(b"n\"") {
        let mut value = Vec::with_capacity(stop + 1);
        value.extend_from_slice(&text[..stop]);
        value.push(b'\n');
        return Some((Cow::Owned(value), &text[stop + 3..]));
    }
    unescape(text, stop)
}

fn unescape(text: &[u8], first: usize) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut value = Vec::with_capacity(text.len());
    value.extend_from_slice(&text[..first]);
    let mut rest = &text[first..];
    loop {
        if rest.first()? == &b'"' {
            return Some((Cow::Owned(value), &rest[1..]));
        }
        rest = unescape_one(&rest[1..], &mut value)?;
        let stop = memchr2(b'"', b'\\', rest)?;
        value.extend_from_slice(&rest[..stop]);
        rest = &rest[stop..];
    }
}

/// Reads one escape whose backslash is gone.
fn unescape_one<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let plain = match text.first()? {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'f' => 12,
        escaped @ (b'"' | b'\\' | b'/') => *escaped,
        b'u' => return unescape_unicode(&text[1..], value),
        _ => return None,
    };
    value.push(plain);
    Some(&text[1..])
}

fn unescape_unicode<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (unit, mut rest) = take_hex(text)?;
    let mut code = u32::from(unit);
    if (0xd800..0xdc00).contains(&unit) {
        let low = rest.strip_prefix(b"\\u").and_then(take_hex);
        match low {
            Some((low, after)) if (0xdc00..0xe000).contains(&low) => {
                code = 0x10000 + ((u32::from(unit) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                rest = after;
            }
            _ => code = 0xfffd,
        }
    }
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn take_hex(text: &[u8]) -> Option<(u16, &[u8])> {
    let digits = std::str::from_utf8(text.get(..4)?).ok()?;
    Some((u16::from_str_radix(digits, 16).ok()?, &text[4..]))
}

fn parse_any(text: &[u8]) -> Option<Line<'_>> {
    #[derive(serde::Deserialize)]
    struct Any {
        #[serde(default)]
        log: String,
        #[serde(default)]
        stream: String,
        time: String,
        #[serde(default)]
        attrs: Option<BTreeMap<String, String>>,
    }
    let any: Any = serde_json::from_slice(text).ok()?;
    let attrs = match any.attrs {
        Some(attrs) => Some(Cow::Owned(serde_json::to_vec(&attrs).ok()?)),
        None => None,
    };
    Some(Line {
        log: Cow::Owned(any.log.into_bytes()),
        stream: if any.stream == "stderr" {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        time: Cow::Owned(any.time),
        attrs,
    })
}

/// Nanoseconds since the epoch of a log line's time. `None`: not RFC 3339.
pub fn nanoseconds(time: &str) -> Option<i64> {
    let stamp: jiff::Timestamp = time.parse().ok()?;
    i64::try_from(stamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, log: &str, stream: Stream, time: &str, attrs: Option<&str>) {
        let line = parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} does not parse"));
        assert_eq!(line.log.as_ref(), log.as_bytes(), "{text}");
        assert_eq!(line.stream, stream, "{text}");
        assert_eq!(line.time, time, "{text}");
        assert_eq!(line.attrs.as_deref(), attrs.map(str::as_bytes), "{text}");
    }

    #[test]
    fn lines_in_every_shape_are_understood() {
        let time = "2026-11-24T08:00:00.5Z";
        let tail = format!("\"time\":\"{time}\"}}");
        let rows = [
            (
                "{\"log\":\"plain\\n\",\"stream\":\"stdout\",",
                "plain\n",
                Stream::Stdout,
                None,
            ),
            (
                "{\"log\":\"part\",\"stream\":\"stderr\",",
                "part",
                Stream::Stderr,
                None,
            ),
            (
                "{\"log\":\"\\n\",\"stream\":\"stderr\",",
                "\n",
                Stream::Stderr,
                None,
            ),
            (
                "{\"log\":\"a\\\"b\\\\c\\t\\u003cx\\u00e9\\ud83d\\ude00\\n\",\"stream\":\"stdout\",",
                "a\"b\\c\t<xé😀\n",
                Stream::Stdout,
                None,
            ),
            (
                "{\"log\":\"lone \\ud83d end\\n\",\"stream\":\"stdout\",",
                "lone \u{fffd} end\n",
                Stream::Stdout,
                None,
            ),
            (
                "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"k\":\"v\"},",
                "x\n",
                Stream::Stdout,
                Some("{\"k\":\"v\"}"),
            ),
            (
                "{\"stream\":\"stderr\",\"log\":\"other order\\n\",",
                "other order\n",
                Stream::Stderr,
                None,
            ),
        ];
        for (head, log, stream, attrs) in rows {
            check(&format!("{head}{tail}"), log, stream, time, attrs);
        }
    }

    #[test]
    fn damaged_lines_are_refused() {
        for text in [
            "",
            "{",
            "\0\0\0",
            "{\"log\":\"cut",
            "{\"log\":\"x\\",
            "{\"log\":\"x\\q\",\"stream\":\"stdout\",\"time\":\"t\"}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn times_become_nanoseconds() {
        assert_eq!(
            nanoseconds("1970-01-01T00:00:01.000000002Z"),
            Some(1_000_000_002)
        );
        assert_eq!(nanoseconds("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(nanoseconds("yesterday"), None);
    }
}
