//! One layer gets into a registry.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_distribution::RegistryError;
use wharf_distribution::blob::{BlobEvent, BlobStream};
use wharf_distribution::manifest::{DOCKER_LAYER, OCI_LAYER_PREFIX};
use wharf_distribution::upload::{Begun, Upload, stream_body};
use wharf_spec::digest::{DiffId, Digest};
use wharf_spec::reference::Reference;
use wharf_store::KnownBlob;
use wharf_store::push::{Compressed, PushLayer};

use super::lines::Lines;
use super::{Push, refusal};
use crate::{Error, Result, blocking};

/// Attempts at one layer.
const ATTEMPTS: u32 = 5;
/// The pause after the first failure; each further one is longer by as much.
const PAUSE: Duration = Duration::from_secs(1);
/// Positions are told no more often.
const STEP: Duration = Duration::from_millis(100);
/// Pieces between the compressor and the network.
const DEPTH: usize = 4;
/// A piece of a kept blob.
const READ: usize = 256 * 1024;
/// What stands among the repositories of a blob that was compressed here, so that it can be made again.
const MADE_HERE: &str = "";
/// Repositories asked for a mount.
const MAX_MOUNTS: usize = 3;

/// A layer that is in the registry.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) digest: Digest,
    pub(super) size: u64,
    media_type: String,
}

impl Sent {
    fn of(blob: &KnownBlob) -> Sent {
        Sent {
            digest: blob.digest.clone(),
            size: blob.size,
            media_type: blob.media_type.clone(),
        }
    }

    /// Its type in a manifest of Docker's.
    pub(super) fn docker_type(&self) -> String {
        match self.media_type.strip_prefix(OCI_LAYER_PREFIX) {
            Some("tar") => "application/vnd.docker.image.rootfs.diff.tar".to_owned(),
            Some("tar+zstd") => "application/vnd.docker.image.rootfs.diff.tar.zstd".to_owned(),
            Some(_) => DOCKER_LAYER.to_owned(),
            None if self.media_type.is_empty() => DOCKER_LAYER.to_owned(),
            None => self.media_type.clone(),
        }
    }
}

impl Push<'_> {
    /// Gets a layer there, if it is not. `preferred` are the digests that keep the image's own digest.
    pub(super) async fn layer(&self, layer: &PushLayer, preferred: Vec<Digest>) -> Result<()> {
        let diff = &layer.layer.diff;
        if self.sent.lock().await.contains_key(diff) {
            self.lines.status(diff, "Layer already exists").await;
            return Ok(());
        }
        let slots = self.engine.uploads.clone();
        let _slot = match slots.clone().try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                self.lines.status(diff, "Waiting").await;
                let slot = slots.acquire_owned().await;
                slot.map_err(|_| Error::internal("the daemon is shutting down"))?
            }
        };
        let mut known = self.engine.store.known_blobs(diff)?;
        // The manifest that the image came by last decides which form it is to have.
        let rank = |blob: &KnownBlob| preferred.iter().position(|digest| *digest == blob.digest);
        known.sort_by_key(|blob| rank(blob).unwrap_or(usize::MAX));
        let sent = self.persist(layer, &known).await?;
        let blob = KnownBlob {
            digest: sent.digest.clone(),
            size: sent.size,
            media_type: sent.media_type.clone(),
        };
        self.note_layer(diff, &blob, &self.repository.name().name());
        self.sent.lock().await.insert(diff.clone(), sent);
        Ok(())
    }

    /// Remembers where a layer is. Without it the next push asks more, that is all.
    fn note_layer(&self, diff: &DiffId, blob: &KnownBlob, repository: &str) {
        if let Err(error) = self.engine.store.note_blob(diff, blob, repository) {
            tracing::warn!(layer = %diff, %error, "where a layer was pushed to is not noted");
        }
    }

    async fn persist(&self, layer: &PushLayer, known: &[KnownBlob]) -> Result<Sent> {
        let diff = &layer.layer.diff;
        let mut attempt = 1;
        loop {
            match self.send(layer, known).await {
                // A token that ended in the middle, and was forgotten for it.
                Err(Failure::Registry(error)) if attempt == 1 && error.status() == Some(401) => {
                    attempt += 1;
                }
                Err(Failure::Registry(error)) if attempt < ATTEMPTS && error.may_pass() => {
                    let pause = error
                        .retry_after()
                        .unwrap_or(PAUSE * attempt)
                        .min(Duration::from_secs(30));
                    let seconds = pause.as_secs().max(1);
                    let unit = if seconds == 1 { "second" } else { "seconds" };
                    self.lines
                        .status(diff, &format!("Retrying in {seconds} {unit}"))
                        .await;
                    tracing::info!(layer = %diff, %error, "layer is pushed again after a pause");
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                Err(Failure::Registry(error)) => return Err(refusal(&error)),
                Err(Failure::Here(error)) => return Err(error),
                Ok(sent) => return Ok(sent),
            }
        }
    }

    async fn send(&self, layer: &PushLayer, known: &[KnownBlob]) -> Result<Sent, Failure> {
        let diff = &layer.layer.diff;
        // Each form in turn, so that the image keeps its digest wherever that is possible.
        for blob in known {
            if self.repository.blob_head(&blob.digest).await?.is_some() {
                self.lines.status(diff, "Layer already exists").await;
                return Ok(Sent::of(blob));
            }
            if let Some(from) = self.mount(blob).await? {
                self.lines
                    .status(diff, &format!("Mounted from {from}"))
                    .await;
                return Ok(Sent::of(blob));
            }
            if self.sources(blob).iter().any(|source| source == MADE_HERE) {
                break;
            }
            if self.send_kept(diff, blob).await? || self.copy(diff, blob).await? {
                self.lines.status(diff, "Pushed").await;
                return Ok(Sent::of(blob));
            }
        }
        let sent = self.compress(layer).await?;
        self.lines.status(diff, "Pushed").await;
        Ok(sent)
    }

    fn sources(&self, blob: &KnownBlob) -> Vec<String> {
        self.engine
            .store
            .sources_of(&blob.digest)
            .unwrap_or_default()
    }

    /// Other repositories of the same registry that had the blob.
    async fn mount(&self, blob: &KnownBlob) -> Result<Option<String>, Failure> {
        let name = self.repository.name();
        let candidates = self
            .sources(blob)
            .into_iter()
            .filter_map(|source| Reference::parse(&source).ok());
        let candidates = candidates
            .filter(|source| source.domain() == name.domain() && source.path() != name.path());
        for source in candidates.take(MAX_MOUNTS) {
            let begun = self
                .repository
                .begin_upload(Some((&blob.digest, source.path())))
                .await;
            match begun {
                Ok(Begun::Mounted) => return Ok(Some(source.path().to_owned())),
                Ok(Begun::Upload(upload)) => {
                    let forgotten = self
                        .engine
                        .store
                        .forget_source(&blob.digest, &source.name());
                    if let Err(error) = forgotten {
                        tracing::warn!(blob = %blob.digest, %error, "a repository that lost a blob is asked again");
                    }
                    upload.cancel().await;
                }
                // Not allowed to read there: the layer is sent instead.
                Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Sends the compressed layer that was kept from its pull. `false`: there is none, or not what it should be.
    async fn send_kept(&self, diff: &DiffId, blob: &KnownBlob) -> Result<bool, Failure> {
        let Some(file) = self.engine.store.kept_blob(&blob.digest, blob.size) else {
            return Ok(false);
        };
        let Begun::Upload(upload) = self.repository.begin_upload(None).await? else {
            return Ok(true);
        };
        let (send, body) = stream_body(DEPTH);
        let (lines, diff, total) = (self.lines.clone(), diff.clone(), blob.size);
        let reading = blocking(move || {
            read_kept(file, &send, &diff, total, &lines);
            Ok(())
        });
        let (sent, read) = tokio::join!(upload.put(&blob.digest, blob.size, body), reading);
        read?;
        match sent {
            // It was damaged on the disk.
            Err(error) if error.code() == Some("DIGEST_INVALID") => {
                tracing::warn!(blob = %blob.digest, "the kept compressed layer is damaged");
                self.engine.store.drop_kept(&blob.digest);
                Ok(false)
            }
            sent => Ok(sent.map(|()| true)?),
        }
    }

    /// Takes the blob from where it was pulled and puts it here as it is. `false`: nobody has it any more.
    async fn copy(&self, diff: &DiffId, blob: &KnownBlob) -> Result<bool, Failure> {
        for source in self.sources(blob) {
            let Ok(name) = Reference::parse(&source) else {
                continue;
            };
            let same = name.domain() == self.repository.name().domain();
            let credentials = if same {
                self.credentials.clone()
            } else {
                Default::default()
            };
            let from = self.engine.registry.pull(&name, &credentials).await;
            if !matches!(from.blob_head(&blob.digest).await, Ok(Some(_))) {
                continue;
            }
            let Begun::Upload(upload) = self.repository.begin_upload(None).await? else {
                return Ok(true);
            };
            let stream = from.blob_stream(&blob.digest, blob.size, 0);
            self.copy_stream(diff, blob, stream, upload).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn copy_stream(
        &self,
        diff: &DiffId,
        blob: &KnownBlob,
        mut stream: BlobStream,
        upload: Upload,
    ) -> Result<(), Failure> {
        let (send, body) = stream_body(DEPTH);
        let mut told = Instant::now();
        let feed = async {
            loop {
                match stream.next().await {
                    Ok(Some(BlobEvent::Data(bytes))) => {
                        // A registry that stops reading says why in its answer.
                        if send.send(Ok(bytes)).await.is_err() {
                            return;
                        }
                        if told.elapsed() > STEP {
                            told = Instant::now();
                            self.lines.position(diff, stream.offset(), blob.size);
                        }
                    }
                    Ok(Some(BlobEvent::Retry(_))) => {}
                    Ok(None) => break,
                    Err(error) => {
                        let _ = send.send(Err(io::Error::other(error))).await;
                        break;
                    }
                }
            }
            drop(send);
        };
        let (sent, ()) = tokio::join!(upload.put(&blob.digest, blob.size, body), feed);
        Ok(sent?)
    }

    /// Compresses the layer into the registry.
    async fn compress(&self, layer: &PushLayer) -> Result<Sent, Failure> {
        let mut upload = match self.repository.begin_upload(None).await? {
            Begun::Upload(upload) => upload,
            Begun::Mounted => {
                return Err(Error::internal("the registry mounted a blob nobody named").into());
            }
        };
        let (send, body) = stream_body(DEPTH);
        let making = blocking(self.compressor(layer, send));
        let (sent, made) = tokio::join!(upload.patch(body), making);
        let made = match (sent, made) {
            // The registry's answer explains why the compressor could not go on.
            (Err(error), _) => return Err(error.into()),
            (Ok(()), made) => made?,
        };
        upload.complete(&made.digest).await?;
        let blob = KnownBlob {
            digest: made.digest,
            size: made.size,
            media_type: DOCKER_LAYER.to_owned(),
        };
        self.note_layer(&layer.layer.diff, &blob, MADE_HERE);
        Ok(Sent::of(&blob))
    }

    /// The work of a blocking thread.
    fn compressor(
        &self,
        layer: &PushLayer,
        send: mpsc::Sender<io::Result<Bytes>>,
    ) -> impl FnOnce() -> Result<Compressed> + Send + 'static {
        let (lines, layer) = (self.lines.clone(), layer.clone());
        let (diff, total) = (layer.layer.diff.clone(), layer.layer.tar_size);
        move || {
            let mut told = Instant::now();
            let made = layer.compress(&mut |bytes, plain| {
                if told.elapsed() > STEP {
                    told = Instant::now();
                    lines.position(&diff, plain, total);
                }
                send.blocking_send(Ok(bytes.into()))
                    .map_err(|_| io::ErrorKind::BrokenPipe.into())
            });
            if let Err(error) = &made {
                // The body must not look complete.
                let _ = send.blocking_send(Err(io::Error::other(error.to_string())));
            }
            Ok(made?)
        }
    }
}

/// Reads a kept blob into an upload. Whoever receives says why they stop.
fn read_kept(
    mut file: File,
    send: &mpsc::Sender<io::Result<Bytes>>,
    diff: &DiffId,
    total: u64,
    lines: &Lines,
) {
    let (mut told, mut current) = (Instant::now(), 0);
    loop {
        let mut piece = Vec::with_capacity(READ);
        let read = (&mut file).take(READ as u64).read_to_end(&mut piece);
        let piece = match read {
            Ok(0) => return,
            Ok(n) => {
                current += n as u64;
                Ok(piece.into())
            }
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if send.blocking_send(piece).is_err() || failed {
            return;
        }
        if told.elapsed() > STEP {
            told = Instant::now();
            lines.position(diff, current, total);
        }
    }
}

/// Why a layer did not get there.
enum Failure {
    /// The registry.
    Registry(RegistryError),
    /// This side.
    Here(Error),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        Failure::Registry(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Here(error)
    }
}
