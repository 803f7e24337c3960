//! Where bytes lie.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::units;

/// See [`super::Config::storage`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// An object store; without one, `root`.
    pub url: Option<String>,
    /// Its options, by the names of the `object_store` crate.
    pub options: BTreeMap<String, String>,
    /// Whether blobs are read at the object store itself.
    pub redirect: bool,
    /// For how long such a URL is good.
    #[serde(deserialize_with = "units::duration")]
    pub redirect_expiry: Duration,
    /// Whether what is acknowledged survives loss of power.
    pub sync: bool,
    /// Whether nothing may change.
    pub read_only: bool,
    /// Whether `DELETE` is there.
    pub delete: bool,
    /// Whether a manifest may name what is not here.
    pub sparse: bool,
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            url: None,
            options: BTreeMap::new(),
            redirect: true,
            redirect_expiry: Duration::from_secs(20 * 60),
            sync: true,
            read_only: false,
            delete: true,
            sparse: false,
        }
    }
}
