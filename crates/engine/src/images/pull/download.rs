//! Layers on their way: one job per blob, shared by all pulls that want it. A job ends when nobody wants it any more.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use wharf_api::error::Kind;
use wharf_distribution::blob::BlobEvent;
use wharf_distribution::manifest::Descriptor;
use wharf_distribution::{RegistryError, Repository};
use wharf_spec::digest::{DiffId, Digest};
use wharf_store::partial::Partial;
use wharf_store::{KnownBlob, Store, StoreError};

use crate::Error;

/// Pieces between the network and the unpacker.
const DEPTH: usize = 2;
/// Smaller layers are fetched again rather than kept half, unless they are kept anyway.
const WORTH_KEEPING: u64 = 4 << 20;

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Joined, not started.
    Begun,
    /// Too many others run.
    Waiting,
    /// Bytes come.
    Downloading {
        /// So far.
        current: u64,
        /// In all.
        total: u64,
    },
    /// The connection broke.
    Retrying(Duration),
    /// All bytes are there; the rest is being unpacked.
    Extracting {
        /// Bytes in all.
        total: u64,
    },
    /// In the store.
    Done,
    /// For good.
    Failed(Kind, String),
}

impl Stage {
    /// Nothing follows.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Stage::Failed(..) | Stage::Done)
    }
}

/// All layers on their way.
#[derive(Debug)]
pub(crate) struct Downloads {
    running: Arc<Mutex<HashMap<Digest, Running>>>,
    slots: Mutex<Arc<Semaphore>>,
}

#[derive(Debug)]
struct Running {
    stages: watch::Receiver<Stage>,
    abort: AbortHandle,
    /// How many pulls want it.
    wanted: usize,
    /// Tells this run of the blob's download from an earlier one.
    serial: u64,
}

/// A pull's share in a download; the last one dropped ends it.
#[derive(Debug)]
pub(crate) struct Job {
    running: Arc<Mutex<HashMap<Digest, Running>>>,
    digest: Digest,
    serial: u64,
    stages: watch::Receiver<Stage>,
}

impl Job {
    /// What becomes of it.
    pub(crate) fn watch(&self) -> watch::Receiver<Stage> {
        self.stages.clone()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        let Some(job) = running
            .get_mut(&self.digest)
            .filter(|job| job.serial == self.serial)
        else {
            return;
        };
        job.wanted -= 1;
        if job.wanted == 0 {
            job.abort.abort();
            running.remove(&self.digest);
        }
    }
}

impl Downloads {
    /// At most `limit` at a time; 0 is no limit.
    pub(crate) fn new(limit: i64) -> Downloads {
        Downloads {
            running: Arc::default(),
            slots: Mutex::new(slots(limit)),
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.lock().is_empty()
    }

    /// Another limit, for downloads that begin from now on.
    pub(crate) fn limit(&self, limit: i64) {
        *self.slots.lock() = slots(limit);
    }

    /// Takes part in the download of a layer, or begins it.
    pub(crate) fn join(
        &self,
        store: &Arc<Store>,
        repository: &Repository,
        layer: &Descriptor,
        diff: &DiffId,
    ) -> Job {
        let mut running = self.running.lock();
        let live = running
            .get_mut(&layer.digest)
            .filter(|job| !job.stages.borrow().is_last());
        let (serial, stages) = match live {
            Some(job) => {
                job.wanted += 1;
                (job.serial, job.stages.clone())
            }
            None => {
                let job = self.begin(store, repository, layer, diff);
                let joined = (job.serial, job.stages.clone());
                running.insert(layer.digest.clone(), job);
                joined
            }
        };
        Job {
            running: self.running.clone(),
            digest: layer.digest.clone(),
            serial,
            stages,
        }
    }

    fn begin(
        &self,
        store: &Arc<Store>,
        repository: &Repository,
        layer: &Descriptor,
        diff: &DiffId,
    ) -> Running {
        static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let (told, stages) = watch::channel(Stage::Begun);
        let download = Download {
            store: store.clone(),
            repository: repository.clone(),
            layer: layer.clone(),
            diff: diff.clone(),
            told,
        };
        let slots = self.slots.lock().clone();
        let task = tokio::spawn(async move {
            let Ok(_slot) = download.slot(&slots).await else {
                return;
            };
            let stage = match download.run().await {
                Ok(()) => Stage::Done,
                Err(error) => Stage::Failed(error.kind(), error.to_string()),
            };
            download.told.send_replace(stage);
        });
        Running {
            stages,
            abort: task.abort_handle(),
            wanted: 1,
            serial: SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }
}

/// Room for so many at a time; 0 or less is no limit.
pub(crate) fn slots(limit: i64) -> Arc<Semaphore> {
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    Arc::new(Semaphore::new(limit.unwrap_or(Semaphore::MAX_PERMITS)))
}

struct Download {
    store: Arc<Store>,
    repository: Repository,
    layer: Descriptor,
    diff: DiffId,
    told: watch::Sender<Stage>,
}

impl Download {
    async fn slot<'a>(
        &self,
        slots: &'a Semaphore,
    ) -> Result<tokio::sync::SemaphorePermit<'a>, tokio::sync::AcquireError> {
        if let Ok(slot) = slots.try_acquire() {
            return Ok(slot);
        }
        self.told.send_replace(Stage::Waiting);
        slots.acquire().await
    }

    /// Gets the layer. What an earlier attempt left is used; if that turns out to be wrong, all of it is fetched.
    async fn run(&self) -> Result<(), Error> {
        let kept = self.layer.size >= WORTH_KEEPING || self.store.keeps_compressed(self.layer.size);
        let partial = kept.then(|| self.partial()).flatten();
        let begun = partial.as_ref().map_or(0, Partial::length);
        match self.attempt(partial).await {
            Err(error) if begun > 0 && is_wrong(&error) => {
                tracing::info!(blob = %self.layer.digest, %error, "what an earlier download left is wrong; beginning again");
                let mut partial = self.partial();
                if let Some(partial) = &mut partial {
                    partial
                        .clear()
                        .map_err(|error| Error::caused("begin a download again", error))?;
                }
                self.attempt(partial).await
            }
            outcome => outcome,
        }
    }

    fn partial(&self) -> Option<Partial> {
        self.store.partial(&self.layer.digest, self.layer.size)
    }

    async fn attempt(&self, partial: Option<Partial>) -> Result<(), Error> {
        let (pieces, reader) = mpsc::channel(DEPTH);
        let begun = partial.as_ref().map_or(0, Partial::length);
        let taking = Taking {
            store: self.store.clone(),
            blob: KnownBlob {
                digest: self.layer.digest.clone(),
                size: self.layer.size,
                media_type: self.layer.media_type.clone(),
            },
            diff: self.diff.clone(),
            repository: self.repository.name().name(),
        };
        let taken = tokio::task::spawn_blocking(move || taking.run(partial, reader));
        let streamed = self.stream(pieces, begun).await;
        let taken = taken
            .await
            .map_err(|error| Error::caused("take in layer", error))?;
        match (streamed, taken) {
            (_, Ok(())) => Ok(()),
            // What the network said explains why the layer is short.
            (Err(Some(error)), Err(_)) => Err(super::refusal(&error, self.repository.name())),
            (_, Err(error)) => Err(self.failed(error)),
        }
    }

    /// Sends the blob into the store. An error without words: the store stopped reading, and knows why.
    async fn stream(
        &self,
        pieces: mpsc::Sender<Piece>,
        begun: u64,
    ) -> Result<(), Option<RegistryError>> {
        let total = self.layer.size;
        let mut stream = self
            .repository
            .blob_stream(&self.layer.digest, total, begun);
        self.told.send_replace(Stage::Downloading {
            current: begun,
            total,
        });
        while let Some(event) = stream.next().await.map_err(Some)? {
            match event {
                BlobEvent::Data(bytes) => {
                    pieces.send(Piece::Data(bytes)).await.map_err(|_| None)?;
                    self.told.send_replace(Stage::Downloading {
                        current: stream.offset(),
                        total,
                    });
                }
                BlobEvent::Retry(pause) => {
                    self.told.send_replace(Stage::Retrying(pause));
                }
            }
        }
        self.told.send_replace(Stage::Extracting { total });
        pieces.send(Piece::End).await.map_err(|_| None)
    }

    fn failed(&self, error: StoreError) -> Error {
        let error = Error::from(error);
        let text = error.to_string();
        if text.contains("verification failed") || text.contains("don't match") {
            return error;
        }
        Error::new(error.kind(), format!("failed to register layer: {text}"))
    }
}

/// Whether the content is not what it should be.
fn is_wrong(error: &Error) -> bool {
    let text = error.to_string();
    !text.contains("no space left")
        && (text.contains("verification failed")
            || text.contains("don't match")
            || text.contains("failed to register layer"))
}

/// The blocking half of a download.
struct Taking {
    store: Arc<Store>,
    blob: KnownBlob,
    diff: DiffId,
    repository: String,
}

impl Taking {
    /// Takes a layer in: what is there of it, then what comes.
    fn run(
        &self,
        partial: Option<Partial>,
        pieces: mpsc::Receiver<Piece>,
    ) -> Result<(), StoreError> {
        let Some(mut partial) = partial else {
            let reader = PieceReader::new(pieces, None);
            return self.store.take_layer(reader, &self.blob.digest, &self.diff);
        };
        let earlier = partial.reader().map_err(StoreError::Stream)?;
        let complete = AtomicBool::new(false);
        let later = PieceReader::new(pieces, Some((&mut partial, &complete)));
        let outcome = self
            .store
            .take_layer(earlier.chain(later), &self.blob.digest, &self.diff);
        if outcome.is_ok() {
            // The note first: a blob without one would be a leftover.
            self.store
                .note_blob(&self.diff, &self.blob, &self.repository)?;
            self.store
                .end_partial(partial, &self.blob.digest, self.blob.size);
        } else if complete.load(Ordering::Relaxed) {
            // Complete, and wrong.
            partial.remove();
        }
        outcome
    }
}

/// What goes to the unpacker.
enum Piece {
    Data(Bytes),
    End,
}

/// The unpacker's end. A sender that goes away without [`Piece::End`] reads as an error, never as the end.
struct PieceReader<'a> {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    /// Where the pieces are kept for a later attempt, and whether the last one came.
    kept: Option<(&'a mut Partial, &'a AtomicBool)>,
}

impl<'a> PieceReader<'a> {
    fn new(
        pieces: mpsc::Receiver<Piece>,
        kept: Option<(&'a mut Partial, &'a AtomicBool)>,
    ) -> PieceReader<'a> {
        PieceReader {
            pieces,
            current: Bytes::new(),
            ended: false,
            kept,
        }
    }

    fn keep(&mut self) {
        let Some((partial, _)) = &mut self.kept else {
            return;
        };
        if let Err(error) = partial.append(&self.current) {
            tracing::debug!(%error, "no room to keep the download for a later attempt");
            // A beginning with a hole would be wrong.
            let _ = partial.clear();
            self.kept = None;
        }
    }
}

impl Read for PieceReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => {
                    self.current = bytes;
                    self.keep();
                }
                Some(Piece::End) => {
                    self.ended = true;
                    if let Some((_, complete)) = &self.kept {
                        complete.store(true, Ordering::Relaxed);
                    }
                }
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the download broke off",
                    ));
                }
            }
        }
        let n = self.current.len().min(buf.len());
        self.current.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}
