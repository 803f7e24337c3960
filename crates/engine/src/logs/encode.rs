//! Log lines as bytes for the client: Docker's 8-byte frame header, time and attributes before the text.

use std::collections::BTreeMap;

use super::line::{Line, Stream};
use super::query::Request;

/// Appends one line to `out`. `raw`: without frame header.
pub fn append(out: &mut Vec<u8>, line: &Line<'_>, request: &Request, raw: bool) {
    let start = out.len();
    if !raw {
        out.extend_from_slice(&header(line.stream, 0));
    }
    let body = out.len();
    if request.timestamps {
        append_time(out, &line.time);
        out.push(b' ');
    }
    if request.details {
        append_attributes(out, line.attrs.as_deref());
        out.push(b' ');
    }
    out.extend_from_slice(&line.log);
    if !raw {
        let length = out.len() - body;
        out[start..body].copy_from_slice(&header(line.stream, length));
    }
}

/// Docker's frame header: stream number, three zero bytes, big-endian length.
pub fn header(stream: Stream, length: usize) -> [u8; 8] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [
        stream as u8,
        0,
        0,
        0,
        length[0],
        length[1],
        length[2],
        length[3],
    ]
}

/// Writes a time with exactly nine digits of fraction, as the Docker daemon does on the wire.
fn append_time(out: &mut Vec<u8>, time: &str) {
    let Some(whole) = time.strip_suffix('Z') else {
        out.extend_from_slice(time.as_bytes());
        return;
    };
    let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    out.extend_from_slice(seconds.as_bytes());
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes());
    out.extend(std::iter::repeat_n(
        b'0',
        9usize.saturating_sub(fraction.len()),
    ));
    out.push(b'Z');
}

/// Writes `key=value,…` sorted by key, each escaped for a URL query.
fn append_attributes(out: &mut Vec<u8>, attrs: Option<&[u8]>) {
    let attrs: BTreeMap<String, String> = attrs
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .unwrap_or_default();
    for (n, (key, value)) in attrs.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        append_escaped(out, key);
        out.push(b'=');
        append_escaped(out, value);
    }
}

/// Go's `url.QueryEscape`.
fn append_escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn check(request: Request, raw: bool, expected: &[u8]) {
        let line = Line {
            log: Cow::Borrowed(b"hi\n"),
            stream: Stream::Stderr,
            time: Cow::Borrowed("2026-11-24T08:00:00.5Z"),
            attrs: Some(Cow::Borrowed(b"{\"b\":\"1 2\",\"a\":\"x/y\"}")),
        };
        let mut out = Vec::new();
        append(&mut out, &line, &request, raw);
        assert_eq!(out, expected, "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn frames_are_dockers() {
        check(Request::default(), false, b"\x02\0\0\0\0\0\0\x03hi\n");
        check(Request::default(), true, b"hi\n");
        check(
            Request {
                timestamps: true,
                ..Request::default()
            },
            true,
            b"2026-11-24T08:00:00.500000000Z hi\n",
        );
        check(
            Request {
                timestamps: true,
                details: true,
                ..Request::default()
            },
            true,
            b"2026-11-24T08:00:00.500000000Z a=x%2Fy,b=1+2 hi\n",
        );
    }
}
