//! What a container has written becomes a layer above its image.
//!
//! The read-write layer is read once: its tar goes piece by piece to the thread that hashes and to the one that writes the new
//! layer, so that the container may go on changing its own. A kill leaves a directory without a row, which the next start removes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use wharf_archive::compression::Compression;
use wharf_archive::pack::{Options, Packer};
use wharf_archive::pieces::Pieces;
use wharf_archive::root::{Descriptors, Root};
use wharf_spec::digest::{DiffId, Digest};

use crate::changes::{self, Kind};
use crate::drivers::Difference;
use crate::error::StoreError;
use crate::pipeline::{Pipeline, Staged};
use crate::store::{Pins, Store};

/// Digest of a tar without entries: 1024 zeros. A step that changed nothing adds no layer (moby `layer.IsEmpty`).
pub(crate) const EMPTY: &str =
    "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// What was found in a read-write layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layered {
    /// The new layer; `None` if nothing was changed.
    pub diff: Option<DiffId>,
}

impl Store {
    /// Makes an image of a container's image and what the container has written. `config` makes the image config; its layers are the
    /// image's and the new one. Returns the ID.
    pub fn commit(
        &self,
        container_id: &str,
        config: impl FnOnce(&Layered) -> Vec<u8>,
    ) -> Result<Digest, StoreError> {
        let parent = self.with_container(container_id, |_, layer| layer.parent.clone())?;
        let mut pins = Pins::new(self);
        if let Some(parent) = &parent {
            pins.pin(parent);
        }
        let staged = self.stage_written(container_id)?;
        let layered = Layered {
            diff: (staged.diff.0.as_str() != EMPTY).then(|| staged.diff.clone()),
        };
        let raw = config(&layered);
        if layered.diff.is_some() {
            self.register_layer(staged, parent.as_ref(), &mut pins)?;
        }
        self.add_image(&raw)
    }

    fn stage_written(&self, id: &str) -> Result<Staged, StoreError> {
        // Some drivers have the container's tree only while it is made ready.
        self.rootfs(id)?;
        let difference = self.difference(id)?;
        let path = match &difference {
            Difference::Upper { upper, .. } => upper.clone(),
            Difference::Trees { new, .. } => new.clone(),
        };
        let descriptors = Descriptors::open().map_err(StoreError::io("open", &path))?;
        let pipeline = Pipeline::start(self, Compression::None)?;
        let out = Pieces::new(|piece| {
            pipeline
                .send(piece)
                .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
        });
        let options = Options {
            overlay: matches!(difference, Difference::Upper { .. }),
            sparse: true,
            skip_kernel: false,
        };
        let mut packer = Packer::new(out, descriptors, options);
        let packed = match &difference {
            Difference::Upper { upper, .. } => {
                open_dir(upper).and_then(|dir| packer.directory(dir, None))
            }
            Difference::Trees { new, old } => pack_changes(&mut packer, new, old.as_deref()),
        };
        match packed.and_then(|()| packer.finish()) {
            // The pipeline knows why it stopped taking pieces.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(StoreError::io("read", &path)(error))
            }
            _ => pipeline.finish(),
        }
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Only what differs, and marks of what is gone.
fn pack_changes(packer: &mut Packer<'_>, new: &Path, old: Option<&Path>) -> io::Result<()> {
    let root = Root::at(new)?;
    for change in changes::of_trees(new, old)? {
        let path = change.path.as_slice();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if change.kind == Kind::Deleted {
            packer.removed(path)?;
            continue;
        }
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = path.split_at(slash.map_or(0, |slash| slash + 1));
        let parent = root.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        packer.single(parent.as_fd(), name, path)?;
    }
    Ok(())
}
