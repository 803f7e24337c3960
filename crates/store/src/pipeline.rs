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
use crate::compression::Compression;
use crate::drivers::LayerDir;
use crate::error::StoreError;
use crate::layer::Layer;
use crate::store::{Store, new_cache_id, new_link};
use crate::unpack::{self, UnpackError, Unpacked};

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
            return;
        }
        let dir = LayerDir {
            cache: &self.cache,
            link: &self.link,
        };
        if let Err(error) = self.store.driver.remove(dir) {
            tracing::warn!(layer = %self.cache, %error, "unfinished layer is left for the next start");
        }
    }
}

type Handle<T> = JoinHandle<T>;

/// A blob being taken in.
pub(crate) struct Pipeline {
    input: ChunkSender,
    dir: StagedDir,
    blob_hash: Option<Handle<io::Result<(Digest, u64)>>>,
    decoder: Option<Handle<io::Result<()>>>,
    diff_hash: Handle<io::Result<(Digest, u64)>>,
    unpacker: Handle<Result<Unpacked, UnpackError>>,
}

impl Pipeline {
    /// Starts the threads for a blob with this compression.
    pub(crate) fn start(store: &Store, compression: Compression) -> Result<Pipeline, StoreError> {
        let dir = StagedDir::create(store)?;
        let (input, mut readers) = ChunkSender::to(2);
        let (second, first) = (readers.pop(), readers.pop());
        let (Some(first), Some(second)) = (first, second) else {
            return Err(StoreError::Damaged(
                "a channel with two readers has two readers".to_owned(),
            ));
        };
        if compression == Compression::None {
            let (diff_hash, unpacker) = spawn_consumers(store, &dir, first, second)?;
            return Ok(Pipeline {
                input,
                dir,
                blob_hash: None,
                decoder: None,
                diff_hash,
                unpacker,
            });
        }
        let (plain, mut plain_readers) = ChunkSender::to(2);
        let (Some(to_unpack), Some(to_hash)) = (plain_readers.pop(), plain_readers.pop()) else {
            return Err(StoreError::Damaged(
                "a channel with two readers has two readers".to_owned(),
            ));
        };
        let (diff_hash, unpacker) = spawn_consumers(store, &dir, to_hash, to_unpack)?;
        let blob_hash = Some(spawn("hash", move || hash(first))?);
        let decoder = Some(spawn("decompress", move || {
            decompress(compression, second, plain)
        })?);
        Ok(Pipeline {
            input,
            dir,
            blob_hash,
            decoder,
            diff_hash,
            unpacker,
        })
    }

    /// The next piece of the blob. [`Gone`] means that [`Pipeline::finish`] has an error to tell.
    pub(crate) fn send(&self, piece: Vec<u8>) -> Result<(), Gone> {
        self.input.send(piece)
    }

    /// Where a writer can put the blob.
    pub(crate) fn input(&self) -> &ChunkSender {
        &self.input
    }

    /// The blob was complete; waits for the layer.
    pub(crate) fn finish(self) -> Result<Staged, StoreError> {
        self.input.end();
        let blob = self.blob_hash.map(join).transpose()?;
        let decoded = self.decoder.map(join).transpose()?;
        let diff = join(self.diff_hash)?;
        let unpacked = join(self.unpacker)?;
        // A decoder that stops makes the others see a short stream, so its reason counts first.
        if let Some(Err(error)) = decoded
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(StoreError::Stream(error));
        }
        let unpacked = unpacked?;
        let (diff, tar_size) = diff.map_err(StoreError::Stream)?;
        let blob = blob
            .transpose()
            .map_err(StoreError::Stream)?
            .map_or_else(|| diff.clone(), |(blob, _)| blob);
        Ok(Staged {
            diff: DiffId(diff),
            blob,
            dir: self.dir,
            size: unpacked.size,
            tar_size,
        })
    }
}

fn spawn_consumers(
    store: &Store,
    dir: &StagedDir,
    to_hash: ChunkReader,
    to_unpack: ChunkReader,
) -> Result<
    (
        Handle<io::Result<(Digest, u64)>>,
        Handle<Result<Unpacked, UnpackError>>,
    ),
    StoreError,
> {
    let path = store.driver.layer_dir(&dir.cache);
    let diff_hash = spawn("hash", move || hash(to_hash))?;
    let unpacker = spawn("unpack", move || unpack::unpack(to_unpack, &path))?;
    Ok((diff_hash, unpacker))
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Handle<T>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(StoreError::Stream)
}

fn join<T>(handle: Handle<T>) -> Result<T, StoreError> {
    handle
        .join()
        .map_err(|_| StoreError::Damaged("a thread that takes in a layer panicked".to_owned()))
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
    mut input: ChunkReader,
    output: ChunkSender,
) -> io::Result<()> {
    let mut plain = compression.reader(&mut input)?;
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
