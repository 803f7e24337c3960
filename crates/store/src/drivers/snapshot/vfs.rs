//! Plain directories, copied file by file: works everywhere, shares nothing but what the file system shares by itself (btrfs and XFS do).

use std::io;
use std::path::Path;

use rustix::fs::Mode;

use super::Backend;
use crate::drivers::gone;
use crate::quota::ProjectQuotas;
use crate::tree::copy_directory;

/// See the module.
#[derive(Debug)]
pub struct Vfs {
    /// Where the file system can limit directories.
    quotas: Option<ProjectQuotas>,
    /// Limit of containers that say none.
    size: Option<u64>,
}

impl Vfs {
    /// The driver for `home`, which this makes. `size`: bytes of containers that do not say themselves.
    pub fn open(home: &Path, size: Option<u64>) -> io::Result<Vfs> {
        std::fs::create_dir_all(home)?;
        let quotas = ProjectQuotas::open(home)?;
        let size = size.filter(|size| *size > 0);
        if size.is_some() && quotas.is_none() {
            return Err(no_quota());
        }
        Ok(Vfs { quotas, size })
    }
}

/// Docker's words (moby `quota.ErrQuotaNotSupported`).
fn no_quota() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "Filesystem does not support, or has not enabled quotas",
    )
}

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
        if let Some(quotas) = &self.quotas {
            quotas.release(tree)?;
        }
        gone(std::fs::remove_dir_all(tree))
    }

    fn create_container(
        &self,
        from: Option<&Path>,
        tree: &Path,
        size: Option<u64>,
    ) -> io::Result<()> {
        let limit = size.or(self.size);
        let quotas = match (limit, &self.quotas) {
            (Some(_), None) => return Err(no_quota()),
            (_, quotas) => quotas.as_ref(),
        };
        self.create(tree)?;
        // While it is empty: only what is made from now on belongs to the project.
        if let Some((quotas, bytes)) = quotas.zip(limit) {
            quotas.limit(tree, bytes)?;
        }
        match from {
            Some(from) => copy_directory(from, tree),
            None => Ok(()),
        }
    }

    fn limit(&self, _tree: &Path, _bytes: u64) -> io::Result<()> {
        Err(no_quota())
    }
}
