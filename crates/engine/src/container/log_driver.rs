//! Which log drivers there are, and which options they take.

use wharf_api::container::LogConfig;

use super::log_options::{self as options, Options};
use super::log_plan::{self, Rotation};
use super::log_service::Service;
use super::log_tag;
use crate::{Error, Result};

/// Drivers, as `info` lists them.
pub const NAMES: [&str; 6] = [
    "fluentd",
    "gelf",
    "journald",
    "json-file",
    "local",
    "syslog",
];

/// Drivers of Docker that send lines to somebody's cloud; this engine has none.
const FOREIGN: [&str; 4] = ["awslogs", "splunk", "gcplogs", "etwlogs"];

const FILE: [&str; 3] = ["max-file", "max-size", "compress"];

/// A log driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `none`.
    None,
    /// `json-file`.
    JsonFile,
    /// `local`.
    Local,
    /// A service.
    Service(Service),
}

impl Driver {
    /// By name, or Docker's refusal.
    pub fn named(name: &str) -> Result<Driver> {
        match name {
            "none" => Ok(Driver::None),
            "json-file" => Ok(Driver::JsonFile),
            "local" => Ok(Driver::Local),
            "syslog" => Ok(Driver::Service(Service::Syslog)),
            "journald" => Ok(Driver::Service(Service::Journald)),
            "fluentd" => Ok(Driver::Service(Service::Fluentd)),
            "gelf" => Ok(Driver::Service(Service::Gelf)),
            foreign if FOREIGN.contains(&foreign) => Err(Error::not_implemented(format!(
                "logging driver {foreign:?} is not part of this engine; use one of {}",
                NAMES.join(", ")
            ))),
            other => Err(Error::invalid(format!(
                "error looking up logging plugin {other}: plugin \"{other}\" not found"
            ))),
        }
    }

    /// Refuses options that make no sense.
    fn check(self, given: &Options) -> Result<()> {
        if self == Driver::None {
            return Ok(());
        }
        let checked = options::check_built_in(given).and_then(|()| match self {
            Driver::None => Ok(()),
            Driver::JsonFile => {
                options::check_known(given, &FILE, |key| {
                    format!("unknown log opt '{key}' for json-file log driver")
                })?;
                Rotation::of_json_file(given).map(drop)
            }
            Driver::Local => {
                options::check_known(given, &FILE, |key| {
                    format!("unknown log opt '{key}' for log driver local")
                })?;
                Rotation::of_local(given, "").map(drop)
            }
            Driver::Service(service) => {
                service.check(given)?;
                Rotation::of_local(given, log_plan::CACHE_PREFIX).map(drop)
            }
        });
        let tag = given.get("tag").map_or("", String::as_str);
        checked
            .and_then(|()| log_tag::check(tag))
            .map_err(Error::invalid)
    }
}

/// Fills in the daemon's default and refuses what makes no sense. Gives the options really used.
pub fn settle(config: &mut LogConfig, default: &LogConfig) -> Result<Options> {
    if config.kind.is_empty() {
        config.kind.clone_from(&default.kind);
    }
    let own = config.config.get_or_insert_default();
    let same = config.kind == default.kind;
    for (key, value) in default.config.iter().flatten() {
        // Those of the local copy count whatever the driver.
        if same || key.starts_with(log_plan::CACHE_PREFIX) {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let driver = Driver::named(&config.kind)?;
    driver.check(own)?;
    Ok(match driver {
        Driver::None => Options::new(),
        _ => own.clone(),
    })
}

/// Checks the daemon's own default.
pub fn check_default(default: &LogConfig) -> Result<()> {
    let given = default.config.clone().unwrap_or_default();
    Driver::named(&default.kind)
        .and_then(|driver| driver.check(&given))
        .map_err(|error| error.context("failed to set log opts"))
}

#[cfg(test)]
mod tests {
    use super::super::log_options::tests::options;
    use super::*;

    fn refused(kind: &str, pairs: &[(&str, &str)]) -> String {
        let mut config = LogConfig {
            kind: kind.into(),
            config: Some(options(pairs)),
        };
        let default = LogConfig {
            kind: "json-file".into(),
            config: None,
        };
        settle(&mut config, &default).map_or_else(|error| error.to_string(), |_| "accepted".into())
    }

    #[test]
    fn drivers_and_options_are_checked() {
        let rows = [
            ("", &[][..], "accepted"),
            ("none", &[("x", "y")], "accepted"),
            ("local", &[("max-size", "1m")], "accepted"),
            (
                "odd",
                &[],
                "error looking up logging plugin odd: plugin \"odd\" not found",
            ),
            (
                "splunk",
                &[],
                "logging driver \"splunk\" is not part of this engine; use one of fluentd, gelf, journald, json-file, local, syslog",
            ),
            (
                "json-file",
                &[("x", "y")],
                "unknown log opt 'x' for json-file log driver",
            ),
            (
                "local",
                &[("x", "y")],
                "unknown log opt 'x' for log driver local",
            ),
            (
                "json-file",
                &[("max-size", "10m"), ("max-file", "3")],
                "accepted",
            ),
            (
                "json-file",
                &[("compress", "true"), ("max-file", "3")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            (
                "local",
                &[("max-file", "1")],
                "compression cannot be enabled when max file count is 1",
            ),
            (
                "json-file",
                &[
                    ("mode", "non-blocking"),
                    ("max-buffer-size", "4m"),
                    ("cache-disabled", "true"),
                ],
                "accepted",
            ),
        ];
        for (kind, pairs, expected) in rows {
            assert_eq!(refused(kind, pairs), expected, "{kind} {pairs:?}");
        }
    }

    #[test]
    fn the_daemons_defaults_are_taken_over() {
        let default = LogConfig {
            kind: "json-file".into(),
            config: Some(options(&[("max-file", "2"), ("cache-disabled", "true")])),
        };
        let mut config = LogConfig::default();
        let used = settle(&mut config, &default).expect("settled");
        assert_eq!(used["max-file"], "2");
        assert_eq!(config.kind, "json-file");
        let mut other = LogConfig {
            kind: "journald".into(),
            config: None,
        };
        let used = settle(&mut other, &default).expect("settled");
        assert_eq!(used, options(&[("cache-disabled", "true")]));
        assert!(check_default(&default).is_ok());
        let wrong = LogConfig {
            kind: "json-file".into(),
            config: Some(options(&[("x", "")])),
        };
        assert_eq!(
            check_default(&wrong).expect_err("refused").to_string(),
            "failed to set log opts: unknown log opt 'x' for json-file log driver"
        );
    }
}
