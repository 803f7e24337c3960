//! Times as Go writes them.

use jiff::Timestamp;

/// Go's zero `time.Time`: "never".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// Go's `time.RFC3339Nano` in UTC: up to nine decimals, trailing zeros dropped.
#[must_use]
pub fn rfc3339_nano(at: Timestamp) -> String {
    // jiff's own form does just that.
    at.to_string()
}

/// [`rfc3339_nano`] of nanoseconds since the epoch.
#[must_use]
pub fn rfc3339_nano_from_ns(ns: i64) -> String {
    rfc3339_nano(Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Why a `since` or `until` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse value as time or duration: {0:?}")]
pub struct ParseTimeError(pub String);

/// A `since`/`until` parameter of the API: seconds since the epoch with optional decimals, as nanoseconds.
/// Empty text is `None`. (Clients turn durations and dates into seconds themselves.)
pub fn parse_unix(text: &str) -> Result<Option<i64>, ParseTimeError> {
    if text.is_empty() {
        return Ok(None);
    }
    let error = || ParseTimeError(text.to_owned());
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 9 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error());
    }
    let seconds: i64 = seconds.parse().map_err(|_| error())?;
    let nanos: i64 = format!("{decimals:0<9}").parse().map_err(|_| error())?;
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(nanos))
        .map(Some)
        .ok_or_else(error)
}

/// A filter's time as users write it to clients that pass it on: seconds, RFC 3339, or a Go duration back from `now`.
pub fn parse_filter_time(text: &str, now: Timestamp) -> Result<i64, ParseTimeError> {
    let error = || ParseTimeError(text.to_owned());
    if let Ok(Some(ns)) = parse_unix(text) {
        return Ok(ns);
    }
    if let Some(back) = parse_go_duration(text) {
        return i64::try_from(now.as_nanosecond())
            .ok()
            .and_then(|now| now.checked_sub(back))
            .ok_or_else(error);
    }
    let at = parse_date(text).ok_or_else(error)?;
    i64::try_from(at.as_nanosecond()).map_err(|_| error())
}

/// A date, a date with time (UTC when no zone is named), or an RFC 3339 instant.
fn parse_date(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let civil = text.parse::<jiff::civil::DateTime>().or_else(|_| {
        text.trim_end_matches('Z')
            .parse::<jiff::civil::Date>()
            .map(jiff::civil::DateTime::from)
    });
    civil
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

/// Nanoseconds of a Go duration such as `1h30m`, `1.5s`, `-10ms`.
#[must_use]
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        total += value * unit_ns(&after[..unit_len])?;
        rest = &after[unit_len..];
    }
    #[allow(clippy::cast_possible_truncation)] // saturates, and ±292 years are enough
    Some((sign * total) as i64)
}

fn unit_ns(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_trimmed_as_go_does() {
        for (ns, expected) in [
            (1_700_000_000_000_000_000, "2023-11-14T22:13:20Z"),
            (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
        ] {
            assert_eq!(rfc3339_nano_from_ns(ns), expected);
        }
    }

    #[test]
    fn api_times_are_seconds_with_decimals() {
        assert_eq!(parse_unix(""), Ok(None));
        assert_eq!(parse_unix("12.5"), Ok(Some(12_500_000_000)));
        assert_eq!(parse_unix("12.000000001"), Ok(Some(12_000_000_001)));
        assert!(parse_unix("yesterday").is_err());
    }

    #[test]
    fn filter_times_take_durations_and_dates() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        assert_eq!(
            parse_filter_time("10m", now),
            Ok((1_000_000 - 600) * 1_000_000_000)
        );
        assert_eq!(parse_filter_time("1h1.5s", now), Ok(996_398_500_000_000));
        assert_eq!(parse_filter_time("1970-01-02", now), Ok(86_400_000_000_000));
        assert_eq!(
            parse_filter_time("1970-01-01T00:00:01Z", now),
            Ok(1_000_000_000)
        );
        assert!(parse_filter_time("5 apples", now).is_err());
    }
}
