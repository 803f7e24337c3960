//! Images from archives: what `docker save`, BuildKit, skopeo and others write, in any order and with any compression.

mod archive;
mod commit;
mod docker;
mod oci;

use std::io::Read;

use wharf_spec::digest::Digest;
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;

use crate::error::StoreError;
use crate::store::Store;

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Only images for this platform.
    pub platform: Option<Platform>,
}

/// What happens while loading, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadEvent {
    /// Bytes of a layer have been read.
    Layer {
        /// Its short diff ID, or of the blob where that is all that is known.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// An image is in the store.
    Image {
        /// Its ID.
        id: Digest,
        /// The names it got.
        references: Vec<LoadedReference>,
    },
}

/// A name an image got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedReference {
    /// The name.
    pub reference: Reference,
    /// The image that had the name before.
    pub previous: Option<Digest>,
}

/// An image as an archive describes it.
#[derive(Debug)]
struct Item {
    config: Vec<u8>,
    /// Names of its layers' blobs in the archive, bottom first.
    layers: Vec<String>,
    tags: Vec<String>,
    parent: Option<Digest>,
}

impl Store {
    /// Takes in all images of an archive. `input` need not be seekable. Images complete before an error stay, nothing else does.
    pub fn load(
        &self,
        input: impl Read + Send,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadEvent),
    ) -> Result<(), StoreError> {
        let mut contents = archive::read(self, input, progress)?;
        let items = match contents.file("manifest.json") {
            Some(manifest) => docker::items(manifest, &contents)?,
            None => oci::items(&contents, options.platform.as_ref())?,
        };
        commit::commit(self, items, &mut contents, options, progress)
    }
}
