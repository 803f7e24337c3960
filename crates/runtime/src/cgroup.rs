//! Control groups as directories: make, fill, read, freeze, kill, remove.
//!
//! All functions work on a [`CgroupPath`] alone, so whoever holds a plan can watch and clean up after a container
//! that somebody else started.

mod control;
mod stats;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use control::create;
pub(crate) use control::{make_birthplace, open_dir};
pub use stats::{BlockIoEntry, CgroupStats, CpuStats, MemoryStats, PidsStats, Stall};

/// Where a container's control group is. Part of the plan; all later operations work on it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupPath {
    /// One directory per hierarchy.
    V1(Vec<V1Dir>),
    /// One directory.
    V2(PathBuf),
}

/// A v1 directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V1Dir {
    /// Controllers of the hierarchy, e.g. `["cpu", "cpuacct"]` or `["name=systemd"]`; none: the unified hierarchy beside others.
    pub controllers: Vec<String>,
    /// Mount point of the hierarchy.
    pub mount: PathBuf,
    /// Absolute host path of the container's directory.
    pub dir: PathBuf,
}

impl V1Dir {
    /// Whether this is no v1 directory at all, but the hybrid layout's unified one.
    pub(crate) fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// Why a control group operation failed. Texts are runc's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A directory could not be made.
    #[error("mkdir {dir}: {source}")]
    Make {
        /// The directory.
        dir: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A value was refused.
    #[error(
        "failed to write {value:?}: write {file}: {}",
        crate::launch::errno_text(source)
    )]
    Write {
        /// The file.
        file: PathBuf,
        /// The value.
        value: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("read {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The device program was refused.
    #[error("failed to attach the device program to {dir}: {source}")]
    Devices {
        /// The cgroup directory.
        dir: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Processes did not leave in time.
    #[error("failed to remove cgroup {dir}: {source}")]
    Remove {
        /// The directory.
        dir: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The freezer is not available, or did not finish in time.
    #[error("unable to freeze {dir}: {why}")]
    Freeze {
        /// The directory.
        dir: PathBuf,
        /// Reason.
        why: &'static str,
    },
}

impl CgroupPath {
    /// The directory in which a controller is found.
    pub fn dir(&self, controller: &str) -> Option<&Path> {
        match self {
            CgroupPath::V1(dirs) => dirs
                .iter()
                .find(|d| d.controllers.iter().any(|c| c == controller))
                .map(|d| d.dir.as_path()),
            CgroupPath::V2(dir) => Some(dir),
        }
    }

    /// The unified directory: processes are born in it. On v1, the one of the hybrid layout.
    pub(crate) fn birthplace(&self) -> Option<&Path> {
        match self {
            CgroupPath::V1(dirs) => dirs
                .iter()
                .find(|d| d.is_unified())
                .map(|d| d.dir.as_path()),
            CgroupPath::V2(dir) => Some(dir),
        }
    }

    /// The directory whose list of processes is the container's: any hierarchy has them all.
    fn process_dir(&self) -> Option<&Path> {
        match self {
            CgroupPath::V1(dirs) => self
                .dir("pids")
                .or_else(|| dirs.first().map(|d| d.dir.as_path())),
            CgroupPath::V2(dir) => Some(dir),
        }
    }
}
