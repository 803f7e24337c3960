//! What a registry has, over a store: repositories, tags, manifests, blobs, uploads. Knows nothing of HTTP.
//!
//! Order is what keeps this right when anything dies at any moment: content before what names it, a manifest before its tag; and the other
//! way round when something goes. Every digest that a client is told is here is first promised (see [`lease`]).

pub mod blobs;
pub mod catalog;
pub mod index;
pub mod lease;
pub mod manifests;
pub mod referrers;
pub mod tags;
pub mod uploads;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use wharf_spec::digest::Digest;

use crate::storage::{Storage, StorageError};

/// Why content could not be given or taken.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No such repository.
    #[error("repository name not known to registry")]
    NameUnknown,
    /// No such manifest or tag.
    #[error("manifest unknown")]
    ManifestUnknown,
    /// No such blob.
    #[error("blob unknown to registry")]
    BlobUnknown,
    /// No such upload.
    #[error("blob upload unknown to registry")]
    UploadUnknown,
    /// Somebody else writes to it.
    #[error("another request is writing to this upload")]
    UploadBusy,
    /// A chunk does not begin where the upload ends.
    #[error("the chunk begins at {start}, but the upload is at {offset}")]
    OutOfOrder {
        /// Where the chunk begins.
        start: u64,
        /// Where the upload ends.
        offset: u64,
    },
    /// The bytes have another digest.
    #[error("provided digest did not match uploaded content")]
    DigestMismatch,
    /// Another size than was said.
    #[error("the content is larger than {0} bytes")]
    TooLarge(u64),
    /// A manifest names content that is not here.
    #[error("blob unknown to registry")]
    References(Vec<Digest>),
    /// It is no manifest.
    #[error(transparent)]
    Manifest(#[from] crate::manifest::ManifestError),
    /// The repository is full.
    #[error("the repository may hold {quota} bytes and has {used}; {more} more do not fit")]
    Quota {
        /// Most bytes.
        quota: u64,
        /// Now.
        used: u64,
        /// Wanted.
        more: u64,
    },
}

/// What the content is configured with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// See [`lease`].
    pub lease: Duration,
    /// Whether manifests may name what is not here.
    pub sparse: bool,
    /// Largest blob; 0: no limit.
    pub max_blob: u64,
    /// Most bytes per repository.
    pub quotas: Vec<crate::config::Quota>,
}

impl Settings {
    /// From the configuration.
    pub fn of(config: &crate::config::Config) -> Settings {
        Settings {
            lease: config.gc.lease,
            sparse: config.storage.sparse,
            max_blob: config.http.max_blob_size,
            quotas: config.quotas.clone(),
        }
    }
}

/// The content of one registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Content(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Storage,
    settings: Settings,
    leases: lease::Known,
    repositories: catalog::Known,
    manifests: manifests::Cache,
    uploads: uploads::Sessions,
    usage: usage::Known,
    changed: tokio::sync::Notify,
}

impl Content {
    /// Over a store.
    pub fn new(storage: Storage, settings: Settings) -> Content {
        Content(Arc::new(Inner {
            storage,
            settings,
            leases: lease::Known::default(),
            repositories: catalog::Known::default(),
            manifests: manifests::Cache::default(),
            uploads: uploads::Sessions::default(),
            usage: usage::Known::default(),
            changed: tokio::sync::Notify::new(),
        }))
    }

    /// The store.
    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// Waits until a tag has changed here.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }
}
