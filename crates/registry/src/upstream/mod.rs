//! Other registries: those whose content is fetched when it is asked for, and those that repositories here are kept equal to.

pub mod cache;
pub mod client;
pub mod mirror;
mod remote;

use std::sync::Arc;

use crate::config::{Config, Upstream};
use crate::error::{ApiError, Code};
use crate::name::RepoName;
use cache::{Cached, Flights};
use remote::Remote;

/// All upstreams, the longest prefix first.
#[derive(Debug, Default)]
pub struct Upstreams(Vec<Arc<Up>>);

/// One upstream.
#[derive(Debug)]
pub struct Up {
    config: Upstream,
    remote: Remote,
    flights: Flights,
}

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The URL makes no sense.
    #[error("{0:?} is no URL of a registry")]
    Url(String),
    /// A file that is named.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

impl Upstreams {
    /// As configured.
    ///
    /// # Errors
    /// A URL or a file that makes no sense.
    pub fn open(config: &Config) -> Result<Upstreams, UpstreamError> {
        let mut all = config
            .upstreams
            .iter()
            .map(|upstream| {
                let login = remote::Login {
                    username: upstream.username.as_deref(),
                    password: upstream.password.as_deref(),
                    password_file: upstream.password_file.as_deref(),
                    ca: upstream.ca.as_deref(),
                };
                Ok(Arc::new(Up {
                    remote: Remote::open(&upstream.url, &login, &config.root)?,
                    config: upstream.clone(),
                    flights: Flights::default(),
                }))
            })
            .collect::<Result<Vec<_>, UpstreamError>>()?;
        all.sort_by_key(|up| std::cmp::Reverse(up.config.prefix.len()));
        Ok(Upstreams(all))
    }

    /// The upstream that a repository comes from, if it does. `namespace` is what containerd says a mirror should stand for.
    pub fn of(&self, repo: &RepoName, namespace: Option<&str>) -> Option<Cached> {
        if let Some(up) = namespace.and_then(|namespace| {
            self.0
                .iter()
                .find(|up| up.config.namespace.as_deref() == Some(namespace))
        }) {
            let name = match up.config.prefix.as_str() {
                "" => repo.clone(),
                prefix => RepoName::parse(&format!("{prefix}/{repo}"))?,
            };
            // Said twice: the prefix and the namespace.
            return self
                .below_prefix(repo)
                .or_else(|| Cached::new(up, name, repo.as_str()));
        }
        self.below_prefix(repo)
    }

    fn below_prefix(&self, repo: &RepoName) -> Option<Cached> {
        self.0.iter().find_map(|up| {
            let rest = match up.config.prefix.as_str() {
                "" => repo.as_str(),
                prefix => repo.as_str().strip_prefix(prefix)?.strip_prefix('/')?,
            };
            Cached::new(up, repo.clone(), rest)
        })
    }

    /// Nobody pushes into what is fetched from elsewhere. An upstream without a prefix only mirrors what nobody pushed here.
    ///
    /// # Errors
    /// The repository is fetched from elsewhere.
    pub fn refuse_push(&self, repo: &RepoName) -> Result<(), ApiError> {
        if self.0.is_empty() || self.of(repo, None).is_none() {
            return Ok(());
        }
        Err(ApiError::new(
            Code::Unsupported,
            "this repository is a cache of another registry; push there",
        ))
    }
}
