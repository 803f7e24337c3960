//! The writer: serde_json with Go's escapes.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// `value` as Go's `json.Marshal` writes it.
///
/// # Panics
/// When `value` has a map whose keys are not text; the API's types have none.
#[must_use]
pub fn to_string<T: Serialize>(value: &T) -> String {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    String::from_utf8(out).expect("serde_json writes UTF-8")
}

/// `value` and a newline with `<`, `>` and `&` as they are: bodies of answers (moby `httputils.WriteJSON`
/// turns that escape off, the line separators stay escaped).
///
/// # Panics
/// As [`to_string`].
#[must_use]
pub fn to_body<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(
            &mut out,
            GoFormatter { html: false },
        ))
        .expect("plain data with text keys into memory cannot fail");
    out.push(b'\n');
    out
}

/// `value` and a newline, as Go's `json.Encoder` writes it unless told otherwise: events and progress lines.
///
/// # Panics
/// As [`to_string`].
#[must_use]
pub fn to_line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out.push(b'\n');
    out
}

fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    value
        .serialize(&mut Serializer::with_formatter(
            out,
            GoFormatter { html: true },
        ))
        .expect("plain data with text keys into memory cannot fail");
}

struct GoFormatter {
    html: bool,
}

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| must_escape(c, self.html)) {
            let (plain, tail) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let Some(c) = tail.chars().next() else { break };
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &tail[c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        // Go writes whole numbers without a point.
        if value.fract() == 0.0 && value.abs() < 1e15 {
            return write!(out, "{value:.0}");
        }
        CompactFormatter.write_f64(out, value)
    }
}

fn must_escape(c: char, html: bool) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}') || (html && matches!(c, '<' | '>' | '&'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_and_line_separators_are_escaped() {
        let text = to_string(&"a<b>&\u{2028}\u{2029}é\"\\\n\u{1}\u{7f}");
        assert_eq!(
            text,
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029é\\\"\\\\\\n\\u0001\u{7f}\""
        );
    }

    #[test]
    fn keys_are_escaped_too() {
        let map = std::collections::BTreeMap::from([("a&b", 1.0), ("c", 1.5)]);
        assert_eq!(to_line(&map), b"{\"a\\u0026b\":1,\"c\":1.5}\n");
        assert_eq!(to_body(&map), b"{\"a&b\":1,\"c\":1.5}\n");
    }
}
