//! What came of a blob so far, beside the stream: an attempt that is cut off, even by the death of the daemon, is gone on with and not begun
//! again. Nothing reads it unless that happens.
//!
//! ```text
//! <data-root>/partial/<digest>     the first bytes of the blob; when the layer is complete it is kept ([`crate::kept`]) or removed, as it is
//!                                  after a day
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use wharf_spec::digest::Digest;

use crate::store::Store;

/// The beginning of a blob. Nobody else has it open.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Store {
    /// What there is of a blob of `size` bytes; `None` when somebody else writes it, or the disk refuses.
    pub fn partial(&self, blob: &Digest, size: u64) -> Option<Partial> {
        let path = self.partial_dir.join(blob.hex());
        match Partial::open(path, size) {
            Ok(partial) => partial,
            Err(error) => {
                tracing::warn!(%blob, %error, "an interrupted download of this blob would have to begin again");
                None
            }
        }
    }

    /// Removes what was begun before `age` ago and never gone on with.
    pub fn remove_partial(&self, age: Duration) {
        let Ok(entries) = std::fs::read_dir(&*self.partial_dir) else {
            return;
        };
        for entry in entries.flatten() {
            let modified = entry.metadata().and_then(|file| file.modified());
            let old = modified
                .is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() >= age);
            if old {
                // One that is written at this moment stays open and harms nobody.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Partial {
    fn open(path: PathBuf, size: u64) -> io::Result<Option<Partial>> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut length = file.metadata()?.len();
        if length >= size {
            file.set_len(0)?;
            length = 0;
        }
        Ok(Some(Partial { path, file, length }))
    }

    /// Bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads what there is.
    pub fn reader(&self) -> io::Result<impl Read + Send + use<>> {
        let file = File::open(&self.path)?;
        Ok(BufReader::with_capacity(256 * 1024, file).take(self.length))
    }

    /// Begins again: what there was is wrong.
    pub fn clear(&mut self) -> io::Result<()> {
        self.length = 0;
        self.file.set_len(0)
    }

    /// Adds the next bytes. Not synced: after a loss of power the digest decides.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Gives what there is another name.
    pub(crate) fn rename(self, to: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, to)
    }

    /// It is not needed any more.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "left for its day to end");
        }
    }
}
