//! Blobs on their way here. An upload is in the store from its beginning: any replica can go on with it. What one process remembers beside
//! is the running hash, which saves reading everything again at the end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use wharf_spec::digest::{Algorithm, Digest, Hasher};

use super::{Content, ContentError};
use crate::name::RepoName;
use crate::storage::local::blocking;
use crate::storage::{Cloud, Local, Storage, StorageError, keys};

/// Bytes as they come from a client or from another registry.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What is hashed and written at once, while the next so many bytes come.
const BATCH: usize = 512 << 10;

/// After so many bytes the disk begins to write what came, so that little is left to wait for at the end.
const SYNC_EVERY: u64 = 32 << 20;

/// How many running hashes are remembered.
const REMEMBERED: usize = 10_000;

/// Uploads that this process has the hash of.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug, Clone)]
struct Session {
    offset: u64,
    hasher: Hasher,
}

impl Sessions {
    /// Takes a session out; nobody else has it meanwhile.
    fn take(&self, id: &str, offset: u64) -> Option<Hasher> {
        if offset == 0 {
            self.0.lock().remove(id);
            return Some(Algorithm::Sha256.hasher());
        }
        let session = self.0.lock().remove(id)?;
        (session.offset == offset).then_some(session.hasher)
    }

    fn keep(&self, id: &str, offset: u64, hasher: Option<Hasher>) {
        let Some(hasher) = hasher else { return };
        let mut sessions = self.0.lock();
        if sessions.len() >= REMEMBERED {
            sessions.clear();
        }
        sessions.insert(id.to_owned(), Session { offset, hasher });
    }
}

impl Content {
    /// Begins an upload.
    pub async fn begin_upload(&self, repo: &RepoName) -> Result<String, StorageError> {
        let id = crate::random::id();
        let key = format!("{}repo", keys::upload(&id));
        let name = Bytes::copy_from_slice(repo.as_str().as_bytes());
        self.storage().put(&key, name).await?;
        Ok(id)
    }

    /// How much of an upload is here.
    pub async fn upload_offset(&self, repo: &RepoName, id: &str) -> Result<u64, ContentError> {
        let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_id {
            return Err(ContentError::UploadUnknown);
        }
        let of = self
            .storage()
            .get(&format!("{}repo", keys::upload(id)))
            .await?;
        if of.as_deref() != Some(repo.as_str().as_bytes()) {
            return Err(ContentError::UploadUnknown);
        }
        match self.storage() {
            Storage::Local(local) => Ok(local.upload_len(id)?),
            Storage::Cloud(cloud) => Ok(parts(cloud, id).await?.iter().map(|part| part.size).sum()),
        }
    }

    /// Adds bytes; `start` is where the client thinks the upload is. Answers where it is then, also when it was cut off: what came is kept.
    pub async fn append_upload(
        &self,
        repo: &RepoName,
        id: &str,
        start: Option<u64>,
        body: Incoming,
    ) -> Result<u64, ContentError> {
        let offset = self.upload_offset(repo, id).await?;
        check_start(start, offset)?;
        let limit = self.limit(offset)?;
        match self.storage() {
            Storage::Local(local) => self.append_local(local, id, start, body, limit).await,
            Storage::Cloud(cloud) => self.append_cloud(cloud, id, offset, body, limit).await,
        }
    }

    /// Bytes that may still come.
    fn limit(&self, offset: u64) -> Result<u64, ContentError> {
        match self.settings().max_blob {
            0 => Ok(u64::MAX),
            max if offset > max => Err(ContentError::TooLarge(max)),
            max => Ok(max - offset),
        }
    }

    async fn append_local(
        &self,
        local: &Local,
        id: &str,
        start: Option<u64>,
        body: Incoming,
        limit: u64,
    ) -> Result<u64, ContentError> {
        let (file, offset) = local.append(id).await?.ok_or(ContentError::UploadBusy)?;
        // Somebody may have gone on with it since we looked.
        check_start(start, offset)?;
        let hasher = self.0.uploads.take(id, offset);
        let (written, hasher, result) = write_through(file, hasher, body, limit).await;
        self.0.uploads.keep(id, offset + written, hasher);
        result.map(|()| offset + written)
    }

    async fn append_cloud(
        &self,
        cloud: &Cloud,
        id: &str,
        offset: u64,
        mut body: Incoming,
        limit: u64,
    ) -> Result<u64, ContentError> {
        let mut hasher = self.0.uploads.take(id, offset);
        let mut writer = cloud.write(&format!("{}part/{offset:020}", keys::upload(id)));
        let mut written: u64 = 0;
        let mut result = Ok(());
        while let Some(frame) = body.next().await {
            match frame {
                Ok(bytes) => {
                    written += bytes.len() as u64;
                    if written > limit {
                        writer.abort().await;
                        return Err(ContentError::TooLarge(self.settings().max_blob));
                    }
                    if let Some(hasher) = &mut hasher {
                        hasher.update(&bytes);
                    }
                    writer.write(bytes).await?;
                }
                Err(error) => {
                    result = Err(StorageError::CutOff(error).into());
                    break;
                }
            }
        }
        if written > 0 {
            writer.finish().await?;
        }
        self.0.uploads.keep(id, offset + written, hasher);
        result.map(|()| offset + written)
    }

    /// Makes an upload a blob of the repository, after the rest of its bytes. One whose digest is another is forgotten.
    pub async fn finish_upload(
        &self,
        repo: &RepoName,
        id: &str,
        start: Option<u64>,
        digest: &Digest,
        body: Incoming,
    ) -> Result<u64, ContentError> {
        let offset = self.upload_offset(repo, id).await?;
        check_start(start, offset)?;
        let size = match self.storage() {
            // The name is known before the first byte: it can go where it belongs at once.
            Storage::Cloud(cloud) if offset == 0 => self.write_blob(cloud, digest, body).await,
            _ => self.append_and_commit(repo, id, start, digest, body).await,
        };
        match size {
            Ok(size) => {
                let linked = self.link_blob(repo, digest, size).await;
                self.remove_upload(id).await?;
                linked.map(|()| size)
            }
            Err(
                error @ (ContentError::DigestMismatch
                | ContentError::Quota { .. }
                | ContentError::TooLarge(_)),
            ) => {
                self.remove_upload(id).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn append_and_commit(
        &self,
        repo: &RepoName,
        id: &str,
        start: Option<u64>,
        digest: &Digest,
        body: Incoming,
    ) -> Result<u64, ContentError> {
        let size = self.append_upload(repo, id, start, body).await?;
        if self.hash_of_upload(id, size, digest.algorithm()).await? != *digest {
            return Err(ContentError::DigestMismatch);
        }
        if !self.links_blob(repo, digest).await? {
            self.check_quota(repo, size).await?;
        }
        self.promise(digest).await?;
        match self.storage() {
            Storage::Local(local) => local.commit_upload(id, digest).await?,
            Storage::Cloud(cloud) => join_parts(cloud, id, digest, size).await?,
        }
        Ok(size)
    }

    async fn hash_of_upload(
        &self,
        id: &str,
        size: u64,
        algorithm: Algorithm,
    ) -> Result<Digest, StorageError> {
        if algorithm == Algorithm::Sha256
            && let Some(hasher) = self.0.uploads.take(id, size)
        {
            return Ok(hasher.finish());
        }
        let mut hasher = algorithm.hasher();
        match self.storage() {
            Storage::Local(local) => hasher = local.hash_upload(id, hasher).await?,
            Storage::Cloud(cloud) => {
                for part in parts(cloud, id).await? {
                    let mut stream = cloud.stream(part.key, 0..part.size);
                    while let Some(bytes) = stream.next().await {
                        hasher.update(&bytes?);
                    }
                }
            }
        }
        Ok(hasher.finish())
    }

    async fn write_blob(
        &self,
        cloud: &Cloud,
        digest: &Digest,
        mut body: Incoming,
    ) -> Result<u64, ContentError> {
        self.promise(digest).await?;
        let mut hasher = digest.algorithm().hasher();
        let mut writer = cloud.write(&keys::blob(digest));
        let mut size: u64 = 0;
        let limit = self.limit(0)?;
        while let Some(frame) = body.next().await {
            let bytes = match frame {
                Ok(bytes) => bytes,
                Err(error) => {
                    writer.abort().await;
                    return Err(StorageError::CutOff(error).into());
                }
            };
            size += bytes.len() as u64;
            if size > limit {
                writer.abort().await;
                return Err(ContentError::TooLarge(limit));
            }
            hasher.update(&bytes);
            writer.write(bytes).await?;
        }
        if hasher.finish() != *digest {
            writer.abort().await;
            return Err(ContentError::DigestMismatch);
        }
        writer.finish().await?;
        Ok(size)
    }

    /// Forgets an upload.
    pub async fn remove_upload(&self, id: &str) -> Result<(), StorageError> {
        self.0.uploads.0.lock().remove(id);
        match self.storage() {
            Storage::Local(local) => local.remove_upload(id).await,
            Storage::Cloud(cloud) => {
                let prefix = keys::upload(id);
                for entry in cloud.list(&prefix).await? {
                    cloud.delete(&format!("{prefix}{}", entry.name)).await?;
                }
                Ok(())
            }
        }
    }
}

fn check_start(start: Option<u64>, offset: u64) -> Result<(), ContentError> {
    match start {
        Some(start) if start != offset => Err(ContentError::OutOfOrder { start, offset }),
        _ => Ok(()),
    }
}

struct Part {
    key: String,
    size: u64,
}

/// The parts of an upload that follow each other from the beginning.
async fn parts(cloud: &Cloud, id: &str) -> Result<Vec<Part>, StorageError> {
    let prefix = format!("{}part/", keys::upload(id));
    let mut parts = Vec::new();
    let mut offset = 0;
    for entry in cloud.list(&prefix).await? {
        if entry.name.parse::<u64>() == Ok(offset) {
            offset += entry.stat.size;
            parts.push(Part {
                key: format!("{prefix}{}", entry.name),
                size: entry.stat.size,
            });
        }
    }
    Ok(parts)
}

/// Makes the parts one blob: copied by the store if it is one, else read and written once more.
async fn join_parts(
    cloud: &Cloud,
    id: &str,
    digest: &Digest,
    size: u64,
) -> Result<(), StorageError> {
    let key = keys::blob(digest);
    let parts = parts(cloud, id).await?;
    if let [part] = parts.as_slice() {
        return cloud.copy(&part.key, &key, size).await;
    }
    let mut writer = cloud.write(&key);
    for part in parts {
        let mut stream = cloud.stream(part.key, 0..part.size);
        while let Some(bytes) = stream.next().await {
            writer.write(bytes?).await?;
        }
    }
    writer.finish().await
}

/// One job of the pool for calls that wait: hashes and writes a batch, and gives everything back.
struct Batch {
    file: File,
    hasher: Option<Hasher>,
    frames: Vec<Bytes>,
}

/// Writes what comes, hashing it on the way; the next batch comes meanwhile. Answers how much was written, the hash of all, and how it ended.
async fn write_through(
    file: File,
    hasher: Option<Hasher>,
    mut body: Incoming,
    limit: u64,
) -> (u64, Option<Hasher>, Result<(), ContentError>) {
    let mut written: u64 = 0;
    let mut state = (file, hasher);
    let (mut frames, mut end) = gather(&mut body).await;
    loop {
        let length: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
        if written + length > limit {
            return (written, state.1, Err(ContentError::TooLarge(limit)));
        }
        let batch = Batch {
            file: state.0,
            hasher: state.1,
            frames,
        };
        let job = blocking(move || write_batch(batch));
        let ((done, next), end_now) = match end {
            None => {
                let (done, (next, end)) = tokio::join!(job, gather(&mut body));
                ((done, next), end)
            }
            Some(end) => ((job.await, Vec::new()), Some(end)),
        };
        match done {
            Ok(batch) => state = (batch.file, batch.hasher),
            Err(error) => return (written, None, Err(error.into())),
        }
        if (written + length) / SYNC_EVERY > written / SYNC_EVERY {
            sync_ahead(&state.0);
        }
        written += length;
        frames = next;
        end = end_now;
        if frames.is_empty()
            && let Some(end) = end
        {
            return (
                written,
                state.1,
                end.map_err(|error| StorageError::CutOff(error).into()),
            );
        }
    }
}

/// Lets the disk begin. How that ends does not matter: what counts is the sync at the end.
fn sync_ahead(file: &File) {
    if let Ok(file) = file.try_clone() {
        tokio::task::spawn_blocking(move || file.sync_data());
    }
}

fn write_batch(mut batch: Batch) -> Result<Batch, StorageError> {
    for frame in &batch.frames {
        if let Some(hasher) = &mut batch.hasher {
            hasher.update(frame);
        }
        batch
            .file
            .write_all(frame)
            .map_err(|source| StorageError::io("writing", "an upload", source))?;
    }
    batch.frames.clear();
    Ok(batch)
}

/// The next batch, and how the body ended if it did.
async fn gather(body: &mut Incoming) -> (Vec<Bytes>, Option<io::Result<()>>) {
    let mut frames = Vec::new();
    let mut size = 0;
    while size < BATCH {
        match body.next().await {
            Some(Ok(bytes)) => {
                size += bytes.len();
                frames.push(bytes);
            }
            Some(Err(error)) => return (frames, Some(Err(error))),
            None => return (frames, Some(Ok(()))),
        }
    }
    (frames, None)
}

/// A body without bytes.
pub fn nothing() -> Incoming {
    Box::pin(futures_util::stream::empty())
}

/// A body that is here.
pub fn all(bytes: Bytes) -> Incoming {
    Box::pin(futures_util::stream::iter([Ok(bytes)]))
}
