//! Mirror jobs: repositories here that are kept equal to others, on a schedule.

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use wharf_distribution::manifest::Document;
use wharf_distribution::{RegistryError, Repository};
use wharf_spec::digest::Digest;

use super::UpstreamError;
use super::remote::{Login, Remote, blob_bytes};
use crate::config::MirrorJob;
use crate::content::{Content, ContentError};
use crate::name::{self, RepoName, Tag};

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The job makes no sense.
    #[error(transparent)]
    Config(#[from] UpstreamError),
    /// There.
    #[error("{0}")]
    Remote(#[from] RegistryError),
    /// Here.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The repository's name is none.
    #[error("{0:?} is no repository name")]
    Name(String),
}

impl From<crate::storage::StorageError> for MirrorError {
    fn from(error: crate::storage::StorageError) -> MirrorError {
        MirrorError::Content(error.into())
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Tags that are new or name something new.
    pub tags: u64,
    /// Blobs that were fetched.
    pub blobs: u64,
    /// Tags that went.
    pub removed: u64,
}

/// A job and the way there.
#[derive(Debug)]
pub struct Mirror {
    job: MirrorJob,
    remote: Remote,
    repo: RepoName,
}

impl Mirror {
    /// From the configuration.
    ///
    /// # Errors
    /// A URL, a name or a file makes no sense.
    pub fn open(job: &MirrorJob, root: &Path) -> Result<Mirror, MirrorError> {
        let login = Login {
            username: job.username.as_deref(),
            password: job.password.as_deref(),
            password_file: job.password_file.as_deref(),
            ca: job.ca.as_deref(),
        };
        Ok(Mirror {
            remote: Remote::open(&job.from, &login, root)?,
            repo: RepoName::parse(&job.to).ok_or_else(|| MirrorError::Name(job.to.clone()))?,
            job: job.clone(),
        })
    }

    /// Runs the job for ever.
    pub async fn run(self, content: Content) {
        loop {
            match self.once(&content).await {
                Ok(report) => {
                    tracing::info!(from = self.job.from, to = self.job.to, ?report, "mirrored")
                }
                Err(error) => {
                    tracing::warn!(
                        from = self.job.from,
                        to = self.job.to,
                        error = &error as &dyn std::error::Error,
                        "mirroring failed"
                    );
                }
            }
            tokio::time::sleep(self.job.every.max(std::time::Duration::from_secs(1))).await;
        }
    }

    /// Makes the repository here equal to the one there.
    ///
    /// # Errors
    /// Either side failed; what was done stays.
    pub async fn once(&self, content: &Content) -> Result<Report, MirrorError> {
        let there = self
            .remote
            .repository("")
            .await
            .ok_or_else(|| MirrorError::Name(self.job.from.clone()))?;
        let mut report = Report::default();
        let names = there.tags().await?;
        let wanted: Vec<Tag> = names
            .iter()
            .filter(|name| self.covers(name))
            .filter_map(|name| Tag::parse(name))
            .collect();
        for tag in &wanted {
            self.tag(content, &there, tag, &mut report).await?;
        }
        if self.job.delete {
            self.remove_others(content, &wanted, &mut report).await?;
        }
        Ok(report)
    }

    fn covers(&self, tag: &str) -> bool {
        self.job
            .tags
            .iter()
            .any(|pattern| name::matches(pattern, tag))
    }

    async fn tag(
        &self,
        content: &Content,
        there: &Repository,
        tag: &Tag,
        report: &mut Report,
    ) -> Result<(), MirrorError> {
        let Some(head) = there.manifest_head(tag.as_str()).await? else {
            return Ok(());
        };
        if content.tag(&self.repo, tag).await?.as_ref() == Some(&head.digest)
            && content.links_manifest(&self.repo, &head.digest).await?
        {
            return Ok(());
        }
        self.copy(content, there, &head.digest, report).await?;
        content.set_tag(&self.repo, tag, &head.digest).await?;
        report.tags += 1;
        Ok(())
    }

    /// Fetches a manifest and everything below it, the lowest first.
    async fn copy(
        &self,
        content: &Content,
        there: &Repository,
        top: &Digest,
        report: &mut Report,
    ) -> Result<(), MirrorError> {
        let (mut found, mut queue, mut seen) =
            (Vec::new(), VecDeque::from([top.clone()]), HashSet::new());
        while let Some(digest) = queue.pop_front() {
            if !seen.insert(digest.clone()) || content.links_manifest(&self.repo, &digest).await? {
                continue;
            }
            let manifest = there.manifest(digest.as_str()).await?;
            if let Document::Index(index) = &manifest.document {
                queue.extend(index.manifests.iter().map(|child| child.digest.clone()));
            }
            found.push((digest, manifest));
        }
        for (digest, manifest) in found.into_iter().rev() {
            if let Ok(parsed) =
                crate::manifest::Manifest::parse(&manifest.bytes, &manifest.media_type)
            {
                for blob in parsed.blobs() {
                    self.blob(content, there, &blob.digest, blob.size, report)
                        .await?;
                }
            }
            content
                .put_manifest(
                    &self.repo,
                    digest,
                    &manifest.media_type,
                    manifest.bytes,
                    &[],
                )
                .await?;
        }
        Ok(())
    }

    async fn blob(
        &self,
        content: &Content,
        there: &Repository,
        digest: &Digest,
        size: u64,
        report: &mut Report,
    ) -> Result<(), MirrorError> {
        // Another repository here may have it.
        if content.promise_blob(&self.repo, digest).await?.is_some()
            || content.mount(&self.repo, digest, None, |_| true).await?
        {
            return Ok(());
        }
        let id = content.begin_upload(&self.repo).await?;
        let bytes = Box::pin(blob_bytes(there, digest, size));
        content
            .finish_upload(&self.repo, &id, None, digest, bytes)
            .await?;
        report.blobs += 1;
        Ok(())
    }

    async fn remove_others(
        &self,
        content: &Content,
        wanted: &[Tag],
        report: &mut Report,
    ) -> Result<(), MirrorError> {
        let here = match content.tags(&self.repo).await {
            Err(ContentError::NameUnknown) => return Ok(()),
            here => here?,
        };
        for name in here.iter().filter(|name| self.covers(name)) {
            let Some(tag) = Tag::parse(name).filter(|tag| !wanted.contains(tag)) else {
                continue;
            };
            content.remove_tag(&self.repo, &tag).await?;
            report.removed += 1;
        }
        Ok(())
    }
}
