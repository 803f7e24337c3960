//! An image of one layer from a tar of files.

use std::io::Read;

use wharf_spec::digest::{DiffId, Digest};

use crate::chunk::{CHUNK, read_chunk};
use crate::error::StoreError;
use crate::pipeline::Pipeline;
use crate::store::{Pins, Store};
use wharf_archive::compression::Compression;

impl Store {
    /// Takes in a tar, plain or compressed, as the only layer of a new image. `config` makes the image config once the diff ID is known.
    pub fn import(
        &self,
        mut input: impl Read + Send,
        config: impl FnOnce(&DiffId) -> Vec<u8>,
    ) -> Result<Digest, StoreError> {
        // A whole piece, for a single read may give less than the magic bytes.
        let mut piece = read_chunk(&mut input, CHUNK as u64).map_err(StoreError::Stream)?;
        let pipeline = Pipeline::start(self, Compression::detect(&piece))?;
        while !piece.is_empty() && pipeline.send(piece).is_ok() {
            piece = read_chunk(&mut input, CHUNK as u64).map_err(StoreError::Stream)?;
        }
        let staged = pipeline.finish()?;
        let mut pins = Pins::new(self);
        let config = config(&staged.diff);
        self.register_layer(staged, None, &mut pins)?;
        self.add_image(&config)
    }
}
