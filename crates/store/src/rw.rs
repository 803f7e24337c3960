//! The writable layers of containers.

use std::collections::BTreeMap;

use wharf_spec::digest::{ChainId, Digest};
use wharf_spec::rootfs::RootfsMount;

use crate::drivers::ContainerDirs;
use crate::error::StoreError;
use crate::image;
use crate::state::State;
use crate::store::{Store, new_cache_id};

/// The read-write layer of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLayer {
    /// Image it was made from; may be gone since.
    pub image: Digest,
    /// Topmost image layer.
    pub parent: Option<ChainId>,
    /// Name of its directory.
    pub cache: String,
}

impl ContainerLayer {
    fn dirs<'a>(&'a self, state: &'a State) -> ContainerDirs<'a> {
        ContainerDirs {
            cache: &self.cache,
            lower: state.dirs(self.parent.as_ref()),
        }
    }
}

impl Store {
    /// Creates the `<layer>-init` and read-write layers of a container. `image` is an image ID. On the path of every container start: no sync.
    pub fn create_rw(&self, container_id: &str, image: &str) -> Result<(), StoreError> {
        let layer = self.insert_rw(container_id, image)?;
        if let Err(source) = self.driver.create_container(&layer.cache) {
            let path = self.driver.layer_dir(&layer.cache);
            self.remove_rw(container_id)?;
            return Err(StoreError::Io {
                what: "create",
                path,
                source,
            });
        }
        Ok(())
    }

    /// The row first: a kill in between leaves a row with a part of its directories, which the engine removes with the container it does not know.
    fn insert_rw(&self, container_id: &str, image: &str) -> Result<ContainerLayer, StoreError> {
        let mut state = self.state.lock();
        if state.containers.contains_key(container_id) {
            return Err(StoreError::Conflict(format!(
                "container {container_id} already has layers"
            )));
        }
        let image = image::find(&state, image)?;
        let layer = ContainerLayer {
            image: image.id,
            parent: image.top,
            cache: new_cache_id()?,
        };
        state
            .db
            .rows()
            .insert_container_layer(container_id, &layer)?;
        state
            .containers
            .insert(container_id.to_owned(), layer.clone());
        Ok(layer)
    }

    /// How to mount the container's root.
    pub fn rootfs(&self, container_id: &str) -> Result<RootfsMount, StoreError> {
        self.with_container(container_id, |state, layer| {
            self.driver.mount(&layer.dirs(state))
        })
    }

    /// `GraphDriver` of inspect: driver name and its data (LowerDir, MergedDir, UpperDir, WorkDir).
    pub fn graph_driver(
        &self,
        container_id: &str,
    ) -> Result<(String, BTreeMap<String, String>), StoreError> {
        let data = self.with_container(container_id, |state, layer| {
            self.driver.container_data(&layer.dirs(state))
        })?;
        Ok((self.driver.name().to_owned(), data))
    }

    /// Bytes in the read-write layer, and bytes of the whole root.
    pub fn rw_size(&self, container_id: &str) -> Result<(u64, u64), StoreError> {
        let (cache, image) = self.with_container(container_id, |state, layer| {
            (layer.cache.clone(), state.size(layer.parent.as_ref()))
        })?;
        let diff = self.driver.layer_dir(&cache).join("diff");
        let rw = crate::size::of_tree(&diff).map_err(StoreError::io("read", &diff))?;
        Ok((rw, rw + image))
    }

    /// Removes a container's init and read-write layers. Safe to repeat.
    pub fn remove_rw(&self, container_id: &str) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let Some(layer) = state.containers.get(container_id).cloned() else {
            return Ok(());
        };
        state.containers.remove(container_id);
        // The image may have been removed while this container held its layers.
        let released = state.plan_release(layer.parent.as_ref());
        let mut rows = state.delete_container_rows(container_id, &released);
        if rows.is_err() {
            // On a full disk the files go first: they make the room that the rows' deletion needs. A kill between the two leaves rows
            // without files, which the next removal takes for what they are.
            let _ = self.driver.remove_container(&layer.cache);
            rows = state.delete_container_rows(container_id, &released);
        }
        if let Err(error) = rows {
            state.containers.insert(container_id.to_owned(), layer);
            return Err(error.into());
        }
        let layers: Vec<_> = released
            .iter()
            .filter_map(|chain| state.layers.remove(chain))
            .collect();
        drop(state);
        self.remove_layer_dirs(&layers);
        let path = self.driver.layer_dir(&layer.cache);
        self.discard(&path)
            .map_err(StoreError::io("remove", &path))?;
        self.driver
            .remove_container(&layer.cache)
            .map_err(StoreError::io("remove", &path))
    }

    /// IDs of all containers that have layers here. The engine removes those it does not know.
    pub fn rw_containers(&self) -> Vec<String> {
        self.state.lock().containers.keys().cloned().collect()
    }

    fn with_container<T>(
        &self,
        id: &str,
        get: impl FnOnce(&State, &ContainerLayer) -> T,
    ) -> Result<T, StoreError> {
        let state = self.state.lock();
        let layer = state
            .containers
            .get(id)
            .ok_or_else(|| StoreError::NoSuchContainer(id.to_owned()))?;
        Ok(get(&state, layer))
    }
}
