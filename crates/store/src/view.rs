//! A look into a store from another process, while a daemon has it: images as rows say at this moment, layers as exact tars. Nothing is
//! changed, cleared away or held: an image that is removed meanwhile ends the reading of its layers with an error.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_spec::digest::{ChainId, Digest};
use wharf_spec::reference::Reference;

use crate::db::Db;
use crate::error::StoreError;
use crate::image::ImageRecord;
use crate::layer::{Layer, chain_of};
use crate::recipe;
use crate::state::State;

/// A data root to look into.
#[derive(Debug, Clone)]
pub struct View {
    root: PathBuf,
}

/// An image as it was when it was looked at.
#[derive(Debug, Clone)]
pub struct ViewedImage {
    /// Its names.
    pub references: Vec<Reference>,
    /// `sha256:…` of the image config.
    pub id: Digest,
    /// The image config as it came.
    pub config: Arc<[u8]>,
    /// Bottom first.
    pub layers: Vec<ViewedLayer>,
}

/// One of its layers.
#[derive(Debug, Clone)]
pub struct ViewedLayer {
    /// Digest of its tar.
    pub diff: Digest,
    /// Bytes of its tar.
    pub size: u64,
    dir: PathBuf,
}

impl View {
    /// Of a data root, which must have been a daemon's.
    ///
    /// # Errors
    /// There is no store in it.
    pub fn open(root: &Path) -> Result<View, StoreError> {
        let view = View {
            root: root.to_owned(),
        };
        if view.databases().is_empty() {
            return Err(StoreError::NotFound(format!(
                "{} holds no images of an engine",
                root.display()
            )));
        }
        Ok(view)
    }

    /// Databases of images, with the directory of each one's layers.
    fn databases(&self) -> Vec<(PathBuf, PathBuf)> {
        let mut found = vec![(self.root.join("wharf.db"), self.root.join("overlay2"))];
        for entry in std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let driver = name
                .to_str()
                .and_then(|name| name.strip_prefix("images-")?.strip_suffix(".db"));
            found.extend(driver.map(|driver| (entry.path(), self.root.join(driver))));
        }
        found.retain(|(database, _)| database.exists());
        found
    }

    /// All images that have a name and all of their layers.
    ///
    /// # Errors
    /// A database cannot be read.
    pub fn images(&self) -> Result<Vec<ViewedImage>, StoreError> {
        let mut images = Vec::new();
        for (database, layers) in self.databases() {
            let state = State::load(Db::open_to_read(&database)?)?;
            images.extend(viewed(&state, &layers));
        }
        Ok(images)
    }
}

fn viewed(state: &State, layers_dir: &Path) -> Vec<ViewedImage> {
    let mut names: HashMap<&Digest, Vec<Reference>> = HashMap::new();
    for (reference, id) in &state.references {
        names.entry(id).or_default().push(reference.clone());
    }
    names
        .into_iter()
        .filter_map(|(id, references)| {
            let image = state.images.get(id)?;
            let layers = layers(&state.layers, image, layers_dir)?;
            Some(ViewedImage {
                references,
                id: id.clone(),
                config: image.raw.clone(),
                layers,
            })
        })
        .collect()
}

fn layers(
    all: &HashMap<ChainId, Layer>,
    image: &ImageRecord,
    dir: &Path,
) -> Option<Vec<ViewedLayer>> {
    let chain = chain_of(all, image.top.as_ref());
    if chain.len() != image.config.diff_ids().len() {
        return None;
    }
    let layer = |layer: &Layer| ViewedLayer {
        diff: layer.diff.0.clone(),
        size: layer.tar_size,
        dir: dir.join(&layer.cache),
    };
    Some(chain.into_iter().rev().map(layer).collect())
}

impl ViewedLayer {
    /// Writes the layer's exact tar. Blocking.
    ///
    /// # Errors
    /// The layer is gone or damaged, or `out` failed.
    pub fn write_tar(&self, out: &mut dyn Write) -> io::Result<()> {
        recipe::write_tar(&self.dir, out)
    }
}
