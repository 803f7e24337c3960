//! What runs in a container, independent of the host (moby `container.Config`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::is_zero;

/// Go's `struct{}` as the value of a set-like map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A set written as a map of empty objects: `{"80/tcp":{}}`.
pub type Set = BTreeMap<String, Empty>;

/// The portable part of a container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: Set,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<Set>,
    pub working_dir: String,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// Deprecated since 1.44 in favour of the endpoint's, still accepted and shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    /// Seconds; -1 waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "is_none_or_empty", deserialize_with = "words")]
    pub shell: Option<Vec<String>>,
}

/// How to find out whether a container is healthy. Durations in nanoseconds, 0 means inherit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `[]` inherit, `["NONE"]` off, `["CMD", …]` direct, `["CMD-SHELL", line]` through the shell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// Go's `omitempty` on a list that can be nil.
#[allow(clippy::ref_option)] // serde passes the field as it is
pub(crate) fn is_none_or_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// A command as a list, or as one text that becomes a list of one (moby `strslice`).
pub(crate) fn words<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(de)?.map(|words| match words {
        Words::One(text) => vec![text],
        Words::Many(list) => list,
    }))
}
