//! Plain directories, copied file by file: works everywhere, shares nothing but what the file system shares by itself (btrfs and XFS do).

use std::io;
use std::path::Path;

use rustix::fs::Mode;

use super::Backend;
use crate::drivers::gone;
use crate::tree::copy_directory;

/// See the module.
#[derive(Debug)]
pub struct Vfs;

impl Backend for Vfs {
    fn name(&self) -> &'static str {
        "vfs"
    }

    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn is_in_place(&self) -> bool {
        true
    }

    fn create(&self, tree: &Path) -> io::Result<()> {
        std::fs::create_dir(tree)?;
        // The process's umask must not matter.
        Ok(rustix::fs::chmod(tree, Mode::from_raw_mode(0o755))?)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.create(to)?;
        copy_directory(from, to)
    }

    fn remove(&self, tree: &Path) -> io::Result<()> {
        gone(std::fs::remove_dir_all(tree))
    }

    fn limit(&self, _tree: &Path, _bytes: u64) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "--storage-opt is not supported for vfs: a plain directory cannot be limited; use the btrfs or zfs storage driver",
        ))
    }
}
