//! All files of an image as one tar: what `build --output type=local` and `type=tar` want.

use std::io::Write;

use wharf_archive::pack::{Options, Packer};
use wharf_archive::pieces::Pieces;
use wharf_archive::root::Root;

use crate::container::root_view::RootView;
use crate::{Engine, Error, Result};

impl Engine {
    /// The ID of an image.
    pub fn image_inspect_id(&self, name: &str) -> Result<String> {
        Ok(self.store.image(name)?.id.to_string())
    }

    /// Writes the merged files of an image. Blocking.
    pub fn image_files(&self, name: &str, out: &mut dyn Write) -> Result<()> {
        let image = self.store.image(name)?;
        let held = self.store.hold_layers(&image.id)?;
        let failed = |error: std::io::Error| Error::caused("read the image's files", error);
        if held.dirs.is_empty() {
            return wharf_archive::tar::finish(out).map_err(failed);
        }
        let root = RootView::of_layers(&held.dirs).map_err(failed)?;
        let descriptors = wharf_archive::root::Descriptors::open().map_err(failed)?;
        let root = Root::new(root, descriptors.clone());
        let directory = root.open_dir(b".").map_err(|errno| failed(errno.into()))?;
        let mut packer = Packer::new(Pieces::into_writer(out), descriptors, Options::default());
        packer.directory(directory, None).map_err(failed)?;
        packer.finish().map_err(failed)
    }
}
