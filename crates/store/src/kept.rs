//! Compressed layers as registries gave them, kept beside their files: with them an image that was pulled is pushed elsewhere with the digest it
//! had, even when the registry it came from is gone, and a damaged layer is made whole without a registry.
//!
//! ```text
//! <data-root>/blobs/<driver>/<digest>     the bytes of a layer's blob
//! ```
//!
//! They can always be done without, so they are the first to go: with their layer, and when the disk fills up. A download writes its bytes here
//! anyway, to be able to go on after a break ([`crate::partial`]): keeping them is a rename.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use wharf_spec::digest::Digest;

use crate::error::StoreError;
use crate::layer::Layer;
use crate::partial::Partial;
use crate::store::Store;

/// So much of the file system stays free of them, or a tenth of it if that is less.
const LEFT_FREE: u64 = 2 << 30;
/// All of them go when less is free, or less than a twentieth.
const FULL: u64 = 1 << 30;

/// Settings that can change while the store is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// Compressed layers are kept.
    pub keep_compressed: bool,
    /// How many times its size a compressed layer may expand to, once it is large; 0 for any.
    pub max_expansion: u64,
}

impl Default for StoreSettings {
    fn default() -> StoreSettings {
        StoreSettings {
            keep_compressed: true,
            max_expansion: wharf_archive::compression::MAX_EXPANSION,
        }
    }
}

impl Store {
    /// Changes the settings for what begins from now on.
    pub fn configure(&self, settings: StoreSettings) {
        *self.settings.write() = settings;
    }

    /// The settings of the moment.
    pub fn settings(&self) -> StoreSettings {
        *self.settings.read()
    }

    /// Whether a compressed layer of `size` bytes is to be kept.
    pub fn keeps_compressed(&self, size: u64) -> bool {
        self.settings().keep_compressed
            && free_of(&self.kept_dir)
                .is_some_and(|(free, all)| free.saturating_sub(size) > LEFT_FREE.min(all / 10))
    }

    /// Ends a download: what came of it is kept, if that is all of the blob, or removed.
    pub fn end_partial(&self, partial: Partial, blob: &Digest, size: u64) {
        if partial.length() != size || !self.keeps_compressed(0) {
            return partial.remove();
        }
        let kept = std::fs::create_dir_all(&*self.kept_dir)
            .and_then(|()| partial.rename(&self.kept_path(blob)));
        if let Err(error) = kept {
            tracing::warn!(%blob, %error, "compressed layer is not kept");
        }
    }

    /// A kept blob of `size` bytes. Its bytes are not verified.
    pub fn kept_blob(&self, blob: &Digest, size: u64) -> Option<File> {
        let file = File::open(self.kept_path(blob)).ok()?;
        let length = file.metadata().ok()?.len();
        (length == size).then_some(file)
    }

    /// Removes a kept blob. Safe to repeat.
    pub fn drop_kept(&self, blob: &Digest) {
        match std::fs::remove_file(self.kept_path(blob)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%blob, %error, "compressed layer is left for the next start")
            }
            _ => {}
        }
    }

    /// Removes blobs whose layers are gone, and all of them where they are not to be kept or the disk is nearly full.
    pub fn collect_kept(&self) -> Result<(), StoreError> {
        let full = free_of(&self.kept_dir).is_some_and(|(free, all)| free < FULL.min(all / 20));
        let wanted = if full || !self.settings().keep_compressed {
            HashSet::new()
        } else {
            self.state.lock().db.rows().blobs_of_layers()?
        };
        for blob in self.kept() {
            if !wanted.contains(&blob) {
                self.drop_kept(&blob);
            }
        }
        Ok(())
    }

    /// Digests of what is kept.
    pub(crate) fn kept(&self) -> Vec<Digest> {
        let names = names_in(&self.kept_dir);
        names
            .iter()
            .filter_map(|name| Digest::from_sha256_hex(name).ok())
            .collect()
    }

    /// The blobs of layers that were removed go with them, unless the same content is in another layer.
    pub(crate) fn drop_kept_of(&self, removed: &[Layer]) {
        if removed.is_empty() {
            return;
        }
        let state = self.state.lock();
        let mut gone = Vec::new();
        for layer in removed {
            if state.layer_by_diff(&layer.diff).is_none() {
                gone.extend(state.db.rows().blobs(&layer.diff).unwrap_or_default());
            }
        }
        drop(state);
        gone.iter().for_each(|blob| self.drop_kept(&blob.digest));
    }

    pub(crate) fn kept_path(&self, blob: &Digest) -> PathBuf {
        self.kept_dir.join(blob.hex())
    }
}

/// Names in a directory; none if there is no such directory.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Free bytes, and all bytes, of the file system a directory is or will be on.
fn free_of(dir: &Path) -> Option<(u64, u64)> {
    let existing = dir.ancestors().find(|dir| dir.exists())?;
    let figures = rustix::fs::statvfs(existing).ok()?;
    Some((
        figures.f_bavail * figures.f_frsize,
        figures.f_blocks * figures.f_frsize,
    ))
}
