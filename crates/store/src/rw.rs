//! The writable layers of containers.

use std::collections::BTreeMap;

use wharf_spec::digest::{ChainId, Digest};
use wharf_spec::rootfs::RootfsMount;

use crate::drivers::{ContainerDirs, Difference, LayerDir, NewContainer};
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
    /// `size`: bytes it may grow to, where the driver can limit it.
    pub fn create_rw(
        &self,
        container_id: &str,
        image: &str,
        size: Option<u64>,
    ) -> Result<(), StoreError> {
        let layer = self.insert_rw(container_id, image)?;
        let parent = layer.parent.as_ref().and_then(|chain| {
            let state = self.state.lock();
            state.layers.get(chain).map(|layer| layer.cache.clone())
        });
        let new = NewContainer {
            cache: &layer.cache,
            parent: parent.as_deref(),
            size,
        };
        if let Err(source) = self.driver.create_container(new) {
            let path = self.driver.layer_dir(&layer.cache);
            self.remove_rw(container_id)?;
            if source.kind() == std::io::ErrorKind::Unsupported {
                return Err(StoreError::Invalid(source.to_string()));
            }
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
        self.without_lock(container_id, |dirs| {
            let path = self.driver.layer_dir(dirs.cache);
            self.driver
                .mount(dirs)
                .map_err(StoreError::io("mount", &path))
        })
    }

    /// Some drivers start a program or mount something, which nothing else shall wait for.
    fn without_lock<T>(
        &self,
        container_id: &str,
        work: impl FnOnce(&ContainerDirs<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (cache, lower) = self.with_container(container_id, |state, layer| {
            let owned = |dir: &LayerDir<'_>| (dir.cache.to_owned(), dir.link.to_owned());
            let lower: Vec<_> = layer.dirs(state).lower.iter().map(owned).collect();
            (layer.cache.clone(), lower)
        })?;
        let lower = lower.iter().map(|(cache, link)| LayerDir { cache, link });
        work(&ContainerDirs {
            cache: &cache,
            lower: lower.collect(),
        })
    }

    /// Takes back what [`Store::rootfs`] made ready on the host, once the container has ended. Safe to repeat.
    pub fn release_rootfs(&self, container_id: &str) -> Result<(), StoreError> {
        let cache = self.with_container(container_id, |_, layer| layer.cache.clone())?;
        let path = self.driver.layer_dir(&cache);
        self.driver
            .unmount(&cache)
            .map_err(StoreError::io("unmount", &path))
    }

    /// Where a container's changes are to be read.
    pub fn difference(&self, container_id: &str) -> Result<Difference, StoreError> {
        self.without_lock(container_id, |dirs| {
            let path = self.driver.layer_dir(dirs.cache);
            let failed = StoreError::io("open", &path);
            if self.driver.is_union() {
                let mut lower = dirs.lower.iter();
                lower.try_for_each(|layer| self.driver.open_layer(*layer))
            } else {
                self.driver.mount(dirs).map(drop)
            }
            .map_err(failed)?;
            Ok(self.driver.difference(dirs))
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
        let rw = match self.difference(container_id)? {
            Difference::Upper { upper, .. } => crate::size::of_tree(&upper),
            Difference::Trees { new, old } => crate::size::of_new(&new, old.as_deref()),
        };
        let rw = rw.map_err(StoreError::io("read", &self.driver.layer_dir(&cache)))?;
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
        if self.driver.is_plain_directory(&layer.cache) {
            self.discard(&path)
                .map_err(StoreError::io("remove", &path))?;
        }
        self.driver
            .remove_container(&layer.cache)
            .map_err(StoreError::io("remove", &path))
    }

    /// IDs of all containers that have layers here. The engine removes those it does not know.
    pub fn rw_containers(&self) -> Vec<String> {
        self.state.lock().containers.keys().cloned().collect()
    }

    pub(crate) fn with_container<T>(
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
