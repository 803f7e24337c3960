//! Btrfs subvolumes: a layer above another is a snapshot, made in no time and sharing all it has not changed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use wharf_sys::btrfs;

use super::Backend;

/// `BTRFS_SUPER_MAGIC` of `statfs(2)`.
const MAGIC: i64 = 0x9123_683e;

/// See the module.
#[derive(Debug)]
pub struct Btrfs {
    /// The least that a container may be limited to.
    min_space: u64,
}

impl Btrfs {
    /// The driver; `min_space` is the least that a container may be limited to.
    #[must_use]
    pub fn new(min_space: Option<u64>) -> Btrfs {
        Btrfs {
            min_space: min_space.unwrap_or(0),
        }
    }

    /// Whether `dir` lies on btrfs.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        rustix::fs::statfs(dir).is_ok_and(|statfs| statfs.f_type == MAGIC)
    }
}

impl Backend for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn status(&self) -> Vec<(String, String)> {
        vec![("Btrfs".to_owned(), String::new())]
    }

    fn is_in_place(&self) -> bool {
        true
    }

    fn create(&self, tree: &Path) -> io::Result<()> {
        let (parent, name) = split(tree)?;
        btrfs::create_subvolume(parent, name)?;
        Ok(rustix::fs::chmod(tree, Mode::from_raw_mode(0o755))?)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (parent, name) = split(to)?;
        btrfs::snapshot(open(from)?, parent, name)
    }

    fn remove(&self, tree: &Path) -> io::Result<()> {
        let (parent, name) = match split(tree) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            split => split?,
        };
        match btrfs::delete_subvolume(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // The container made subvolumes of its own inside, or it is no subvolume: a plain walk removes both.
            Err(_) => crate::drivers::gone(std::fs::remove_dir_all(tree)),
            Ok(()) => Ok(()),
        }
    }

    fn limit(&self, tree: &Path, bytes: u64) -> io::Result<()> {
        if bytes < self.min_space {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "btrfs: storage size cannot be less than {} bytes (btrfs.min_space)",
                    self.min_space
                ),
            ));
        }
        let tree = open(tree)?;
        btrfs::enable_quota(&tree)?;
        btrfs::limit_subvolume(&tree, bytes)
    }
}

/// The directory of a tree, open, and its name in there.
fn split(tree: &Path) -> io::Result<(OwnedFd, &str)> {
    let parts = tree.parent().zip(tree.file_name().and_then(|n| n.to_str()));
    let (parent, name) = parts.ok_or(io::ErrorKind::InvalidInput)?;
    Ok((open(parent)?, name))
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}
