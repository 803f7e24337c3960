//! Images as archives, in the form of Docker 25 and later: an OCI layout that also has `manifest.json` and `repositories`.
//!
//! Everything streams: sizes and digests of layers are known, so headers come first and each layer's tar is made again as it is written.

mod documents;
mod plan;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write};
use std::path::PathBuf;

use wharf_spec::digest::{Algorithm, Digest};

pub use plan::SavePlan;

use crate::chunk::{ChunkReader, ChunkSender, ChunkWriter};
use crate::error::StoreError;
use crate::recipe;
use crate::store::Store;
use wharf_archive::tar;

/// One file of `blobs/sha256/`.
#[derive(Debug)]
struct Blob {
    content: Content,
    /// Seconds since 1970.
    mtime: i64,
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// The directory of a layer, and the size of its tar.
    Layer(PathBuf, u64),
}

impl Store {
    /// Writes the archive of a plan. An error after the first bytes leaves a broken archive behind.
    pub fn save(&self, plan: &SavePlan, out: &mut dyn Write) -> Result<(), StoreError> {
        let mut blobs = BTreeMap::new();
        let documents = documents::describe(plan, &mut blobs)?;
        let written = |result: io::Result<()>| result.map_err(StoreError::Stream);
        let newest = plan
            .images
            .last()
            .map_or(0, |image| documents::created_seconds(&image.record));
        written(tar::write_header(out, "blobs/", 0, newest))?;
        written(tar::write_header(out, "blobs/sha256/", 0, 0))?;
        for (hex, blob) in &blobs {
            let name = format!("blobs/sha256/{hex}");
            match &blob.content {
                Content::Bytes(bytes) => written(write_file(out, &name, bytes, blob.mtime))?,
                Content::Layer(dir, size) => {
                    written(tar::write_header(out, &name, *size, blob.mtime))?;
                    write_layer(dir, *size, hex, out)?;
                    written(tar::write_padding(out, *size))?;
                }
            }
        }
        for (name, bytes) in &documents {
            written(write_file(out, name, bytes, 0))?;
        }
        written(tar::finish(out).and_then(|()| out.flush()))
    }
}

fn write_file(out: &mut dyn Write, name: &str, bytes: &[u8], mtime: i64) -> io::Result<()> {
    tar::write_header(out, name, bytes.len() as u64, mtime)?;
    out.write_all(bytes)?;
    tar::write_padding(out, bytes.len() as u64)
}

/// Writes a layer's tar, made on one thread and checked on another.
pub(crate) fn write_layer(
    dir: &std::path::Path,
    size: u64,
    hex: &str,
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let (sender, [to_hash, mut to_write]) = ChunkSender::pair();
    let (made, digest, copied) = std::thread::scope(|scope| {
        let maker = scope.spawn(move || -> io::Result<()> {
            recipe::write_tar(dir, &mut ChunkWriter::new(&sender))?;
            sender.end();
            Ok(())
        });
        let hasher = scope.spawn(move || hash(to_hash));
        let copied = copy(&mut to_write, out);
        // Lets the maker end when the copy ended early.
        drop(to_write);
        (maker.join(), hasher.join(), copied)
    });
    let panicked = |_| StoreError::Damaged("a thread that saves a layer panicked".to_owned());
    match made.map_err(panicked)? {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(StoreError::io("read", dir)(error));
        }
        _ => {}
    }
    let copied = copied.map_err(StoreError::Stream)?;
    let digest = digest.map_err(panicked)?.map_err(StoreError::Stream)?;
    if copied != size || digest.hex() != hex {
        return Err(StoreError::Damaged(format!(
            "layer sha256:{hex} was changed on disk; its tar now has {digest}"
        )));
    }
    Ok(())
}

fn copy(input: &mut ChunkReader, out: &mut dyn Write) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(copied);
        }
        out.write_all(bytes)?;
        let n = bytes.len();
        copied += n as u64;
        input.consume(n);
    }
}

fn hash(mut input: ChunkReader) -> io::Result<Digest> {
    let mut hasher = Algorithm::Sha256.hasher();
    copy(&mut input, &mut hasher)?;
    Ok(hasher.finish())
}
