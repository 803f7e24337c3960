//! Points in time as flags give them (`42m`, `2026-11-24T08:00:00`, seconds since 1970), to the form the API takes.

use jiff::civil::DateTime;
use jiff::{Timestamp, tz::TimeZone};
use wharf_api::time::parse_go_duration;

/// Seconds since 1970, with a fraction if there is one. A duration counts back from `now`; a time without zone is
/// local.
///
/// # Errors
/// It is neither.
pub fn parse(text: &str, now: Timestamp) -> Result<String, String> {
    if let Some(nanoseconds) = parse_go_duration(text).filter(|_| {
        !text.starts_with(|c: char| c.is_ascii_digit())
            || text.ends_with(|c: char| c.is_alphabetic())
    }) {
        return Ok(shown(now.as_nanosecond() - i128::from(nanoseconds)));
    }
    if text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        return Ok(text.to_owned());
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(shown(at.as_nanosecond()));
    }
    let local = text.trim_end_matches('Z');
    let zone = if local == text {
        TimeZone::system()
    } else {
        TimeZone::UTC
    };
    let formats = [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H",
        "%Y-%m-%d",
    ];
    let parsed = formats.iter().find_map(|format| {
        DateTime::strptime(format, local).ok().or_else(|| {
            jiff::civil::Date::strptime(format, local)
                .ok()
                .map(|date| date.at(0, 0, 0, 0))
        })
    });
    match parsed.and_then(|at| at.to_zoned(zone).ok()) {
        Some(at) => Ok(shown(at.timestamp().as_nanosecond())),
        None => Err(format!(
            "failed to parse value as time or duration: {}",
            crate::flags::parse::quote(text)
        )),
    }
}

fn shown(nanoseconds: i128) -> String {
    format!(
        "{}.{:09}",
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_every_form() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        for (text, expected) in [
            ("10m", Some("999400.000000000")),
            ("1h30m", Some("994600.000000000")),
            ("1234.5", Some("1234.5")),
            ("1970-01-02T00:00:00Z", Some("86400.000000000")),
            ("1970-01-02T00:00:00.5Z", Some("86400.500000000")),
            ("1970-01-02T01:00:00+01:00", Some("86400.000000000")),
            ("1970-01-02Z", Some("86400.000000000")),
            ("1970-01-02T03Z", Some("97200.000000000")),
            ("yesterday", None),
        ] {
            assert_eq!(parse(text, now).ok().as_deref(), expected, "{text}");
        }
    }
}
