//! A layer's blob on its way into the store: hashed, decompressed and unpacked on threads of their own while it is still being read.
//!
//! ```text
//! plain:       reader ─┬─► sha256 (diff ID)
//!                      └─► unpack
//! compressed:  reader ─┬─► sha256 (digest)
//!                      └─► decompress ─┬─► sha256 (diff ID)
//!                                      └─► unpack
//! ```

use std::io::{self, BufRead as _};
use std::thread::JoinHandle;

use wharf_spec::digest::{Algorithm, ChainId, DiffId, Digest};

use crate::chunk::{CHUNK, ChunkReader, ChunkSender, Gone, read_chunk};
use crate::drivers::LayerDir;
use crate::error::StoreError;
use crate::layer::Layer;
use crate::parked::Parked;
use crate::store::{Store, new_cache_id, new_link};
use crate::unpack::{self, UnpackError, Unpacked};
use wharf_archive::compression::Compression;

/// An unpacked layer that is not in the database yet; dropping it removes its directory.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) diff: DiffId,
    /// Digest of the compressed blob; the diff ID's for a plain one.
    pub(crate) blob: Digest,
    dir: StagedDir,
    size: u64,
    tar_size: u64,
}

impl Staged {
    /// The record it becomes above `parent`; the directory then stays.
    pub(crate) fn into_layer(mut self, parent: Option<&ChainId>) -> Layer {
        self.dir.keep = true;
        Layer {
            chain: ChainId::above(parent, &self.diff),
            parent: parent.cloned(),
            cache: self.dir.cache.clone(),
            link: self.dir.link.clone(),
            size: self.size,
            tar_size: self.tar_size,
            diff: self.diff,
        }
    }

    /// The record it becomes while no image has it; the directory then stays.
    pub(crate) fn into_parked(mut self, since: i64) -> Parked {
        self.dir.keep = true;
        Parked {
            diff: self.diff,
            cache: self.dir.cache.clone(),
            link: self.dir.link.clone(),
            size: self.size,
            tar_size: self.tar_size,
            since,
        }
    }

    pub(crate) fn dir(&self) -> LayerDir<'_> {
        LayerDir {
            cache: &self.dir.cache,
            link: &self.dir.link,
        }
    }
}

/// Guard of a directory under construction.
#[derive(Debug)]
struct StagedDir {
    store: Store,
    cache: String,
    link: String,
    keep: bool,
}

impl StagedDir {
    fn create(store: &Store) -> Result<StagedDir, StoreError> {
        let dir = StagedDir {
            store: store.clone(),
            cache: new_cache_id()?,
            link: new_link()?,
            keep: false,
        };
        let path = store.driver.layer_dir(&dir.cache);
        store
            .staging
            .lock()
            .insert(dir.cache.clone(), dir.link.clone());
        store
            .driver
            .create_layer(LayerDir {
                cache: &dir.cache,
                link: &dir.link,
            })
            .map_err(StoreError::io("create", &path))?;
        Ok(dir)
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        if self.keep {
            self.store.staging.lock().remove(&self.cache);
            return;
        }
        let dir = LayerDir {
            cache: &self.cache,
            link: &self.link,
        };
        if let Err(error) = self.store.driver.remove(dir) {
            tracing::warn!(layer = %self.cache, %error, "unfinished layer is left for the next start");
        }
        self.store.staging.lock().remove(&self.cache);
    }
}

type Hash = JoinHandle<io::Result<(Digest, u64)>>;
type Unpack = JoinHandle<Result<Unpacked, UnpackError>>;

/// A blob being taken in. Dropping it stops its threads before the directory they write to goes.
pub(crate) struct Pipeline {
    input: Option<ChunkSender>,
    blob_hash: Option<Hash>,
    decoder: Option<JoinHandle<io::Result<()>>>,
    diff_hash: Option<Hash>,
    unpacker: Option<Unpack>,
    dir: Option<StagedDir>,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.input = None;
        // What a thread of an abandoned blob has to say matters no more.
        let _ = self.blob_hash.take().map(JoinHandle::join);
        let _ = self.decoder.take().map(JoinHandle::join);
        let _ = self.diff_hash.take().map(JoinHandle::join);
        let _ = self.unpacker.take().map(JoinHandle::join);
    }
}

impl Pipeline {
    /// Starts the threads for a blob with this compression.
    pub(crate) fn start(store: &Store, compression: Compression) -> Result<Pipeline, StoreError> {
        let dir = StagedDir::create(store)?;
        let path = store.driver.layer_dir(&dir.cache);
        let (input, [first, second]) = ChunkSender::pair();
        let mut pipeline = Pipeline {
            input: Some(input),
            blob_hash: None,
            decoder: None,
            diff_hash: None,
            unpacker: None,
            dir: Some(dir),
        };
        let max_expansion = store.settings().max_expansion;
        let (to_hash, to_unpack) = if compression == Compression::None {
            (first, second)
        } else {
            let (plain, [to_hash, to_unpack]) = ChunkSender::pair();
            pipeline.blob_hash = Some(spawn("hash", move || hash(first))?);
            pipeline.decoder = Some(spawn("decompress", move || {
                decompress(compression, max_expansion, second, plain)
            })?);
            (to_hash, to_unpack)
        };
        pipeline.diff_hash = Some(spawn("hash", move || hash(to_hash))?);
        let form = store.driver.form();
        pipeline.unpacker = Some(spawn("unpack", move || {
            unpack::unpack(to_unpack, &path, form)
        })?);
        Ok(pipeline)
    }

    /// The next piece of the blob. [`Gone`] means that [`Pipeline::finish`] has an error to tell.
    pub(crate) fn send(&self, piece: Vec<u8>) -> Result<(), Gone> {
        self.input().send(piece)
    }

    /// Where a writer can put the blob.
    pub(crate) fn input(&self) -> &ChunkSender {
        self.input
            .as_ref()
            .expect("only finish and drop take it, which end the pipeline")
    }

    /// The blob was complete; waits for the layer.
    pub(crate) fn finish(mut self) -> Result<Staged, StoreError> {
        if let Some(input) = self.input.take() {
            input.end();
        }
        let blob = join(self.blob_hash.take())?;
        let decoded = join(self.decoder.take())?;
        let diff = join(self.diff_hash.take())?;
        let unpacked = join(self.unpacker.take())?;
        // A decoder that stops makes the others see a short stream, so its reason counts first.
        if let Some(Err(error)) = decoded
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(StoreError::Stream(error));
        }
        let (Some(unpacked), Some(diff), Some(dir)) =
            (unpacked.transpose()?, diff, self.dir.take())
        else {
            return Err(StoreError::Damaged(
                "a layer's pipeline was finished twice".to_owned(),
            ));
        };
        let (diff, tar_size) = diff.map_err(StoreError::Stream)?;
        let blob = blob
            .transpose()
            .map_err(StoreError::Stream)?
            .map_or_else(|| diff.clone(), |(blob, _)| blob);
        Ok(Staged {
            diff: DiffId(diff),
            blob,
            dir,
            size: unpacked.size,
            tar_size,
        })
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(StoreError::Stream)
}

fn join<T>(handle: Option<JoinHandle<T>>) -> Result<Option<T>, StoreError> {
    let panicked = |_| StoreError::Damaged("a thread that takes in a layer panicked".to_owned());
    handle.map(JoinHandle::join).transpose().map_err(panicked)
}

/// Digest and length of a stream.
fn hash(mut input: ChunkReader) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut length) = (Algorithm::Sha256.hasher(), 0);
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok((hasher.finish(), length));
        }
        hasher.update(bytes);
        let n = bytes.len();
        length += n as u64;
        input.consume(n);
    }
}

/// Fails with `BrokenPipe` when a consumer stopped, which then has the reason.
fn decompress(
    compression: Compression,
    max_expansion: u64,
    mut input: ChunkReader,
    output: ChunkSender,
) -> io::Result<()> {
    let mut plain = compression.reader_within(&mut input, max_expansion)?;
    loop {
        let piece = read_chunk(&mut plain, CHUNK as u64)?;
        if piece.is_empty() {
            break;
        }
        output
            .send(piece)
            .map_err(|Gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
    drop(plain);
    output.end();
    // Bytes after the compressed stream: the sender still wants to get rid of them.
    io::copy(&mut input, &mut io::sink()).map(drop)
}
