//! How much may be kept, for how long, and reading it again.

use std::time::Duration;

use serde::Deserialize;

use super::{everything, units};

/// See [`super::Config::quotas`]. The first whose pattern fits counts.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Patterns of names.
    pub repositories: Vec<String>,
    /// Bytes of all different blobs of one repository.
    #[serde(deserialize_with = "units::size")]
    pub size: u64,
}

/// See [`super::Config::gc`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct GcConfig {
    /// How often; zero: only when asked.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// For how long a blob that somebody was promised stays although nothing names it.
    #[serde(deserialize_with = "units::duration")]
    pub lease: Duration,
    /// When an upload that nobody goes on with is forgotten.
    #[serde(deserialize_with = "units::duration")]
    pub upload_expiry: Duration,
    /// Whether manifests without a tag go.
    pub untagged: bool,
    /// Which tags go.
    pub retention: Vec<Retention>,
}

/// See [`GcConfig::retention`]. For each tag the first entry whose patterns fit counts; what any of its `keep…` says stays.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Patterns of names.
    #[serde(default = "everything")]
    pub repositories: Vec<String>,
    /// Patterns of tags.
    #[serde(default = "everything")]
    pub tags: Vec<String>,
    /// The newest so many stay.
    #[serde(default)]
    pub keep_last: Option<usize>,
    /// What is younger stays.
    #[serde(default, deserialize_with = "optional_duration")]
    pub keep_for: Option<Duration>,
    /// These stay.
    #[serde(default)]
    pub keep_tags: Vec<String>,
}

fn optional_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    units::duration(deserializer).map(Some)
}

/// See [`super::Config::scrub`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ScrubConfig {
    /// How often; zero: never.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// Bytes per second; 0: as fast as it goes.
    #[serde(deserialize_with = "units::size")]
    pub rate: u64,
}

impl Default for GcConfig {
    fn default() -> GcConfig {
        GcConfig {
            interval: Duration::from_secs(24 * 3600),
            lease: Duration::from_secs(3600),
            upload_expiry: Duration::from_secs(24 * 3600),
            untagged: false,
            retention: Vec::new(),
        }
    }
}

impl Default for ScrubConfig {
    fn default() -> ScrubConfig {
        ScrubConfig {
            interval: Duration::from_secs(7 * 24 * 3600),
            rate: 50 << 20,
        }
    }
}
