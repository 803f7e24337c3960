//! One pass over an archive: layers are unpacked as they come, small files are kept, for what they mean is known only at the end.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, Read};

use wharf_spec::digest::{DiffId, Digest};

use super::LoadEvent;
use crate::chunk::CHUNK;
use crate::error::StoreError;
use crate::pipeline::{Pipeline, Staged};
use crate::store::{Pins, Store};
use wharf_archive::compression::{Compression, MAGIC_LEN};
use wharf_archive::tar::{BLOCK, Entry, Kind, TarReader, is_header};

/// Longest file kept in memory; manifests and configs are far below.
const MAX_SMALL: u64 = 8 << 20;
/// All of them together.
const MAX_SMALL_TOTAL: u64 = 64 << 20;
/// Layers being unpacked at a time: while one finishes, the next is read.
const PARALLEL: usize = 2;

/// What an archive holds.
#[derive(Debug)]
pub(super) struct Contents {
    files: HashMap<String, Vec<u8>>,
    links: HashMap<String, String>,
    pub(super) blobs: HashMap<String, Blob>,
    /// Keeps layers that were not read again.
    pub(super) pins: Pins,
}

/// A layer in an archive.
#[derive(Debug)]
pub(super) enum Blob {
    /// Unpacked.
    Staged(Box<Staged>),
    /// A layer of this content is stored already.
    Known(DiffId),
    /// Could not be unpacked; matters only if an image wants it.
    Bad(StoreError),
}

impl Contents {
    /// A small file, followed through links inside the archive.
    pub(super) fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(&self.resolve(name)).map(Vec::as_slice)
    }

    /// The name a layer is known under; archives of old engines link equal layers to one.
    pub(super) fn resolve(&self, name: &str) -> String {
        let mut name = clean(name);
        // Eight links are more than any engine makes, and end a cycle.
        for _ in 0..8 {
            let Some(target) = self.links.get(&name) else {
                break;
            };
            name = match name.rsplit_once('/') {
                Some((dir, _)) if !target.starts_with('/') => clean(&format!("{dir}/{target}")),
                _ => clean(target),
            };
        }
        name
    }
}

/// Reads a whole archive.
pub(super) fn read(
    store: &Store,
    input: impl Read + Send,
    progress: &mut dyn FnMut(LoadEvent),
) -> Result<Contents, StoreError> {
    // A single read may give less than the magic bytes.
    let (mut input, mut start) = (input, Vec::new());
    (&mut input)
        .take(MAGIC_LEN as u64)
        .read_to_end(&mut start)
        .map_err(StoreError::Stream)?;
    let compression = Compression::detect(&start);
    let input = BufReader::with_capacity(BLOCK, io::Cursor::new(start).chain(input));
    let plain = compression
        .reader_within(input, store.settings().max_expansion)
        .map_err(StoreError::Stream)?;
    let mut tar = TarReader::new(BufReader::with_capacity(8 * BLOCK, plain));
    let mut reading = Reading {
        store,
        progress,
        small: 0,
        running: VecDeque::new(),
        contents: Contents {
            files: HashMap::new(),
            links: HashMap::new(),
            blobs: HashMap::new(),
            pins: Pins::new(store),
        },
    };
    while let Some(entry) = tar.next(&mut ()).map_err(StoreError::Stream)? {
        reading.entry(&mut tar, &entry)?;
    }
    // The sender must not see a closed connection before it has sent everything.
    tar.drain(&mut ()).map_err(StoreError::Stream)?;
    reading.finish()
}

struct Reading<'a> {
    store: &'a Store,
    progress: &'a mut dyn FnMut(LoadEvent),
    small: u64,
    running: VecDeque<(String, Pipeline)>,
    contents: Contents,
}

impl Reading<'_> {
    fn entry<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        let name = clean(&String::from_utf8_lossy(&entry.path));
        match entry.kind {
            Kind::File if entry.sparse.is_none() => self.file(tar, entry, name)?,
            Kind::Symlink => drop(
                self.contents
                    .links
                    .insert(name, String::from_utf8_lossy(&entry.link).into_owned()),
            ),
            Kind::HardLink => {
                let target = format!("/{}", String::from_utf8_lossy(&entry.link));
                self.contents.links.insert(name, target);
            }
            _ => {}
        }
        tar.data_as_raw(&mut ()).map_err(StoreError::Stream)
    }

    fn file<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &Entry,
        name: String,
    ) -> Result<(), StoreError> {
        let start = tar.take_data(CHUNK).map_err(StoreError::Stream)?;
        let compression = Compression::detect(&start);
        if compression == Compression::None && !is_tar(&start) {
            return self.small_file(tar, entry, name, start);
        }
        if compression == Compression::None
            && let Some(diff) = self.known(&name)
        {
            self.contents.blobs.insert(name, Blob::Known(diff));
            return Ok(());
        }
        self.layer(tar, entry, name, compression, start)
    }

    fn small_file<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &Entry,
        name: String,
        mut bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.small += entry.size;
        if entry.size > MAX_SMALL || self.small > MAX_SMALL_TOTAL {
            let error = StoreError::archive(format!(
                "invalid archive: {name} is no layer and too large for anything else"
            ));
            self.contents.blobs.insert(name, Blob::Bad(error));
            return Ok(());
        }
        loop {
            let more = tar.take_data(CHUNK).map_err(StoreError::Stream)?;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        self.contents.files.insert(name, bytes);
        Ok(())
    }

    /// A plain layer in an OCI layout tells its diff ID by its name. If such a layer is stored, it need not be read.
    fn known(&mut self, name: &str) -> Option<DiffId> {
        let diff = DiffId(blob_digest(name)?);
        self.contents.pins.pin_by_diff(&diff).then_some(diff)
    }

    fn layer<R: std::io::BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &Entry,
        name: String,
        compression: Compression,
        start: Vec<u8>,
    ) -> Result<(), StoreError> {
        while self.running.len() >= PARALLEL {
            self.join_oldest()?;
        }
        let id = short_id(&name);
        let pipeline = Pipeline::start(self.store, compression)?;
        let (mut piece, mut current) = (start, 0);
        while !piece.is_empty() {
            current += piece.len() as u64;
            if pipeline.send(piece).is_err() {
                break;
            }
            (self.progress)(LoadEvent::Layer {
                id: id.clone(),
                current,
                total: entry.size,
            });
            piece = tar.take_data(CHUNK).map_err(StoreError::Stream)?;
        }
        self.running.push_back((name, pipeline));
        Ok(())
    }

    fn join_oldest(&mut self) -> Result<(), StoreError> {
        let Some((name, pipeline)) = self.running.pop_front() else {
            return Ok(());
        };
        let blob = match pipeline.finish() {
            Ok(staged) => checked(&name, staged),
            // A full disk will not get better by reading on.
            Err(error) if error.is_out_of_space() => return Err(error),
            Err(error) => Blob::Bad(error),
        };
        self.contents.blobs.insert(name, blob);
        Ok(())
    }

    fn finish(mut self) -> Result<Contents, StoreError> {
        while !self.running.is_empty() {
            self.join_oldest()?;
        }
        Ok(self.contents)
    }
}

/// In an OCI layout the name promises the content.
fn checked(name: &str, staged: Staged) -> Blob {
    match blob_digest(name) {
        Some(digest) if digest != staged.blob => Blob::Bad(StoreError::archive(format!(
            "invalid archive: blob {digest} has the digest {}",
            staged.blob
        ))),
        _ => Blob::Staged(Box::new(staged)),
    }
}

fn blob_digest(name: &str) -> Option<Digest> {
    Digest::from_sha256_hex(name.strip_prefix("blobs/sha256/")?).ok()
}

fn short_id(name: &str) -> String {
    let stem = name.strip_prefix("blobs/sha256/").unwrap_or(name);
    stem.chars().take(12).collect()
}

/// An empty layer is a tar of zeros.
fn is_tar(start: &[u8]) -> bool {
    start
        .get(..BLOCK)
        .is_some_and(|block| is_header(block) || block.iter().all(|b| *b == 0))
}

/// Removes `./`, doubled slashes and `..` that lead out.
fn clean(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
