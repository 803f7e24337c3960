//! Manifests in repositories.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use wharf_spec::digest::Digest;

use super::tags::AT_ONCE;
use super::{Content, ContentError};
use crate::manifest::Manifest;
use crate::name::{RepoName, Tag, Target};
use crate::storage::{StorageError, keys};

/// Manifests in memory, together.
const CACHED: usize = 8 << 20;

/// Larger ones are read each time.
const CACHED_EACH: usize = 256 << 10;

/// Contents of manifests. A digest's content never changes, so nothing here is ever out of date; whether a repository has it is asked of the
/// store each time.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    contents: HashMap<Digest, Bytes>,
    size: usize,
}

impl Cache {
    fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.0.lock().contents.get(digest).cloned()
    }

    fn keep(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() > CACHED_EACH {
            return;
        }
        let mut cached = self.0.lock();
        if cached.size + bytes.len() > CACHED {
            *cached = Cached::default();
        }
        if cached
            .contents
            .insert(digest.clone(), bytes.clone())
            .is_none()
        {
            cached.size += bytes.len();
        }
    }
}

/// A manifest that is here.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Digest.
    pub digest: Digest,
    /// As pushed.
    pub media_type: String,
    /// As pushed.
    pub bytes: Bytes,
}

/// What came of a push.
#[derive(Debug)]
pub struct Pushed {
    /// Digest.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// What it says.
    pub manifest: Manifest,
}

impl Content {
    /// A manifest by tag or digest.
    pub async fn manifest(&self, repo: &RepoName, target: &Target) -> Result<Stored, ContentError> {
        let digest = match target {
            Target::Digest(digest) => digest.clone(),
            Target::Tag(tag) => self
                .tag(repo, tag)
                .await?
                .ok_or(ContentError::ManifestUnknown)?,
        };
        let media_type = self
            .manifest_type(repo, &digest)
            .await?
            .ok_or(ContentError::ManifestUnknown)?;
        let bytes = self
            .manifest_bytes(&digest)
            .await?
            .ok_or(ContentError::ManifestUnknown)?;
        Ok(Stored {
            digest,
            media_type,
            bytes,
        })
    }

    /// The media type under which a repository has a manifest.
    pub async fn manifest_type(
        &self,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<Option<String>, StorageError> {
        let entry = self.storage().get(&keys::manifest(repo, digest)).await?;
        Ok(entry.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Whether a repository has a manifest.
    pub async fn links_manifest(
        &self,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<bool, StorageError> {
        Ok(self
            .storage()
            .stat(&keys::manifest(repo, digest))
            .await?
            .is_some())
    }

    async fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
        if let Some(bytes) = self.0.manifests.get(digest) {
            return Ok(Some(bytes));
        }
        let key = keys::blob(digest);
        let Some(bytes) = self.storage().get(&key).await? else {
            return Ok(None);
        };
        if !digest.verify(&bytes) {
            return Err(StorageError::Damaged {
                key,
                reason: "its bytes have another digest".to_owned(),
            });
        }
        self.0.manifests.keep(digest, &bytes);
        Ok(Some(bytes))
    }

    /// Takes a manifest and lets tags name it. Everything it names must be here, unless the registry is configured not to mind.
    pub async fn put_manifest(
        &self,
        repo: &RepoName,
        digest: Digest,
        content_type: &str,
        bytes: Bytes,
        tags: &[Tag],
    ) -> Result<Pushed, ContentError> {
        if !digest.verify(&bytes) {
            return Err(ContentError::DigestMismatch);
        }
        let manifest = Manifest::parse(&bytes, content_type)?;
        self.require_references(repo, &manifest).await?;
        self.keep(repo, digest, manifest, bytes, tags).await
    }

    /// Keeps a manifest of another registry, whose content comes when it is asked for.
    pub async fn keep_manifest(
        &self,
        repo: &RepoName,
        digest: Digest,
        content_type: &str,
        bytes: Bytes,
        tags: &[Tag],
    ) -> Result<Pushed, ContentError> {
        let manifest = Manifest::parse(&bytes, content_type)?;
        self.keep(repo, digest, manifest, bytes, tags).await
    }

    async fn keep(
        &self,
        repo: &RepoName,
        digest: Digest,
        manifest: Manifest,
        bytes: Bytes,
        tags: &[Tag],
    ) -> Result<Pushed, ContentError> {
        self.put_blob_bytes(&digest, bytes.clone()).await?;
        self.ensure_repository(repo).await?;
        let subject = manifest
            .subject
            .as_ref()
            .map(|subject| subject.digest.clone());
        if let Some(subject) = &subject {
            let descriptor = manifest
                .as_referrer(&digest, bytes.len() as u64)
                .to_string();
            let key = keys::referrer(repo, subject, &digest);
            self.storage().put(&key, descriptor.into()).await?;
        }
        let entry = Bytes::from(manifest.media_type.clone());
        self.storage()
            .put(&keys::manifest(repo, &digest), entry)
            .await?;
        self.0.manifests.keep(&digest, &bytes);
        for tag in tags {
            self.set_tag(repo, tag, &digest).await?;
        }
        Ok(Pushed {
            digest,
            subject,
            manifest,
        })
    }

    /// Promises everything that a manifest names, and fails if something is missing.
    async fn require_references(
        &self,
        repo: &RepoName,
        manifest: &Manifest,
    ) -> Result<(), ContentError> {
        let blobs = manifest.blobs().map(|blob| (blob.digest.clone(), false));
        let children = manifest
            .manifests
            .iter()
            .map(|child| (child.digest.clone(), true));
        let wanted: Vec<(Digest, bool)> = blobs.chain(children).collect();
        let look = |(digest, is_manifest): (Digest, bool)| async move {
            let found = if is_manifest {
                self.promise(&digest).await?;
                self.links_manifest(repo, &digest).await?
            } else {
                self.promise_blob(repo, &digest).await?.is_some()
            };
            Ok::<_, StorageError>((digest, found))
        };
        let mut looked = futures_util::stream::iter(wanted)
            .map(look)
            .buffered(AT_ONCE);
        let mut missing = Vec::new();
        while let Some(one) = looked.next().await {
            let (digest, found) = one?;
            if !found {
                missing.push(digest);
            }
        }
        if missing.is_empty() || self.settings().sparse {
            return Ok(());
        }
        Err(ContentError::References(missing))
    }

    /// Removes a manifest, the tags that name it, and what it says of its subject.
    pub async fn remove_manifest(
        &self,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<(), ContentError> {
        let Some(media_type) = self.manifest_type(repo, digest).await? else {
            self.require_repository(repo).await?;
            return Err(ContentError::ManifestUnknown);
        };
        for tagged in self.tagged(repo).await? {
            if tagged.digest == *digest {
                self.storage().delete(&keys::tag(repo, &tagged.tag)).await?;
            }
        }
        let subject = match self.manifest_bytes(digest).await {
            Ok(Some(bytes)) => Manifest::parse(&bytes, &media_type)
                .ok()
                .and_then(|manifest| manifest.subject),
            // Damaged or gone: what it said cannot be known, and lists of referrers leave it out from now on.
            _ => None,
        };
        self.storage().delete(&keys::manifest(repo, digest)).await?;
        if let Some(subject) = subject {
            self.storage()
                .delete(&keys::referrer(repo, &subject.digest, digest))
                .await?;
        }
        self.0.changed.notify_one();
        Ok(())
    }

    /// All manifests of a repository, with when each was pushed.
    pub async fn manifests(
        &self,
        repo: &RepoName,
    ) -> Result<Vec<(Digest, std::time::SystemTime)>, StorageError> {
        let entries = self.storage().list(&keys::manifests(repo)).await?;
        Ok(entries
            .into_iter()
            .filter_map(|entry| Some((keys::parse_slashed(&entry.name)?, entry.stat.modified)))
            .collect())
    }
}
