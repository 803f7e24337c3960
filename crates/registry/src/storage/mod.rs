//! Where bytes lie: a local directory, or an object store. Small objects by key, blobs by digest, uploads by id.
//!
//! Keys are made by [`keys`] from checked names only. Everything that is acknowledged is in the store: replicas share nothing else.

pub mod cloud;
pub mod keys;
pub mod local;
mod retry;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use wharf_spec::digest::{Digest, Hasher};

pub use cloud::Cloud;
pub use local::Local;

/// Why the store could not do it. "Not there" is no failure: readers answer `None`.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A file.
    #[error("{what} {key} failed")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which key.
        key: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// An object.
    #[error("{what} {key} failed")]
    Object {
        /// What was tried.
        what: &'static str,
        /// On which key.
        key: String,
        /// Cause.
        #[source]
        source: object_store::Error,
    },
    /// The disk or the quota of the disk is full.
    #[error("no space left")]
    NoSpace,
    /// The file system is mounted read-only.
    #[error("the store is read-only")]
    ReadOnly,
    /// An entry of the store that makes no sense.
    #[error("{key} is damaged: {reason}")]
    Damaged {
        /// Which one.
        key: String,
        /// In which way.
        reason: String,
    },
    /// The sender of an upload went away; what came is kept.
    #[error("the upload was cut off")]
    CutOff(#[source] std::io::Error),
}

impl StorageError {
    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, StorageError::Object { .. })
    }

    pub(crate) fn io(what: &'static str, key: &str, source: std::io::Error) -> StorageError {
        match source
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error)
        {
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => StorageError::NoSpace,
            Some(rustix::io::Errno::ROFS) => StorageError::ReadOnly,
            _ => StorageError::Io {
                what,
                key: key.to_owned(),
                source,
            },
        }
    }
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// In bytes.
    pub size: u64,
    /// When it was written or touched.
    pub modified: SystemTime,
}

impl Stat {
    /// How long ago it was written or touched.
    pub fn age(&self) -> Duration {
        SystemTime::now()
            .duration_since(self.modified)
            .unwrap_or_default()
    }
}

/// One object below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key without the prefix.
    pub name: String,
    /// Size and time.
    pub stat: Stat,
}

/// A blob that is there.
#[derive(Debug)]
pub struct Blob {
    /// In bytes.
    pub size: u64,
    /// Where to read it.
    pub source: BlobSource,
}

/// Where a blob's bytes come from.
#[derive(Debug)]
pub enum BlobSource {
    /// An open file: the kernel can send it.
    File(std::fs::File),
    /// An object, by key.
    Object(Cloud, String),
}

/// What an upload hashes while it writes; `None` once nobody knows the beginning.
pub type RunningHash = Option<Hasher>;

/// The two kinds of stores.
#[derive(Debug, Clone)]
pub enum Storage {
    /// A directory.
    Local(Local),
    /// S3, GCS, Azure.
    Cloud(Cloud),
}

/// Calls the same method of whichever store it is.
impl Storage {
    /// A small object's content.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        match self {
            Storage::Local(local) => local.get(key),
            Storage::Cloud(cloud) => cloud.get(key).await,
        }
    }

    /// Size and time of an object.
    pub async fn stat(&self, key: &str) -> Result<Option<Stat>, StorageError> {
        match self {
            Storage::Local(local) => local.stat(key),
            Storage::Cloud(cloud) => cloud.stat(key).await,
        }
    }

    /// Writes a small object, whole or not at all; it survives loss of power once this returns.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        match self {
            Storage::Local(local) => local.put(key, bytes).await,
            Storage::Cloud(cloud) => cloud.put(key, bytes).await,
        }
    }

    /// Writes a small object unless there is one; tells whether it did.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, StorageError> {
        match self {
            Storage::Local(local) => local.put_new(key, bytes).await,
            Storage::Cloud(cloud) => cloud.put_new(key, bytes).await,
        }
    }

    /// Removes an object; tells whether there was one (an object store may not know, and then says yes).
    pub async fn delete(&self, key: &str) -> Result<bool, StorageError> {
        match self {
            Storage::Local(local) => local.delete(key).await,
            Storage::Cloud(cloud) => cloud.delete(key).await,
        }
    }

    /// All objects below a prefix (which ends with a slash), by name.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StorageError> {
        match self {
            Storage::Local(local) => local.list(prefix).await,
            Storage::Cloud(cloud) => cloud.list(prefix).await,
        }
    }

    /// A blob, ready to be read.
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, StorageError> {
        match self {
            Storage::Local(local) => local.open_blob(digest),
            Storage::Cloud(cloud) => cloud.open_blob(digest).await,
        }
    }

    /// When a blob was last promised to somebody. `None`: never, or not there.
    pub async fn lease(&self, digest: &Digest) -> Result<Option<Stat>, StorageError> {
        match self {
            // The file's own time: one system call, nothing to keep in step.
            Storage::Local(local) => local.stat(&keys::blob(digest)),
            Storage::Cloud(cloud) => match cloud.stat(&keys::lease(digest)).await? {
                None => cloud.stat(&keys::blob(digest)).await,
                some => Ok(some),
            },
        }
    }

    /// Promises a blob to somebody from now on.
    pub async fn renew_lease(&self, digest: &Digest) -> Result<(), StorageError> {
        match self {
            Storage::Local(local) => local.touch(&keys::blob(digest)),
            Storage::Cloud(cloud) => cloud.put(&keys::lease(digest), Bytes::new()).await,
        }
    }

    /// A URL of the store itself under which a blob can be read for a while.
    pub async fn redirect(&self, digest: &Digest) -> Option<String> {
        match self {
            Storage::Local(_) => None,
            Storage::Cloud(cloud) => cloud.signed_url(&keys::blob(digest)).await,
        }
    }
}
