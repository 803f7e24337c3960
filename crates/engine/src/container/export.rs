//! `GET /containers/{id}/export`: a container's root file system as a tar, without what is mounted in it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::mount::{OpenTreeFlags, open_tree};
use wharf_archive::pack::{Options, Owners, Packer};
use wharf_archive::pieces::Pieces;
use wharf_archive::root::{Descriptors, Root};

use super::root_view::{RootView, path_of};
use crate::{Engine, Error, Result};

/// An export that is about to be written.
#[derive(Debug)]
pub struct Export {
    root: OwnedFd,
    owners: Owners,
}

impl Engine {
    /// Opens a container's root for [`Export::write`].
    pub async fn container_export(&self, name: &str) -> Result<Export> {
        let container = self.containers.get(name)?;
        let mut owners = Owners::default();
        let root = if container.live().is_some() {
            let fs = self.enter(&container).await?;
            owners = fs.owners();
            crate::blocking(move || fs.run(bare_root)?.map_err(failed)).await?
        } else {
            let rootfs = self.store.rootfs(&container.id)?;
            crate::blocking(move || {
                let view = RootView::read_only(&rootfs).map_err(failed)?;
                view.open("/").map_err(failed)
            })
            .await?
        };
        self.tell(&container, "export", &[]);
        Ok(Export { root, owners })
    }
}

fn failed(error: io::Error) -> Error {
    Error::caused("export", error)
}

/// The root's own mount, without those on it. It stays when the container ends.
fn bare_root(root: &Root) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(root, "", flags)?)
}

impl Export {
    /// Writes the tar in pieces. Blocking.
    pub fn write(self, send: impl FnMut(Vec<u8>) -> io::Result<()>) -> Result<()> {
        let descriptors = Descriptors::open().map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path_of(&self.root), flags, rustix::fs::Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        let mut packer = Packer::new(Pieces::new(send), descriptors, Options::default())
            .with_owners(self.owners);
        packer
            .directory(dir, None)
            .and_then(|()| packer.finish())
            .map_err(failed)
    }
}
