//! `Range` of requests (RFC 9110, section 14), and `Content-Range` as uploads write it.

use std::ops::Range;

/// What a request wants of so many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no range, or one that is to be ignored.
    All,
    /// A part.
    Part(Range<u64>),
    /// A part that is not there.
    Nothing,
}

/// Understands `bytes=first-last`, `bytes=first-`, `bytes=-length`. Several ranges at once are answered with everything, which RFC 9110
/// allows, unless none of them is there. What is no range at all is refused like one that is not there, as `docker-registry` does it
/// (Go's `http.ServeContent`); other units than bytes are ignored.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(set) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some(ranges) = set
        .split(',')
        .map(|spec| one(spec, size))
        .collect::<Option<Vec<_>>>()
    else {
        return Wanted::Nothing;
    };
    match ranges.as_slice() {
        [range] if !range.is_empty() => Wanted::Part(range.clone()),
        several if several.iter().any(|range| !range.is_empty()) => Wanted::All,
        _ => Wanted::Nothing,
    }
}

/// What is there of one range; `None` when the text is none.
fn one(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => Some(first..last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => Some(first..size),
        (Err(_), Ok(length)) if first.is_empty() => Some(size.saturating_sub(length)..size),
        _ => None,
    }
}

/// `first-last` of a chunk; `bytes ` before it and `/total` after it are allowed, as HTTP has them.
pub fn chunk(header: &str) -> Option<(u64, u64)> {
    let spec = header.trim();
    let spec = spec
        .strip_prefix("bytes")
        .map_or(spec, |rest| rest.trim_start_matches([' ', '=']));
    let spec = spec.split('/').next()?;
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, expected) in [
            (None, Wanted::All),
            (Some("bytes=0-0"), Wanted::Part(0..1)),
            (Some("bytes=2-5"), Wanted::Part(2..6)),
            (Some("bytes=2-"), Wanted::Part(2..10)),
            (Some("bytes=-3"), Wanted::Part(7..10)),
            (Some("bytes=-30"), Wanted::Part(0..10)),
            (Some("bytes=5-100"), Wanted::Part(5..10)),
            (Some("bytes=10-"), Wanted::Nothing),
            (Some("bytes=-0"), Wanted::Nothing),
            (Some("bytes=5-2"), Wanted::Nothing),
            (Some("bytes=abc"), Wanted::Nothing),
            (Some("bytes="), Wanted::Nothing),
            (Some("bytes=0-1,3-4"), Wanted::All),
            (Some("bytes=0-1,30-40"), Wanted::All),
            (Some("bytes=20-21,30-40"), Wanted::Nothing),
            (Some("bytes=0-1,x"), Wanted::Nothing),
            (Some("lines=0-1"), Wanted::All),
            (Some("bytes=18446744073709551615-"), Wanted::Nothing),
            (Some("bytes=0-18446744073709551615"), Wanted::Part(0..10)),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header:?}");
        }
    }

    #[test]
    fn chunks() {
        assert_eq!(chunk("0-5"), Some((0, 5)));
        assert_eq!(chunk("bytes 6-9/*"), Some((6, 9)));
        assert_eq!(chunk("5-0"), None);
        assert_eq!(chunk("x"), None);
    }
}
