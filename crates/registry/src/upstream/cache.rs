//! The pull-through cache. What a digest names is fetched once and kept; a tag is believed for a while, then asked for again, and believed for
//! longer while the upstream does not answer.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use wharf_distribution::{RegistryError, Repository};
use wharf_spec::digest::Digest;

use super::Up;
use super::remote::blob_bytes;
use crate::content::manifests::Stored;
use crate::content::{Content, ContentError};
use crate::error::{ApiError, Code};
use crate::metrics::Metrics;
use crate::name::{RepoName, Tag, Target};
use crate::server::Server;
use crate::storage::{Blob, Stat, keys};

/// Pieces on their way to a client while a blob is fetched.
const AHEAD: usize = 8;

/// Blobs being fetched; later ones who want the same wait.
#[derive(Debug, Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Digest, watch::Receiver<bool>>>>);

/// A repository that comes from an upstream.
#[derive(Debug, Clone)]
pub struct Cached {
    up: Arc<Up>,
    /// Here.
    repo: RepoName,
    /// There.
    name: String,
}

/// A blob.
pub enum Found {
    /// It is here.
    Here(Blob),
    /// It is on its way: so many bytes.
    Coming(u64, Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Found::Here(blob) => blob.fmt(f),
            Found::Coming(size, _) => write!(f, "Coming({size})"),
        }
    }
}

impl Cached {
    pub(super) fn new(up: &Arc<Up>, repo: RepoName, name: &str) -> Option<Cached> {
        let there = Cached {
            up: up.clone(),
            repo,
            name: name.to_owned(),
        };
        (!name.is_empty()).then_some(there)
    }

    async fn remote(&self) -> Result<Repository, ApiError> {
        let repository = self.up.remote.repository(&self.name).await;
        repository
            .ok_or_else(|| ApiError::new(Code::NameInvalid, "the name is none for the upstream"))
    }

    /// A manifest.
    pub async fn manifest(&self, server: &Server, target: &Target) -> Result<Stored, ApiError> {
        match target {
            Target::Digest(_) => match server.content.manifest(&self.repo, target).await {
                Ok(stored) => {
                    Metrics::count(&server.metrics.upstream, "hit", 1);
                    Ok(stored)
                }
                Err(ContentError::ManifestUnknown) => self.fetch(server, target, &[]).await,
                Err(error) => Err(error.into()),
            },
            Target::Tag(tag) => self.tagged(server, tag, target).await,
        }
    }

    async fn tagged(
        &self,
        server: &Server,
        tag: &Tag,
        target: &Target,
    ) -> Result<Stored, ApiError> {
        let content = &server.content;
        let entry = content.storage().stat(&keys::tag(&self.repo, tag)).await?;
        let here = match entry {
            Some(_) => content.manifest(&self.repo, target).await.ok(),
            None => None,
        };
        if let (Some(stored), Some(true)) =
            (&here, entry.as_ref().map(|entry| self.is_fresh(entry)))
        {
            Metrics::count(&server.metrics.upstream, "hit", 1);
            return Ok(stored.clone());
        }
        match self.ask(server, tag, target, here.as_ref()).await {
            Ok(stored) => Ok(stored),
            Err(error) if gone(&error) => {
                if here.is_some() {
                    // It went there, so it goes here.
                    let _ = content.remove_tag(&self.repo, tag).await;
                }
                Err(translate(error))
            }
            Err(error) => match here.filter(|_| self.up.config.stale) {
                Some(stored) => {
                    Metrics::count(&server.metrics.upstream, "stale", 1);
                    tracing::warn!(repository = %self.repo, %tag, %error, "the upstream does not answer; what it said last is given");
                    Ok(stored)
                }
                None => Err(translate(error)),
            },
        }
    }

    fn is_fresh(&self, entry: &Stat) -> bool {
        entry.age() < self.up.config.ttl
    }

    /// Asks what a tag names now, and fetches that if it is something new.
    async fn ask(
        &self,
        server: &Server,
        tag: &Tag,
        target: &Target,
        here: Option<&Stored>,
    ) -> Result<Stored, RegistryError> {
        let invalid = |error: ApiError| RegistryError::Invalid(error.message);
        if let Some(stored) = here {
            let head = self
                .remote()
                .await
                .map_err(invalid)?
                .manifest_head(tag.as_str())
                .await?;
            if head
                .as_ref()
                .is_some_and(|head| head.digest == stored.digest)
            {
                Metrics::count(&server.metrics.upstream, "revalidated", 1);
                let renewed = server
                    .content
                    .set_tag(&self.repo, tag, &stored.digest)
                    .await;
                renewed.map_err(|error| invalid(error.into()))?;
                return Ok(stored.clone());
            }
        }
        self.fetch_remote(server, target, std::slice::from_ref(tag))
            .await
    }

    async fn fetch(
        &self,
        server: &Server,
        target: &Target,
        tags: &[Tag],
    ) -> Result<Stored, ApiError> {
        self.fetch_remote(server, target, tags)
            .await
            .map_err(translate)
    }

    async fn fetch_remote(
        &self,
        server: &Server,
        target: &Target,
        tags: &[Tag],
    ) -> Result<Stored, RegistryError> {
        let invalid = |error: ApiError| RegistryError::Invalid(error.message);
        Metrics::count(&server.metrics.upstream, "miss", 1);
        let manifest = self
            .remote()
            .await
            .map_err(invalid)?
            .manifest(&target.to_string())
            .await?;
        let digest = match target {
            Target::Digest(digest) => digest.clone(),
            Target::Tag(_) => manifest.digest.clone(),
        };
        let kept = server
            .content
            .keep_manifest(
                &self.repo,
                digest.clone(),
                &manifest.media_type,
                manifest.bytes.clone(),
                tags,
            )
            .await;
        if let Err(error) = kept {
            return Err(RegistryError::Invalid(error.to_string()));
        }
        Ok(Stored {
            digest,
            media_type: manifest.media_type,
            bytes: manifest.bytes,
        })
    }

    /// The tags there; those here while the upstream does not answer.
    pub async fn tags(&self, server: &Server) -> Result<Vec<String>, ApiError> {
        match self.remote().await?.tags().await {
            Ok(mut tags) => {
                tags.sort();
                Ok(tags)
            }
            Err(error) if gone(&error) => Err(translate(error)),
            Err(error) => match server.content.tags(&self.repo).await {
                Ok(tags) if self.up.config.stale => Ok(tags),
                _ => Err(translate(error)),
            },
        }
    }

    /// Who refers to a manifest there; who does of what is here while the upstream does not answer.
    pub async fn referrers(
        &self,
        server: &Server,
        subject: &Digest,
    ) -> Result<Vec<Value>, ApiError> {
        match self.remote().await?.referrers(subject).await {
            Ok(there) => Ok(there),
            Err(_) if self.up.config.stale => {
                Ok(server.content.referrers(&self.repo, subject).await?)
            }
            Err(error) => Err(translate(error)),
        }
    }

    /// The size of a blob.
    pub async fn blob_size(
        &self,
        server: &Server,
        digest: &Digest,
    ) -> Result<Option<u64>, ApiError> {
        if let Ok(blob) = server.content.blob(&self.repo, digest).await {
            return Ok(Some(blob.size));
        }
        self.remote()
            .await?
            .blob_head(digest)
            .await
            .map_err(translate)
    }

    /// A blob, from here or, on its way to here, from there.
    pub async fn blob(&self, server: &Server, digest: &Digest) -> Result<Found, ApiError> {
        loop {
            if let Ok(blob) = server.content.blob(&self.repo, digest).await {
                Metrics::count(&server.metrics.upstream, "hit", 1);
                return Ok(Found::Here(blob));
            }
            let flying = self.up.flights.0.lock().get(digest).cloned();
            match flying {
                // Whoever came first fetches; it may fail, and then the next one tries.
                Some(mut landed) => {
                    let _ = landed.wait_for(|landed| *landed).await;
                }
                None => break,
            }
        }
        Metrics::count(&server.metrics.upstream, "miss", 1);
        let remote = self.remote().await?;
        let size = remote.blob_head(digest).await.map_err(translate)?;
        let size =
            size.ok_or_else(|| ApiError::new(Code::BlobUnknown, "blob unknown to registry"))?;
        let (to_client, from_task) = mpsc::channel(AHEAD);
        self.start(
            server.content.clone(),
            remote,
            digest.clone(),
            size,
            to_client,
        );
        let stream = futures_util::stream::unfold(from_task, |mut from_task| async move {
            let piece = from_task.recv().await?;
            Some((piece, from_task))
        });
        Ok(Found::Coming(size, Box::pin(stream)))
    }

    /// Fetches a blob in a task of its own: it is kept although the client may go.
    fn start(
        &self,
        content: Content,
        remote: Repository,
        digest: Digest,
        size: u64,
        to_client: mpsc::Sender<io::Result<Bytes>>,
    ) {
        let (landed, landing) = watch::channel(false);
        self.up.flights.0.lock().insert(digest.clone(), landing);
        let (flights, repo) = (self.up.flights.clone(), self.repo.clone());
        tokio::spawn(async move {
            let bytes = blob_bytes(&remote, &digest, size);
            let both = Box::pin(bytes).then(move |piece| {
                let to_client = to_client.clone();
                async move {
                    let copy = match &piece {
                        Ok(bytes) => Ok(bytes.clone()),
                        Err(error) => Err(io::Error::other(error.to_string())),
                    };
                    // A client that is gone wants nothing.
                    let _ = to_client.send(copy).await;
                    piece
                }
            });
            let kept = async {
                let id = content.begin_upload(&repo).await?;
                content
                    .finish_upload(&repo, &id, None, &digest, Box::pin(both))
                    .await
            };
            if let Err(error) = kept.await {
                tracing::warn!(%repo, %digest, error = &error as &dyn std::error::Error, "a blob of an upstream was not kept");
            }
            flights.0.lock().remove(&digest);
            let _ = landed.send(true);
        });
    }
}

/// Whether the upstream says that there is no such thing.
fn gone(error: &RegistryError) -> bool {
    error.status() == Some(404)
}

fn translate(error: RegistryError) -> ApiError {
    let text = error.to_string();
    match error.status() {
        Some(404) => ApiError::new(Code::ManifestUnknown, "manifest unknown"),
        Some(401 | 403) => ApiError::new(Code::Denied, format!("the upstream refuses: {text}")),
        Some(429) => ApiError::new(
            Code::TooManyRequests,
            format!("the upstream refuses: {text}"),
        ),
        _ => ApiError::new(
            Code::Unavailable,
            format!("the upstream does not answer: {text}"),
        )
        .with_status(http::StatusCode::BAD_GATEWAY),
    }
}
