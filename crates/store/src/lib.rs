//! Images on disk: content store, layers, image records, snapshots for containers.
//!
//! In: archives and, later, registry blobs. Out: image records, [`RootfsMount`]s, exact tars again. Blocking code, no async.
//! Promises: each byte of image data once; a kill at any instant leaves nothing that [`Store::open`] does not clear away.
//! Leaves to others: containers' configuration, JSON of the API, who may remove what.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use wharf_spec::rootfs::RootfsMount;

/// Where and how to store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Directory of all state.
    pub data_root: PathBuf,
}

/// All image data of one data root.
#[derive(Debug)]
pub struct Store {}

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such image; the text is Docker's.
    #[error("No such image: {0}")]
    NoSuchImage(String),
}

/// One image.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// `sha256:…` of the image config.
    pub id: wharf_spec::digest::Digest,
    /// The parsed image config.
    pub config: std::sync::Arc<wharf_spec::image::ImageConfiguration>,
}

impl Store {
    /// Opens or creates; removes what no row refers to.
    pub fn open(_config: StoreConfig) -> Result<Store, StoreError> {
        Ok(Store {})
    }

    /// Finds an image by reference, full id, id prefix or digest reference.
    pub fn image(&self, name: &str) -> Result<ImageRecord, StoreError> {
        Err(StoreError::NoSuchImage(name.to_owned()))
    }

    /// Creates the `<layer>-init` and read-write layers of a container. `image` is an image ID.
    pub fn create_rw(&self, _container_id: &str, image: &str) -> Result<(), StoreError> {
        Err(StoreError::NoSuchImage(image.to_owned()))
    }

    /// How to mount the container's root.
    pub fn rootfs(&self, container_id: &str) -> Result<RootfsMount, StoreError> {
        Err(StoreError::NoSuchImage(container_id.to_owned()))
    }

    /// `GraphDriver` of inspect: driver name and its data (LowerDir, MergedDir, UpperDir, WorkDir).
    pub fn graph_driver(&self, container_id: &str) -> Result<(String, BTreeMap<String, String>), StoreError> {
        Err(StoreError::NoSuchImage(container_id.to_owned()))
    }

    /// Bytes in the read-write layer, and bytes of the whole root.
    pub fn rw_size(&self, container_id: &str) -> Result<(u64, u64), StoreError> {
        Err(StoreError::NoSuchImage(container_id.to_owned()))
    }

    /// Removes a container's init and read-write layers. Safe to repeat.
    pub fn remove_rw(&self, _container_id: &str) -> Result<(), StoreError> {
        Ok(())
    }
}
