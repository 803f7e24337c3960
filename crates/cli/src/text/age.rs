//! Durations in words (Docker's `go-units`): `About an hour ago`.

use std::time::Duration;

use jiff::Timestamp;

/// A duration in words. Each unit is used for about twice its length before the next one takes over.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded; everything above counts whole ones.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a time was, in words.
pub fn since(then: Timestamp, now: Timestamp) -> String {
    let elapsed = now.duration_since(then);
    format!(
        "{} ago",
        human_duration(Duration::try_from(elapsed).unwrap_or_default())
    )
}

/// The same for seconds since 1970.
pub fn since_unix(seconds: i64, now: Timestamp) -> String {
    since(Timestamp::from_second(seconds).unwrap_or(now), now)
}

/// Seconds since 1970 as Go prints a local time: `2026-11-24 08:00:00 +0000 UTC`.
pub fn go_time(seconds: i64) -> String {
    let zone = jiff::tz::TimeZone::system();
    match Timestamp::from_second(seconds) {
        Ok(at) => at
            .to_zoned(zone)
            .strftime("%Y-%m-%d %H:%M:%S %z %Z")
            .to_string(),
        Err(_) => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_dockers_words() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * 60, "About an hour"),
            (HOUR + 30 * 60, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
            (3 * 365 * DAY, "3 years"),
        ] {
            assert_eq!(
                human_duration(Duration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }
}
