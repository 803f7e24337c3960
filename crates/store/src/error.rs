//! Why the store refused.

use std::io;
use std::path::{Path, PathBuf};

use wharf_spec::digest::DigestError;
use wharf_spec::platform::PlatformError;
use wharf_spec::reference::ReferenceError;

use crate::unpack::{UnpackError, errno_text};

/// Why the store refused. Texts are Docker's where Docker has one.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such image.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// No layers are kept for this container.
    #[error("no layers of container {0} are stored")]
    NoSuchContainer(String),
    /// Not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Not a platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The request contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// Nothing matches the request.
    #[error("{0}")]
    NotFound(String),
    /// An archive that is not what it claims to be.
    #[error("{0}")]
    Archive(String),
    /// More layers than the storage driver can stack.
    #[error("max depth exceeded")]
    TooDeep,
    /// Reading the archive failed.
    #[error("{}", errno_text(.0))]
    Stream(#[source] io::Error),
    /// A layer could not be unpacked.
    #[error(transparent)]
    Unpack(UnpackText),
    /// A file of the store.
    #[error("{what} {}: {}", path.display(), errno_text(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The storage driver.
    #[error(transparent)]
    Driver(#[from] crate::drivers::DriverError),
    /// The database.
    #[error("database of images: {0}")]
    Database(#[source] rusqlite::Error),
    /// The database found no room. A full disk has one text, whoever finds it full.
    #[error("write the database of images: no space left on device")]
    DatabaseFull,
    /// Something stored is damaged.
    #[error("{0}")]
    Damaged(String),
}

/// What went wrong with which entry of a layer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnpackText(#[source] UnpackError);

/// What kind of answer an error calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// 404
    NotFound,
    /// 400
    Invalid,
    /// 409
    Conflict,
    /// 500
    Internal,
}

impl StoreError {
    /// What kind of answer this calls for.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::NoSuchImage(_)
            | StoreError::NoSuchContainer(_)
            | StoreError::NotFound(_) => ErrorKind::NotFound,
            StoreError::Reference(_)
            | StoreError::Digest(_)
            | StoreError::Platform(_)
            | StoreError::Invalid(_) => ErrorKind::Invalid,
            StoreError::Conflict(_) => ErrorKind::Conflict,
            _ => ErrorKind::Internal,
        }
    }

    /// Whether the disk is full, or the quota.
    pub(crate) fn is_out_of_space(&self) -> bool {
        let source = match self {
            StoreError::Unpack(UnpackText(
                UnpackError::Entry { source, .. } | UnpackError::Layer { source, .. },
            )) => source,
            StoreError::Io { source, .. } | StoreError::Stream(source) => source,
            StoreError::DatabaseFull => return true,
            _ => return false,
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn archive(text: impl Into<String>) -> StoreError {
        StoreError::Archive(text.into())
    }
}

impl From<UnpackError> for StoreError {
    fn from(error: UnpackError) -> StoreError {
        StoreError::Unpack(UnpackText(error))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::DatabaseFull,
            _ => StoreError::Database(error),
        }
    }
}
