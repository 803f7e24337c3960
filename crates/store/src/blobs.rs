//! What registries call the things that are here: manifests of images, digests of compressed layers, and where they were seen.
//!
//! None of it is needed to run an image. With it, an image that was pulled is pushed with the digests it had.

use rusqlite::params;
use wharf_spec::digest::{DiffId, Digest};

use crate::error::StoreError;
use crate::store::Store;

/// Repositories remembered for one blob.
const MAX_SOURCES: i64 = 50;

/// A layer as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBlob {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Media type in the manifest.
    pub media_type: String,
}

/// A manifest as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Notes that a repository (`domain/path`) has a layer in this form.
    pub fn note_blob(
        &self,
        diff: &DiffId,
        blob: &KnownBlob,
        repository: &str,
    ) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now().as_millisecond();
        let mut state = self.state.lock();
        state.db.transaction(|rows| {
            rows.run(
                "INSERT OR REPLACE INTO blobs (diff, digest, size, media_type) VALUES (?1, ?2, ?3, ?4)",
                params![diff.0.as_str(), blob.digest.as_str(), blob.size.cast_signed(), blob.media_type],
            )?;
            rows.run(
                "INSERT OR REPLACE INTO blob_sources (digest, repository, seen) VALUES (?1, ?2, ?3)",
                params![blob.digest.as_str(), repository, now],
            )?;
            rows.run(
                "DELETE FROM blob_sources WHERE digest = ?1 AND repository NOT IN
                 (SELECT repository FROM blob_sources WHERE digest = ?1 ORDER BY seen DESC LIMIT ?2)",
                params![blob.digest.as_str(), MAX_SOURCES],
            )
        })?;
        Ok(())
    }

    /// A repository turned out not to have a blob any more.
    pub fn forget_source(&self, digest: &Digest, repository: &str) -> Result<(), StoreError> {
        let state = self.state.lock();
        state.db.rows().run(
            "DELETE FROM blob_sources WHERE digest = ?1 AND repository = ?2",
            params![digest.as_str(), repository],
        )?;
        Ok(())
    }

    /// The forms a layer is known in.
    pub fn known_blobs(&self, diff: &DiffId) -> Result<Vec<KnownBlob>, StoreError> {
        let state = self.state.lock();
        Ok(state.db.rows().blobs(diff)?)
    }

    /// Repositories a blob was seen in, the latest first.
    pub fn sources_of(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let state = self.state.lock();
        Ok(state.db.rows().sources(digest)?)
    }

    /// Notes the manifest an image came by.
    pub fn note_manifest(
        &self,
        image: &Digest,
        manifest: &KnownManifest,
    ) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now().as_millisecond();
        let mut state = self.state.lock();
        state.db.transaction(|rows| {
            rows.run(
                "INSERT OR REPLACE INTO manifests (digest, image, media_type, bytes) VALUES (?1, ?2, ?3, ?4)",
                params![
                    manifest.digest.as_str(),
                    image.as_str(),
                    manifest.media_type,
                    manifest.bytes
                ],
            )?;
            rows.run(
                "INSERT OR REPLACE INTO manifest_times (digest, seen) VALUES (?1, ?2)",
                params![manifest.digest.as_str(), now],
            )
        })?;
        Ok(())
    }

    /// The manifests an image came by, the latest first.
    pub fn manifests_of(&self, image: &Digest) -> Result<Vec<KnownManifest>, StoreError> {
        let state = self.state.lock();
        Ok(state.db.rows().manifests(image)?)
    }
}
