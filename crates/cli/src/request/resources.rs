//! Limits: memory, cpus, ulimits, restart policy.

use std::collections::BTreeMap;
use std::str::FromStr;

use wharf_api::container::{HostConfig, RestartPolicy, Ulimit};

use crate::flags::parse::Matches;
use crate::text::size;

/// `-m` and its like.
pub fn check_bytes(value: &str) -> Result<(), String> {
    size::parse_binary(value).map(drop)
}

/// `--memory-swap`: `-1` means no limit.
pub fn check_swap(value: &str) -> Result<(), String> {
    if value == "-1" {
        Ok(())
    } else {
        check_bytes(value)
    }
}

/// `--cpus`
pub fn check_cpus(value: &str) -> Result<(), String> {
    parse_cpus(value).map(drop)
}

/// A number of CPUs, in billionths.
pub fn parse_cpus(value: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {value} as a rational number");
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let unsigned = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    if (unsigned.is_empty() && fraction.is_empty()) || !digits(unsigned) || !digits(fraction) {
        return Err(bad());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".into());
    }
    let nano: i64 = format!("{:0<9.9}", fraction).parse().map_err(|_| bad())?;
    let whole: i64 = if unsigned.is_empty() {
        0
    } else {
        unsigned.parse().map_err(|_| bad())?
    };
    let total = whole
        .checked_mul(1_000_000_000)
        .and_then(|whole| whole.checked_add(nano))
        .ok_or_else(bad)?;
    Ok(if value.starts_with('-') {
        -total
    } else {
        total
    })
}

/// `--blkio-weight`
pub fn check_u16(value: &str) -> Result<(), String> {
    value.parse::<u16>().map(drop).map_err(|error| {
        let what = if value.chars().all(|c| c.is_ascii_digit()) && !value.is_empty() {
            "value out of range"
        } else {
            "invalid syntax"
        };
        let _ = error;
        format!(
            "strconv.ParseUint: parsing {}: {what}",
            crate::flags::parse::quote(value)
        )
    })
}

/// `--ulimit`
pub fn check_ulimit(value: &str) -> Result<(), String> {
    parse_ulimit(value).map(drop)
}

/// `name=soft[:hard]`
pub fn parse_ulimit(value: &str) -> Result<Ulimit, String> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = value
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {value}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| {
            format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                crate::flags::parse::quote(text)
            )
        })
    };
    let (soft, hard) = match limits.split(':').collect::<Vec<_>>()[..] {
        [soft] => (number(soft)?, number(soft)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        let shown = if soft == -1 {
            "-1 (unlimited)".to_owned()
        } else {
            soft.to_string()
        };
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {shown} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

/// `--restart name[:retries]`
pub fn parse_restart(value: &str) -> Result<RestartPolicy, String> {
    if value.is_empty() {
        return Ok(RestartPolicy::default());
    }
    let (name, count) = value.split_once(':').unwrap_or((value, ""));
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

/// `name=value`
pub fn check_pair(value: &str) -> Result<(), String> {
    match value.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(()),
        _ => Err(format!("invalid argument {value}, expected name=value")),
    }
}

/// Pairs by name; a later one wins.
pub fn pairs(values: &[String]) -> BTreeMap<String, String> {
    let pairs = values.iter().filter_map(|value| value.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Pairs with whole numbers.
///
/// # Errors
/// A value is none.
pub fn numbers<T: FromStr>(values: &[String]) -> Result<BTreeMap<String, T>, String> {
    let number = |(name, value): (String, String)| match value.parse() {
        Ok(number) => Ok((name, number)),
        Err(_) => Err(format!("{name}: {value} is not a number in range")),
    };
    pairs(values).into_iter().map(number).collect()
}

/// Fills in the limits that `run` and `update` have in common.
pub fn fill(host: &mut HostConfig, matches: &Matches) {
    let bytes = |name: &str| {
        matches
            .text(name)
            .and_then(|value| size::parse_binary(value).ok())
            .unwrap_or(0)
    };
    let int = |name: &str| matches.int(name).unwrap_or(0);
    host.memory = bytes("memory");
    host.memory_reservation = bytes("memory-reservation");
    host.memory_swap = if matches.text("memory-swap") == Some("-1") {
        -1
    } else {
        bytes("memory-swap")
    };
    host.cpu_shares = int("cpu-shares");
    host.cpu_period = int("cpu-period");
    host.cpu_quota = int("cpu-quota");
    host.cpu_realtime_period = int("cpu-rt-period");
    host.cpu_realtime_runtime = int("cpu-rt-runtime");
    host.nano_cpus = matches
        .text("cpus")
        .and_then(|value| parse_cpus(value).ok())
        .unwrap_or(0);
    host.cpuset_cpus = matches.text_or_empty("cpuset-cpus").to_owned();
    host.cpuset_mems = matches.text_or_empty("cpuset-mems").to_owned();
    host.blkio_weight = matches
        .text("blkio-weight")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_in_billionths() {
        for (given, expected) in [
            ("1.5", Some(1_500_000_000)),
            (".25", Some(250_000_000)),
            ("2", Some(2_000_000_000)),
            ("0.0000000001", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_cpus(given).ok(), expected, "{given}");
        }
    }

    #[test]
    fn ulimits() {
        assert_eq!(
            parse_ulimit("nofile=1:2"),
            Ok(Ulimit {
                name: "nofile".into(),
                hard: 2,
                soft: 1
            })
        );
        for (given, expected) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("foo=1", "invalid ulimit type: foo"),
            (
                "nofile=2:1",
                "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
            ),
        ] {
            assert_eq!(parse_ulimit(given), Err(expected.into()));
        }
    }

    #[test]
    fn restart_policies() {
        assert_eq!(
            parse_restart("on-failure:3").map(|p| (p.name, p.maximum_retry_count)),
            Ok(("on-failure".into(), 3))
        );
        assert!(parse_restart("on-failure:x").is_err() && parse_restart(":1").is_err());
    }
}
