//! Other registries: caches of them, and mirrors.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{everything, units};

/// See [`super::Config::upstreams`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Repositories below this name come from there; empty: all that no other upstream has.
    #[serde(default)]
    pub prefix: String,
    /// `https://registry-1.docker.io`, perhaps with a path that goes before repositories' names.
    pub url: String,
    /// The host whose mirror this is, as containerd says in `?ns=`.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Login.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<String>,
    /// A file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM file with further roots.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// For how long a tag is believed without asking again.
    #[serde(default = "five_minutes", deserialize_with = "units::duration")]
    pub ttl: Duration,
    /// Whether tags are believed for longer while the upstream does not answer.
    #[serde(default = "yes")]
    pub stale: bool,
}

/// See [`super::Config::mirrors`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct MirrorJob {
    /// `https://registry.example.com/team/app`.
    pub from: String,
    /// The repository here.
    pub to: String,
    /// Patterns of tags.
    #[serde(default = "everything")]
    pub tags: Vec<String>,
    /// How often.
    #[serde(default = "one_hour", deserialize_with = "units::duration")]
    pub every: Duration,
    /// Whether tags that went there go here.
    #[serde(default)]
    pub delete: bool,
    /// Login.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<String>,
    /// A file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM file with further roots.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

fn one_hour() -> Duration {
    Duration::from_secs(3600)
}

fn yes() -> bool {
    true
}
