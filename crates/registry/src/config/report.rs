//! What others are told: events, numbers, pages, lines in a log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::{everything, units};

/// See [`super::Config::webhooks`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where events are posted.
    pub url: String,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Which events; empty: all.
    #[serde(default)]
    pub events: Vec<String>,
    /// Patterns of names.
    #[serde(default = "everything")]
    pub repositories: Vec<String>,
    /// For one attempt.
    #[serde(default = "ten_seconds", deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// How often each is tried.
    #[serde(default = "ten")]
    pub attempts: u32,
    /// Key of the signature in `X-Wharf-Signature: sha256=…`.
    #[serde(default)]
    pub secret: Option<String>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn ten() -> u32 {
    10
}

/// See [`super::Config::metrics`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether `/metrics` is there.
    pub enabled: bool,
    /// On an address of its own; else where everything is.
    pub listen: Option<SocketAddr>,
}

/// See [`super::Config::web`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// Whether `/` is there.
    pub enabled: bool,
    /// Above every page.
    pub title: String,
}

/// See [`super::Config::log`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
    /// A line for each request.
    pub access: bool,
}

impl Default for MetricsConfig {
    fn default() -> MetricsConfig {
        MetricsConfig {
            enabled: true,
            listen: None,
        }
    }
}

impl Default for WebConfig {
    fn default() -> WebConfig {
        WebConfig {
            enabled: true,
            title: "Wharf registry".to_owned(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: "info".to_owned(),
            format: "text".to_owned(),
            access: true,
        }
    }
}
