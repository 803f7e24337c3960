//! Blobs in repositories.

use bytes::Bytes;
use wharf_spec::digest::Digest;

use super::{Content, ContentError};
use crate::name::RepoName;
use crate::storage::{Blob, StorageError, keys};

impl Content {
    /// A blob of a repository, ready to be read.
    pub async fn blob(&self, repo: &RepoName, digest: &Digest) -> Result<Blob, ContentError> {
        if !self.links_blob(repo, digest).await? {
            return Err(ContentError::BlobUnknown);
        }
        self.storage()
            .open_blob(digest)
            .await?
            .ok_or(ContentError::BlobUnknown)
    }

    /// The size of a blob of a repository, if it is there; it is promised to whoever asks.
    pub async fn promise_blob(
        &self,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<Option<u64>, StorageError> {
        self.promise(digest).await?;
        if !self.links_blob(repo, digest).await? {
            return Ok(None);
        }
        let stat = self.storage().stat(&keys::blob(digest)).await?;
        Ok(stat.map(|stat| stat.size))
    }

    /// Whether the repository has the blob (whose bytes may be gone all the same).
    pub async fn links_blob(&self, repo: &RepoName, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self
            .storage()
            .stat(&keys::repo_blob(repo, digest))
            .await?
            .is_some())
    }

    /// Puts a blob that is in the store into a repository. Its digest must have been promised before.
    pub async fn link_blob(
        &self,
        repo: &RepoName,
        digest: &Digest,
        size: u64,
    ) -> Result<(), ContentError> {
        if self.links_blob(repo, digest).await? {
            return Ok(());
        }
        self.check_quota(repo, size).await?;
        self.ensure_repository(repo).await?;
        let key = keys::repo_blob(repo, digest);
        self.storage()
            .put(&key, Bytes::from(size.to_string()))
            .await?;
        self.0.usage.add(repo, size);
        Ok(())
    }

    /// Puts a blob of another repository (or, without one, of any that `may_read` allows) into this one. False: it is not there.
    pub async fn mount(
        &self,
        repo: &RepoName,
        digest: &Digest,
        from: Option<&RepoName>,
        may_read: impl Fn(&RepoName) -> bool,
    ) -> Result<bool, ContentError> {
        self.promise(digest).await?;
        let Some(stat) = self.storage().stat(&keys::blob(digest)).await? else {
            return Ok(false);
        };
        let known = match from {
            Some(from) => may_read(from) && self.links_blob(from, digest).await?,
            None => self.is_readable_somewhere(digest, may_read).await?,
        };
        if known {
            self.link_blob(repo, digest, stat.size).await?;
        }
        Ok(known)
    }

    async fn is_readable_somewhere(
        &self,
        digest: &Digest,
        may_read: impl Fn(&RepoName) -> bool,
    ) -> Result<bool, StorageError> {
        for repo in self.repositories().await? {
            if may_read(&repo) && self.links_blob(&repo, digest).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a blob out of a repository; its bytes go with the next collection, if no other has it.
    pub async fn unlink_blob(&self, repo: &RepoName, digest: &Digest) -> Result<(), ContentError> {
        match self
            .storage()
            .delete(&keys::repo_blob(repo, digest))
            .await?
        {
            true => {
                self.0.usage.forget(repo);
                Ok(())
            }
            false => Err(ContentError::BlobUnknown),
        }
    }

    /// Keeps small content that is already here in memory, such as a manifest, as a blob.
    pub(crate) async fn put_blob_bytes(
        &self,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        self.promise(digest).await?;
        let key = keys::blob(digest);
        if self
            .storage()
            .stat(&key)
            .await?
            .is_some_and(|stat| stat.size == bytes.len() as u64)
        {
            return Ok(());
        }
        self.storage().put(&key, bytes).await
    }
}
