//! `--health-*` and `--no-healthcheck`.

use wharf_api::container::HealthConfig;
use wharf_api::time::parse_go_duration;

use crate::flags::parse::{Matches, quote};

/// Checks a duration as Go writes them.
pub fn check_duration(value: &str) -> Result<(), String> {
    match parse_go_duration(value) {
        Some(_) => Ok(()),
        None => Err(format!("time: invalid duration {}", quote(value))),
    }
}

/// Checks `--health-on-failure`, an extension of this engine.
pub fn check_action(value: &str) -> Result<(), String> {
    match value {
        "none" | "kill" | "restart" | "stop" => Ok(()),
        _ => Err("use one of \"none\", \"kill\", \"restart\" or \"stop\"".into()),
    }
}

/// The health check that the flags describe, if they do.
///
/// # Errors
/// They contradict each other or are negative.
pub fn parse_health(matches: &Matches) -> Result<Option<HealthConfig>, String> {
    let duration = |name: &str| matches.text(name).and_then(parse_go_duration).unwrap_or(0);
    let command = matches.text_or_empty("health-cmd");
    let config = HealthConfig {
        test: if command.is_empty() {
            Vec::new()
        } else {
            vec!["CMD-SHELL".into(), command.into()]
        },
        interval: duration("health-interval"),
        timeout: duration("health-timeout"),
        start_period: duration("health-start-period"),
        start_interval: duration("health-start-interval"),
        retries: matches.int("health-retries").unwrap_or(0),
    };
    let is_set = config != HealthConfig::default();
    if matches.on("no-healthcheck") {
        if is_set {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(HealthConfig {
            test: vec!["NONE".into()],
            ..HealthConfig::default()
        }));
    }
    for (name, value) in [
        ("health-interval", config.interval),
        ("health-timeout", config.timeout),
        ("health-retries", config.retries),
        ("health-start-period", config.start_period),
        ("health-start-interval", config.start_interval),
    ] {
        if value < 0 {
            return Err(format!("--{name} cannot be negative"));
        }
    }
    Ok(is_set.then_some(config))
}
