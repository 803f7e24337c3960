//! Which repositories there are.

use std::collections::HashSet;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Content, ContentError};
use crate::name::RepoName;
use crate::storage::{StorageError, keys};

/// Repositories this process has seen: they are not asked for again before they are written to.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashSet<RepoName>>);

impl Content {
    /// All repositories, sorted.
    pub async fn repositories(&self) -> Result<Vec<RepoName>, StorageError> {
        let entries = self.storage().list(keys::CATALOG).await?;
        let mut names: Vec<RepoName> = entries
            .iter()
            .filter_map(|entry| keys::catalog_name(&entry.name))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Whether anything was ever pushed there.
    pub async fn has_repository(&self, repo: &RepoName) -> Result<bool, StorageError> {
        Ok(self.storage().stat(&keys::catalog(repo)).await?.is_some())
    }

    /// Fails unless there is such a repository.
    pub async fn require_repository(&self, repo: &RepoName) -> Result<(), ContentError> {
        match self.has_repository(repo).await? {
            true => Ok(()),
            false => Err(ContentError::NameUnknown),
        }
    }

    /// Makes a repository known. Comes before its first entry, so that nothing is ever in a repository that cannot be found.
    pub async fn ensure_repository(&self, repo: &RepoName) -> Result<(), StorageError> {
        if self.0.repositories.0.lock().contains(repo) && self.has_repository(repo).await? {
            return Ok(());
        }
        self.storage()
            .put(&keys::catalog(repo), Bytes::new())
            .await?;
        self.0.repositories.0.lock().insert(repo.clone());
        Ok(())
    }

    /// Removes a repository and everything in it; blobs go with the next collection.
    pub async fn remove_repository(&self, repo: &RepoName) -> Result<(), StorageError> {
        for prefix in [
            keys::tags(repo),
            keys::manifests(repo),
            format!("repos/{repo}/_referrers/"),
            keys::repo_blobs(repo),
        ] {
            for entry in self.storage().list(&prefix).await? {
                self.storage()
                    .delete(&format!("{prefix}{}", entry.name))
                    .await?;
            }
        }
        self.0.repositories.0.lock().remove(repo);
        self.0.usage.forget(repo);
        self.storage().delete(&keys::catalog(repo)).await?;
        self.0.changed.notify_one();
        Ok(())
    }
}
