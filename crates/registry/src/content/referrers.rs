//! Who refers to a manifest by `subject`.

use futures_util::StreamExt;
use serde_json::Value;
use wharf_spec::digest::Digest;

use super::Content;
use super::tags::AT_ONCE;
use crate::name::RepoName;
use crate::storage::{Entry, StorageError, keys};

impl Content {
    /// Descriptors of the manifests that refer to this one, by digest.
    pub async fn referrers(
        &self,
        repo: &RepoName,
        subject: &Digest,
    ) -> Result<Vec<Value>, StorageError> {
        let prefix = keys::referrers(repo, subject);
        let entries = self.storage().list(&prefix).await?;
        let read = |entry: Entry| {
            let key = format!("{prefix}{}", entry.name);
            async move {
                let Some(digest) = keys::parse_dashed(&entry.name) else {
                    return Ok(None);
                };
                // The entry comes before the manifest and goes after it.
                if !self.links_manifest(repo, &digest).await? {
                    return Ok(None);
                }
                let bytes = self.storage().get(&key).await?;
                Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
            }
        };
        let mut found = futures_util::stream::iter(entries)
            .map(read)
            .buffered(AT_ONCE);
        let mut descriptors = Vec::new();
        while let Some(one) = found.next().await {
            descriptors.extend(one?);
        }
        Ok(descriptors)
    }
}
