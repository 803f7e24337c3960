//! How much a repository holds: each different blob and manifest once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;

use super::tags::AT_ONCE;
use super::{Content, ContentError};
use crate::name::{self, RepoName};
use crate::storage::{Entry, StorageError, keys};

/// After this it is counted again: other replicas push too.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// What was counted.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<RepoName, (u64, Instant)>>);

impl Known {
    pub(super) fn add(&self, repo: &RepoName, bytes: u64) {
        if let Some((used, _)) = self.0.lock().get_mut(repo) {
            *used += bytes;
        }
    }

    /// It has to be counted anew.
    pub fn forget(&self, repo: &RepoName) {
        self.0.lock().remove(repo);
    }
}

impl Content {
    /// Bytes of all different blobs of a repository.
    pub async fn usage(&self, repo: &RepoName) -> Result<u64, StorageError> {
        if let Some((used, counted)) = self.0.usage.0.lock().get(repo)
            && counted.elapsed() < GOOD_FOR
        {
            return Ok(*used);
        }
        let used = self.count(repo).await?;
        self.0
            .usage
            .0
            .lock()
            .insert(repo.clone(), (used, Instant::now()));
        Ok(used)
    }

    async fn count(&self, repo: &RepoName) -> Result<u64, StorageError> {
        let prefix = keys::repo_blobs(repo);
        let entries = self.storage().list(&prefix).await?;
        let size = |entry: Entry| {
            let key = format!("{prefix}{}", entry.name);
            async move {
                let bytes = self.storage().get(&key).await?.unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                Ok::<u64, StorageError>(text.parse().unwrap_or(0))
            }
        };
        let mut sizes = futures_util::stream::iter(entries)
            .map(size)
            .buffer_unordered(AT_ONCE);
        let mut used = 0;
        while let Some(size) = sizes.next().await {
            used += size?;
        }
        Ok(used)
    }

    /// Fails if so much more would be too much.
    pub async fn check_quota(&self, repo: &RepoName, more: u64) -> Result<(), ContentError> {
        let fits = |quota: &&crate::config::Quota| {
            quota
                .repositories
                .iter()
                .any(|pattern| name::matches(pattern, repo.as_str()))
        };
        let Some(quota) = self
            .settings()
            .quotas
            .iter()
            .find(fits)
            .map(|quota| quota.size)
        else {
            return Ok(());
        };
        let used = self.usage(repo).await?;
        if used.saturating_add(more) > quota {
            return Err(ContentError::Quota { quota, used, more });
        }
        Ok(())
    }
}
