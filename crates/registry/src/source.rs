//! Content that is not in a store of ours but can be served: an engine's images.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use wharf_spec::digest::Digest;

use crate::content::manifests::Stored;
use crate::name::{RepoName, Target};

/// A stream of bytes of known length.
pub struct Layer {
    /// In bytes.
    pub size: u64,
    /// The bytes.
    pub bytes: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
}

/// An answer that takes a while.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Somebody else's images, read-only. Errors are sentences.
pub trait Source: Debug + Send + Sync {
    /// All repositories, sorted.
    fn repositories(&self) -> Later<'_, Vec<RepoName>>;
    /// The tags of one, sorted; `None`: no such repository.
    fn tags<'a>(&'a self, repo: &'a RepoName) -> Later<'a, Option<Vec<String>>>;
    /// A manifest.
    fn manifest<'a>(&'a self, repo: &'a RepoName, target: &'a Target) -> Later<'a, Option<Stored>>;
    /// The size of a blob.
    fn blob_size<'a>(&'a self, repo: &'a RepoName, digest: &'a Digest) -> Later<'a, Option<u64>>;
    /// A blob from an offset on.
    fn blob<'a>(
        &'a self,
        repo: &'a RepoName,
        digest: &'a Digest,
        offset: u64,
    ) -> Later<'a, Option<Layer>>;
}
