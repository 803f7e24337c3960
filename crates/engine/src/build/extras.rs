//! What a build may ask for beyond Docker's API: the query parameter `wharf` of `POST /build`, a JSON object that our own client sends.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The object. Names that are not known are refused, so that nothing is left out in silence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Extras {
    /// Named contexts: `docker-image://…`, an address, or `upload:<id>`.
    pub contexts: BTreeMap<String, String>,
    /// Entitlements: `network.host`, `security.insecure`.
    pub allow: Vec<String>,
    /// Upload with the secrets; empty without.
    pub secrets: String,
    /// Tokens under which the client offers agents, by the agent's ID.
    pub agents: BTreeMap<String, String>,
    /// Images, or stages, that steps are taken from.
    pub cache_from: Vec<CacheSource>,
    /// Stages that take nothing from the cache.
    pub no_cache_filter: Vec<String>,
    /// The answer ends with what the build is known to have used.
    pub facts: bool,
}

/// Where steps come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum CacheSource {
    /// A reference in a registry: an image, or what `--cache-to type=registry` wrote.
    Registry(String),
    /// Upload with an archive of images.
    Upload(String),
}
