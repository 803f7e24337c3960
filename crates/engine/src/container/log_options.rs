//! Options of log drivers: texts to checked values, in Docker's words.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_api::time::parse_go_duration;

/// Options as given.
pub type Options = BTreeMap<String, String>;

/// Options that choose what is told besides the text; every driver but `none` takes them.
pub const COMMON: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

/// Options of all drivers that are the engine's business: the buffer and the local copy.
pub const BUILT_IN: [&str; 6] = [
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];

/// Default of `max-buffer-size` (moby `daemon/logger/ring.go`).
const BUFFER: u64 = 1_000_000;

/// Refuses options that neither the driver nor the engine knows. `wording` names driver and option.
pub fn check_known(
    options: &Options,
    own: &[&str],
    wording: impl Fn(&str) -> String,
) -> Result<(), String> {
    let known = |key: &&String| {
        let key = key.as_str();
        own.contains(&key) || COMMON.contains(&key) || BUILT_IN.contains(&key)
    };
    match options.keys().find(|key| !known(key)) {
        Some(unknown) => Err(wording(unknown)),
        None => Ok(()),
    }
}

/// Checks the engine's own options.
pub fn check_built_in(options: &Options) -> Result<(), String> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".into(),
            );
        }
        binary_size(size).map_err(|why| format!("error parsing option max-buffer-size: {why}"))?;
    }
    if let Some(text) = options
        .get("cache-disabled")
        .filter(|text| !text.is_empty())
        && boolean(text).is_none()
    {
        return Err(format!("invalid value for option cache-disabled: {text}"));
    }
    Ok(())
}

/// Bytes a non-blocking log keeps at most; `None`: it is a blocking one.
pub fn buffer(options: &Options) -> Option<u64> {
    if options.get("mode").map(String::as_str) != Some("non-blocking") {
        return None;
    }
    let size = options.get("max-buffer-size");
    Some(
        size.and_then(|text| binary_size(text).ok())
            .unwrap_or(BUFFER),
    )
}

/// Whether a driver that cannot be read gets a local copy.
pub fn is_cached(options: &Options) -> bool {
    let disabled = options.get("cache-disabled");
    disabled.is_none_or(|text| boolean(text) != Some(true))
}

/// Go's `strconv.ParseBool`.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A switch; absent and empty is off.
pub fn switch(options: &Options, key: &str) -> Result<bool, String> {
    match options.get(key).map_or("", String::as_str) {
        "" => Ok(false),
        text => boolean(text)
            .ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A duration as Go writes it; absent and empty is `default`.
pub fn duration(options: &Options, key: &str, default: Duration) -> Result<Duration, String> {
    let text = options.get(key).map_or("", String::as_str);
    if text.is_empty() {
        return Ok(default);
    }
    let ns = parse_go_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
    u64::try_from(ns)
        .map(Duration::from_nanos)
        .map_err(|_| "value must be a duration that is non-negative".into())
}

/// Bytes of `10m`, `1.5g`, `512`; decimal units, as Docker reads sizes of logs (go-units `FromHumanSize`).
pub fn decimal_size(text: &str) -> Result<u64, String> {
    size(text, 1000.0)
}

/// Bytes with units of 1024 (go-units `RAMInBytes`).
pub fn binary_size(text: &str) -> Result<u64, String> {
    size(text, 1024.0)
}

fn size(text: &str, unit: f64) -> Result<u64, String> {
    let refused = || format!("invalid size: '{text}'");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let number: f64 = lower[..digits].parse().map_err(|_| refused())?;
    let power = match lower[digits..]
        .trim()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(refused()),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // saturates; both factors are positive
    Ok((number * unit.powi(power)) as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Options out of pairs.
    pub fn options(pairs: &[(&str, &str)]) -> Options {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn sizes_have_their_units() {
        assert_eq!(decimal_size("1.5k"), Ok(1500));
        assert_eq!(binary_size("1m"), Ok(1 << 20));
        assert_eq!(binary_size("4 MiB"), Ok(4 << 20));
        assert_eq!(decimal_size("x"), Err("invalid size: 'x'".into()));
    }

    #[test]
    fn modes_and_buffers_go_together() {
        let check = |pairs: &[(&str, &str)]| check_built_in(&options(pairs));
        assert_eq!(
            check(&[("max-buffer-size", "4m")]),
            Err("logger: max-buffer-size option is only supported with 'mode=non-blocking'".into())
        );
        assert_eq!(
            check(&[("mode", "odd")]),
            Err("logger: logging mode not supported: odd".into())
        );
        assert_eq!(
            check(&[("mode", "non-blocking"), ("max-buffer-size", "x")]),
            Err("error parsing option max-buffer-size: invalid size: 'x'".into())
        );
        assert_eq!(
            check(&[("cache-disabled", "maybe")]),
            Err("invalid value for option cache-disabled: maybe".into())
        );
        assert_eq!(buffer(&options(&[("mode", "non-blocking")])), Some(BUFFER));
        assert_eq!(buffer(&options(&[])), None);
    }
}
