//! Images from registries: layers are taken in one by one, in any order, and become an image once all are there.

use std::io::Read;

use wharf_spec::digest::{ChainId, DiffId, Digest};
use wharf_spec::image_config::ImageConfig;
use wharf_spec::reference::Reference;

use crate::chunk::{CHUNK, read_chunk};
use crate::error::StoreError;
use crate::image::parse_config;
use crate::pipeline::Pipeline;
use crate::store::{Pins, Store};
use wharf_archive::compression::Compression;

/// An image on its way: its config is known, and layers that are stored already stay while this lives.
#[derive(Debug)]
pub struct Assembly {
    store: Store,
    raw: Vec<u8>,
    /// The parsed config.
    pub config: ImageConfig,
    pins: Pins,
}

/// How much of a layer is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// In its place above the same layers.
    Placed,
    /// Its content is here, somewhere else.
    Content,
    /// Not at all.
    Missing,
}

impl Store {
    /// Begins an image. Docker's refusals: a config without `rootfs`.
    pub fn assemble(&self, raw: Vec<u8>) -> Result<Assembly, StoreError> {
        let config = parse_config(&raw)?;
        self.check_depth(&config)?;
        Ok(Assembly {
            store: self.clone(),
            config,
            raw,
            pins: Pins::new(self),
        })
    }

    /// Docker's refusal of images with more layers than can be stacked.
    pub(crate) fn check_depth(&self, config: &ImageConfig) -> Result<(), StoreError> {
        match self.driver.max_layers() {
            Some(limit) if config.diff_ids().len() > limit => Err(StoreError::TooDeep),
            _ => Ok(()),
        }
    }

    /// Takes in the blob of a layer and keeps it for an image to come. Blocks until `input` ends; an error of `input` is returned as
    /// [`StoreError::Stream`]. Content that is not what both digests say is refused and removed.
    pub fn take_layer(
        &self,
        mut input: impl Read + Send,
        blob: &Digest,
        diff: &DiffId,
    ) -> Result<(), StoreError> {
        // A whole piece, for a single read may give less than the magic bytes.
        let mut piece = read_chunk(&mut input, CHUNK as u64).map_err(StoreError::Stream)?;
        let pipeline = Pipeline::start(self, Compression::detect(&piece))?;
        while !piece.is_empty() && pipeline.send(piece).is_ok() {
            piece = read_chunk(&mut input, CHUNK as u64).map_err(StoreError::Stream)?;
        }
        let staged = pipeline.finish()?;
        if staged.blob != *blob {
            return Err(StoreError::Damaged(format!(
                "filesystem layer verification failed for digest {blob}"
            )));
        }
        if staged.diff != *diff {
            return Err(StoreError::Damaged(
                "layers from manifest don't match image configuration".to_owned(),
            ));
        }
        self.park(staged)
    }

    /// Whether the content of a layer is here, in an image or waiting for one.
    pub fn has_content(&self, diff: &DiffId) -> bool {
        let state = self.state.lock();
        state.parked.contains_key(diff) || state.layer_by_diff(diff).is_some()
    }

    /// Gives an image a name as pulling does: without a note of the time. Returns the image that had the name before, be it the same.
    pub fn name_image(
        &self,
        id: &Digest,
        reference: &Reference,
    ) -> Result<Option<Digest>, StoreError> {
        let before = self.state.lock().references.get(reference).cloned();
        self.set_reference(id, reference)?;
        Ok(before)
    }

    /// The image a full reference names.
    pub fn named(&self, reference: &Reference) -> Option<Digest> {
        self.state.lock().references.get(reference).cloned()
    }
}

impl Assembly {
    /// The image's ID.
    pub fn id(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// For each layer, bottom first, what is here of it. What is here stays.
    pub fn presence(&mut self) -> Vec<Presence> {
        let diffs = self.config.diff_ids().to_vec();
        let chains = ChainId::chain(&diffs);
        let mut presence = Vec::new();
        for (diff, chain) in diffs.iter().zip(&chains) {
            let here = if self.pins.pin(chain) {
                Presence::Placed
            } else if self.pins.pin_by_diff(diff) || self.store.has_content(diff) {
                Presence::Content
            } else {
                Presence::Missing
            };
            presence.push(here);
        }
        presence
    }

    /// Puts the layers in their places and adds the image. Blocking: a layer that other images have elsewhere is copied.
    pub fn commit(mut self) -> Result<Digest, StoreError> {
        let store = self.store.clone();
        // One at a time: a parked layer goes to one image, and another that wants it then finds it there.
        let _one = store.assembling.lock();
        let mut parent: Option<ChainId> = None;
        for diff in self.config.diff_ids().to_vec() {
            let chain = ChainId::above(parent.as_ref(), &diff);
            if !self.pins.pin(&chain) {
                self.place(&diff, parent.as_ref())?;
            }
            parent = Some(chain);
        }
        store.add_image(&self.raw)
    }

    fn place(&mut self, diff: &DiffId, parent: Option<&ChainId>) -> Result<(), StoreError> {
        let parked = self.store.state.lock().parked.get(diff).cloned();
        match parked {
            Some(parked) => self.store.register_parked(parked, parent, &mut self.pins),
            None => {
                let staged = self.store.copy_layer(diff)?;
                self.store
                    .register_layer(staged, parent, &mut self.pins)
                    .map(drop)
            }
        }
    }
}
