//! How a container's root file system is put together: decided by the store, carried out by the runtime.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A root file system as a plain value. Paths are absolute on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootfsMount {
    /// OverlayFS over read-only layers.
    Overlay {
        /// Read-only layers, topmost first; the container's init layer comes first of all.
        lower: Vec<PathBuf>,
        /// The read-write layer.
        upper: PathBuf,
        /// OverlayFS scratch directory, on the same file system as `upper`.
        work: PathBuf,
        /// Further mount options as `key` or `key=value`.
        options: Vec<String>,
    },
    /// A directory that is the root already (vfs and snapshot drivers, OCI bundles).
    Directory {
        /// The directory.
        path: PathBuf,
    },
}
