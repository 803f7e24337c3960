//! Tags: names for manifests.

use bytes::Bytes;
use futures_util::StreamExt;
use wharf_spec::digest::Digest;

use super::{Content, ContentError};
use crate::name::{RepoName, Tag};
use crate::storage::{Entry, StorageError, keys};

/// Calls to the store at once.
pub(super) const AT_ONCE: usize = 16;

/// A tag, what it names, and when that was said.
#[derive(Debug, Clone)]
pub struct Tagged {
    /// Tag.
    pub tag: Tag,
    /// Which manifest.
    pub digest: Digest,
    /// When it was last pushed.
    pub pushed: std::time::SystemTime,
}

impl Content {
    /// Which manifest a tag names.
    pub async fn tag(&self, repo: &RepoName, tag: &Tag) -> Result<Option<Digest>, StorageError> {
        let key = keys::tag(repo, tag);
        let Some(bytes) = self.storage().get(&key).await? else {
            return Ok(None);
        };
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| Digest::parse(text).ok())
            .map(Some)
            .ok_or_else(|| StorageError::Damaged {
                key,
                reason: "it holds no digest".to_owned(),
            })
    }

    /// Lets a tag name a manifest, which is here.
    pub async fn set_tag(
        &self,
        repo: &RepoName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), StorageError> {
        let bytes = Bytes::copy_from_slice(digest.as_str().as_bytes());
        self.storage().put(&keys::tag(repo, tag), bytes).await?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Removes a tag.
    pub async fn remove_tag(&self, repo: &RepoName, tag: &Tag) -> Result<(), ContentError> {
        let key = keys::tag(repo, tag);
        // An object store does not tell whether there was one.
        if self.storage().stat(&key).await?.is_none() {
            return Err(ContentError::ManifestUnknown);
        }
        self.storage().delete(&key).await?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// The names of a repository's tags, sorted.
    pub async fn tags(&self, repo: &RepoName) -> Result<Vec<String>, ContentError> {
        let entries = self.storage().list(&keys::tags(repo)).await?;
        if entries.is_empty() {
            self.require_repository(repo).await?;
        }
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// A repository's tags with what they name, sorted by name.
    pub async fn tagged(&self, repo: &RepoName) -> Result<Vec<Tagged>, StorageError> {
        let entries = self.storage().list(&keys::tags(repo)).await?;
        let read = |entry: Entry| async move {
            let Some(tag) = Tag::parse(&entry.name) else {
                return Ok(None);
            };
            let digest = self.tag(repo, &tag).await?;
            Ok(digest.map(|digest| Tagged {
                tag,
                digest,
                pushed: entry.stat.modified,
            }))
        };
        let mut found = futures_util::stream::iter(entries)
            .map(read)
            .buffered(AT_ONCE);
        let mut tagged = Vec::new();
        while let Some(one) = found.next().await {
            tagged.extend(one?);
        }
        Ok(tagged)
    }
}
