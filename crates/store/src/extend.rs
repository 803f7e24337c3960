//! An image made from another one by a layer that is written here, without a container: steps of builds.

use std::io::{self, Write};
use std::path::PathBuf;

use wharf_archive::compression::Compression;
use wharf_spec::digest::{ChainId, DiffId, Digest};

use crate::chunk::ChunkWriter;
use crate::commit::EMPTY;
use crate::drivers::LayerDir;
use crate::error::StoreError;
use crate::image::parse_config;
use crate::pipeline::Pipeline;
use crate::store::{Pins, Store};

/// Why an image could not be extended.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// What writes the layer gave up, with this text.
    #[error("{0}")]
    Written(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes a layer's tar; its error is a text for the user.
pub type WriteLayer<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), String>;

/// Layers that nobody removes while this lives.
#[derive(Debug)]
pub struct HeldLayers {
    /// Their files, topmost first.
    pub dirs: Vec<PathBuf>,
    _pins: Pins,
}

impl Store {
    /// Adds an image whose layers are those of `parent`, none without one, and the one that `write` writes. `config` makes the image's
    /// config from the new layer's digest, `None` if there is no new layer. The parent is noted.
    pub fn extend(
        &self,
        parent: Option<&Digest>,
        write: Option<WriteLayer<'_>>,
        config: impl FnOnce(Option<&DiffId>) -> Vec<u8>,
    ) -> Result<Digest, ExtendError> {
        let top = match parent {
            Some(parent) => self.image_by_id(parent)?.top,
            None => None,
        };
        let mut pins = Pins::new(self);
        if let Some(top) = &top
            && !pins.pin(top)
        {
            let text = "the layers of the parent image were removed meanwhile";
            return Err(StoreError::Conflict(text.to_owned()).into());
        }
        let diff = match write {
            Some(write) => self.add_layer(top.as_ref(), write, &mut pins)?,
            None => None,
        };
        let id = self.add_image(&config(diff.as_ref()))?;
        if let Some(parent) = parent {
            self.set_parent(&id, parent)?;
        }
        Ok(id)
    }

    /// Adds an image whose layers are all there, made from a parent.
    pub fn restore_step(&self, parent: Option<&Digest>, raw: &[u8]) -> Result<Digest, StoreError> {
        let config = parse_config(raw)?;
        let mut pins = Pins::new(self);
        for chain in ChainId::chain(config.diff_ids()) {
            if !pins.pin(&chain) {
                let text = format!("layer {chain} of the image is not there");
                return Err(StoreError::Conflict(text));
            }
        }
        let id = self.add_image(raw)?;
        if let Some(parent) = parent {
            self.set_parent(&id, parent)?;
        }
        Ok(id)
    }

    /// The directories of an image's layers, topmost first. They stay while the answer lives.
    pub fn hold_layers(&self, image: &Digest) -> Result<HeldLayers, StoreError> {
        let top = self.image_by_id(image)?.top;
        let mut pins = Pins::new(self);
        if let Some(top) = &top
            && !pins.pin(top)
        {
            let text = format!("the layers of image {image} were removed meanwhile");
            return Err(StoreError::Conflict(text));
        }
        let layers = self.lower_dirs(top.as_ref());
        // Drivers without a union file system keep a whole tree in each layer.
        let count = if self.driver.is_union() {
            layers.len()
        } else {
            1
        };
        let mut dirs = Vec::with_capacity(count);
        for (cache, link) in layers.iter().take(count) {
            let path = self.driver.layer_dir(cache).join("diff");
            self.driver
                .open_layer(LayerDir { cache, link })
                .map_err(StoreError::io("open", &path))?;
            dirs.push(path);
        }
        Ok(HeldLayers { dirs, _pins: pins })
    }

    /// Where a container's changes are.
    pub fn written_dir(&self, container_id: &str) -> Result<PathBuf, StoreError> {
        let state = self.state.lock();
        let layer = state
            .containers
            .get(container_id)
            .ok_or_else(|| StoreError::NoSuchContainer(container_id.to_owned()))?;
        Ok(self.driver.layer_dir(&layer.cache).join("diff"))
    }

    fn add_layer(
        &self,
        parent: Option<&ChainId>,
        write: WriteLayer<'_>,
        pins: &mut Pins,
    ) -> Result<Option<DiffId>, ExtendError> {
        let pipeline = Pipeline::start(self, Compression::None)?;
        let mut out = Watched {
            inner: ChunkWriter::new(pipeline.input()),
            stopped: false,
        };
        let written = write(&mut out);
        let stopped = out.stopped;
        let flushed = out.inner.flush();
        drop(out);
        match written {
            // The pipeline knows why it stopped taking pieces.
            Err(text) if !stopped => return Err(ExtendError::Written(text)),
            _ => drop(flushed),
        }
        let staged = pipeline.finish()?;
        let diff = staged.diff.clone();
        if diff.0.as_str() == EMPTY {
            return Ok(None);
        }
        self.register_layer(staged, parent, pins)?;
        Ok(Some(diff))
    }
}

/// Notes whether the far end went away.
struct Watched<'a> {
    inner: ChunkWriter<'a>,
    stopped: bool,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.inner.write(bytes);
        self.stopped |= result.is_err();
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.stopped |= result.is_err();
        result
    }
}
