//! What is in registries, without pulling it: search, inspection, and whether credentials are good.

use serde::Serialize;
use wharf_api::error::Kind;
use wharf_api::filters::Filters;
use wharf_distribution::manifest::{Document, MAX_CONFIG};
use wharf_distribution::{Credentials, RegistryError};
use wharf_spec::platform::Platform;
use wharf_spec::reference::{AnyReference, DEFAULT_TAG};

use super::pull::refusal;
use crate::{Engine, Error, Result};

/// Hits that a search gives when nobody says how many.
const DEFAULT_LIMIT: i64 = 25;
/// More is refused.
const MAX_LIMIT: i64 = 100;

/// One hit of `GET /images/search`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // named as in the API
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

/// `GET /distribution/{name}/json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// What the name names.
    pub descriptor: RemoteDescriptor,
    /// What it runs on.
    pub platforms: Option<Vec<Platform>>,
}

/// A descriptor of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // named as in the API
pub struct RemoteDescriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
}

impl Engine {
    /// `docker login`: a refresh token, or an empty text where the registry has none.
    pub async fn registry_login(&self, credentials: &Credentials) -> Result<String> {
        let outcome = self.registry.login(credentials).await;
        outcome.map_err(|error| match error.status() {
            Some(401 | 403) if error.code().is_some() || error.to_string().starts_with("Get ") => {
                Error::new(Kind::Unauthorized, error.to_string())
            }
            _ => Error::internal(error.to_string()),
        })
    }

    /// `docker search`.
    pub async fn image_search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        credentials: &Credentials,
    ) -> Result<Vec<SearchResult>> {
        let wanted = SearchFilters::parse(filters)?;
        if wanted.nothing {
            return Ok(Vec::new());
        }
        if term.contains("://") {
            return Err(Error::invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let limit = match limit {
            None | Some(0) => DEFAULT_LIMIT,
            Some(limit) if (1..=MAX_LIMIT).contains(&limit) => limit,
            Some(limit) => {
                return Err(Error::invalid(format!(
                    "limit {limit} is outside the range of [1, {MAX_LIMIT}]"
                )));
            }
        };
        let limit = u32::try_from(limit).unwrap_or(25);
        let hits = self.registry.search(term, limit, credentials).await;
        let hits = hits.map_err(|error| Error::internal(error.to_string()))?;
        let results = hits.into_iter().map(|hit| SearchResult {
            star_count: hit.star_count,
            is_official: hit.is_official,
            name: hit.name,
            is_automated: false,
            description: hit.description,
        });
        Ok(results.filter(|result| wanted.matches(result)).collect())
    }

    /// What a name names in its registry.
    pub async fn distribution_inspect(
        &self,
        name: &str,
        credentials: &Credentials,
    ) -> Result<DistributionInspect> {
        let parsed =
            AnyReference::parse(name).map_err(|error| Error::invalid(error.to_string()))?;
        let AnyReference::Named(reference) = parsed else {
            return Err(Error::internal("no manifest found for full image ID"));
        };
        let reference = reference.or_latest();
        let refused = |error: RegistryError| refusal_of_inspect(&error, &reference);
        let repository = self.registry.pull(&reference, credentials).await;
        let what = match reference.digest() {
            Some(digest) => digest.as_str(),
            None => reference.tag().unwrap_or(DEFAULT_TAG),
        };
        let manifest = repository.manifest(what).await.map_err(refused)?;
        let platforms = match &manifest.document {
            Document::Index(index) => index
                .manifests
                .iter()
                .map(|entry| entry.platform.clone().unwrap_or_default())
                .collect(),
            Document::Image(image) => {
                let config = repository
                    .blob(&image.config.digest, MAX_CONFIG, "image config")
                    .await;
                config
                    .ok()
                    .and_then(|config| serde_json::from_slice(&config).ok())
                    .into_iter()
                    .collect::<Vec<Platform>>()
            }
        };
        Ok(DistributionInspect {
            descriptor: RemoteDescriptor {
                media_type: manifest.media_type,
                digest: manifest.digest.to_string(),
                size: manifest.bytes.len() as u64,
            },
            platforms: Some(platforms).filter(|platforms| !platforms.is_empty()),
        })
    }
}

fn refusal_of_inspect(
    error: &RegistryError,
    reference: &wharf_spec::reference::Reference,
) -> Error {
    match error.code() {
        Some("MANIFEST_UNKNOWN" | "NAME_UNKNOWN") => Error::not_found(error.to_string()),
        Some("DENIED") => Error::new(Kind::Forbidden, error.to_string()),
        _ => refusal(error, reference),
    }
}

/// `--filter` of `search`.
struct SearchFilters {
    official: Option<bool>,
    stars: i64,
    /// Automated builds are gone.
    nothing: bool,
}

impl SearchFilters {
    fn parse(filters: &Filters) -> Result<SearchFilters> {
        filters.validate(&["is-automated", "is-official", "stars"])?;
        let mut stars = 0;
        for text in filters.get("stars") {
            let number: i64 = text
                .parse()
                .map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
            stars = stars.max(number);
        }
        let official = filters.get_bool("is-official", false)?;
        let official = filters.contains("is-official").then_some(official);
        Ok(SearchFilters {
            official,
            stars,
            nothing: filters.get_bool("is-automated", false)?,
        })
    }

    fn matches(&self, result: &SearchResult) -> bool {
        self.official
            .is_none_or(|official| official == result.is_official)
            && result.star_count >= self.stars
    }
}
