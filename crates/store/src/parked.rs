//! Layers of pulls that are not complete: unpacked and verified, but no image has them yet.
//!
//! They wait for the image, or for the next attempt to pull it, over restarts of the daemon. Each has a row, without which its
//! directory would be a leftover. What nobody came back for is removed after a while.

use std::time::Duration;

use wharf_spec::digest::{ChainId, DiffId};

use crate::drivers::LayerDir;
use crate::error::StoreError;
use crate::layer::Layer;
use crate::pipeline::Staged;
use crate::store::Store;

/// A layer without an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) diff: DiffId,
    pub(crate) cache: String,
    pub(crate) link: String,
    pub(crate) size: u64,
    pub(crate) tar_size: u64,
    /// Seconds since 1970.
    pub(crate) since: i64,
}

impl Parked {
    /// The record it becomes above `parent`.
    pub(crate) fn into_layer(self, parent: Option<&ChainId>) -> Layer {
        Layer {
            chain: ChainId::above(parent, &self.diff),
            parent: parent.cloned(),
            cache: self.cache,
            link: self.link,
            size: self.size,
            tar_size: self.tar_size,
            diff: self.diff,
        }
    }
}

impl Store {
    /// Keeps an unpacked layer until an image wants it. A second one of the same content is dropped.
    pub(crate) fn park(&self, staged: Staged) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.parked.contains_key(&staged.diff) {
            drop(state);
            return Ok(());
        }
        let since = jiff::Timestamp::now().as_second();
        let parked = staged.into_parked(since);
        if let Err(error) = state.db.rows().insert_parked(&parked) {
            drop(state);
            self.remove_parked_dir(&parked);
            return Err(error.into());
        }
        state.parked.insert(parked.diff.clone(), parked);
        Ok(())
    }

    /// Removes parked layers older than `age`; returns the bytes they held.
    pub fn remove_parked(&self, age: Duration) -> Result<u64, StoreError> {
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let before = jiff::Timestamp::now().as_second().saturating_sub(age);
        let mut state = self.state.lock();
        let old: Vec<Parked> = state
            .parked
            .values()
            .filter(|parked| parked.since <= before)
            .cloned()
            .collect();
        state.db.transaction(|rows| {
            old.iter()
                .try_for_each(|parked| rows.delete_parked(&parked.diff))
        })?;
        for parked in &old {
            state.parked.remove(&parked.diff);
        }
        drop(state);
        for parked in &old {
            self.remove_parked_dir(parked);
        }
        Ok(old.iter().map(|parked| parked.size).sum())
    }

    /// Removes one parked layer.
    pub(crate) fn drop_parked(&self, diff: &DiffId) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.db.rows().delete_parked(diff)?;
        let parked = state.parked.remove(diff);
        drop(state);
        parked
            .iter()
            .for_each(|parked| self.remove_parked_dir(parked));
        Ok(())
    }

    /// Number and bytes of parked layers.
    pub fn parked(&self) -> (usize, u64) {
        let state = self.state.lock();
        let size = state.parked.values().map(|parked| parked.size).sum();
        (state.parked.len(), size)
    }

    fn remove_parked_dir(&self, parked: &Parked) {
        let dir = LayerDir {
            cache: &parked.cache,
            link: &parked.link,
        };
        if let Err(error) = self.driver.remove(dir) {
            tracing::warn!(layer = %parked.diff, %error, "layer directory is left for the next start");
        }
    }
}
