//! `GET /containers/{id}/export`: a container's root file system as a tar, without what is mounted in it.

use std::io::Write;
use std::os::fd::OwnedFd;

use super::root_view::{RootView, path_of};
use crate::{Engine, Error, Result};

/// An export that is about to be written.
#[derive(Debug)]
pub struct Export {
    root: OwnedFd,
}

impl Engine {
    /// Opens a container's root for [`Export::write`].
    pub async fn container_export(&self, name: &str) -> Result<Export> {
        let container = self.containers.get(name)?;
        let rootfs = self.store.rootfs(&container.id)?;
        let failed = |error| Error::caused("export", error);
        let root = crate::blocking(move || {
            let view = RootView::read_only(&rootfs).map_err(failed)?;
            view.open("/").map_err(failed)
        })
        .await?;
        self.tell(&container, "export", &[]);
        Ok(Export { root })
    }
}

impl Export {
    /// Writes the tar. Blocking.
    pub fn write(self, out: &mut dyn Write) -> Result<()> {
        let failed = |error| Error::caused("export", error);
        let mut archive = tar::Builder::new(out);
        archive.follow_symlinks(false);
        archive
            .append_dir_all("", path_of(&self.root))
            .map_err(failed)?;
        let out = archive.into_inner().map_err(failed)?;
        out.flush().map_err(failed)
    }
}
