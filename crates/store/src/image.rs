//! Image records: how they are found, named and removed.

use std::sync::Arc;

use wharf_spec::digest::{ChainId, Digest};
use wharf_spec::image_config::ImageConfig;
use wharf_spec::reference::{AnyReference, Reference};

use crate::drivers::LayerDir;
use crate::error::StoreError;
use crate::layer::{Layer, chain_of};
use crate::state::State;
use crate::store::Store;

/// One image. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// `sha256:…` of the image config.
    pub id: Digest,
    /// The parsed image config.
    pub config: Arc<ImageConfig>,
    /// The image config as it came.
    pub raw: Arc<[u8]>,
    /// The image it was built from here, if it was.
    pub parent: Option<Digest>,
    /// Nanoseconds since 1970 of the last `tag`.
    pub tagged: Option<i64>,
    /// Its topmost layer; `None` for an image without layers.
    pub top: Option<ChainId>,
}

/// Parses an image config; Docker refuses one without `rootfs`.
pub(crate) fn parse_config(raw: &[u8]) -> Result<ImageConfig, StoreError> {
    let config: ImageConfig = serde_json::from_slice(raw)
        .map_err(|error| StoreError::archive(format!("invalid image JSON: {error}")))?;
    if config.rootfs.is_none() {
        return Err(StoreError::archive("invalid image JSON, no RootFS key"));
    }
    Ok(config)
}

impl ImageRecord {
    pub(crate) fn new(id: Digest, config: ImageConfig, raw: impl Into<Arc<[u8]>>) -> ImageRecord {
        let top = ChainId::chain(config.diff_ids()).pop();
        ImageRecord {
            id,
            config: Arc::new(config),
            raw: raw.into(),
            parent: None,
            tagged: None,
            top,
        }
    }
}

/// Finds an image as Docker does: an ID, then a reference, then a prefix of an ID that only one image has.
pub(crate) fn find(state: &State, name: &str) -> Result<ImageRecord, StoreError> {
    let reference = match AnyReference::parse(name)? {
        AnyReference::Id(id) => {
            let image = state.images.get(&id);
            return image
                .cloned()
                .ok_or_else(|| StoreError::NoSuchImage(id.to_string()));
        }
        AnyReference::Named(reference) => reference,
    };
    if let Some(id) = find_reference(state, &reference)
        && let Some(image) = state.images.get(id)
    {
        return Ok(image.clone());
    }
    match find_prefix(state, name) {
        Some(image) => Ok(image.clone()),
        None => Err(StoreError::NoSuchImage(reference.or_latest().familiar())),
    }
}

/// The image a reference names; a bare name means `latest`, and a digest counts more than a tag.
fn find_reference<'a>(state: &'a State, reference: &Reference) -> Option<&'a Digest> {
    let wanted = reference.clone().or_latest();
    let wanted = match wanted.digest() {
        Some(digest) => wanted.with_digest(digest.clone()),
        None => wanted,
    };
    state.references.get(&wanted)
}

pub(crate) fn find_prefix<'a>(state: &'a State, name: &str) -> Option<&'a ImageRecord> {
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut matching = state
        .images
        .values()
        .filter(|image| image.id.hex().starts_with(prefix));
    matching.next().filter(|_| matching.next().is_none())
}

impl Store {
    /// Finds an image by reference, full ID, unique prefix of an ID or digest reference.
    pub fn image(&self, name: &str) -> Result<ImageRecord, StoreError> {
        find(&self.state.lock(), name)
    }

    /// The image with this ID.
    pub fn image_by_id(&self, id: &Digest) -> Result<ImageRecord, StoreError> {
        let state = self.state.lock();
        state
            .images
            .get(id)
            .cloned()
            .ok_or_else(|| StoreError::NoSuchImage(id.to_string()))
    }

    /// All images, in no order.
    pub fn images(&self) -> Vec<ImageRecord> {
        self.state.lock().images.values().cloned().collect()
    }

    /// All references with the image each names, sorted by full name.
    pub fn references(&self) -> Vec<(Reference, Digest)> {
        self.state
            .lock()
            .references
            .iter()
            .map(|(name, id)| (name.clone(), id.clone()))
            .collect()
    }

    /// The references of one image, sorted by full name.
    pub fn references_of(&self, id: &Digest) -> Vec<Reference> {
        self.state.lock().references_of(id)
    }

    /// Images that name this one as their parent.
    pub fn children_of(&self, id: &Digest) -> Vec<Digest> {
        let state = self.state.lock();
        state
            .images
            .values()
            .filter(|image| image.parent.as_ref() == Some(id))
            .map(|image| image.id.clone())
            .collect()
    }

    /// Layers of an image, bottom first.
    pub fn layers_of(&self, image: &ImageRecord) -> Vec<Layer> {
        let state = self.state.lock();
        chain_of(&state.layers, image.top.as_ref())
            .into_iter()
            .rev()
            .cloned()
            .collect()
    }

    /// All layers, in no order.
    pub fn layers(&self) -> Vec<Layer> {
        self.state.lock().layers.values().cloned().collect()
    }

    /// Bytes of all layers of an image.
    pub fn image_size(&self, image: &ImageRecord) -> u64 {
        self.state.lock().size(image.top.as_ref())
    }

    /// `GraphDriver` of image inspect: driver name and its data.
    pub fn image_graph_driver(
        &self,
        image: &ImageRecord,
    ) -> (String, std::collections::BTreeMap<String, String>) {
        let state = self.state.lock();
        (
            self.driver.name().to_owned(),
            self.driver.image_data(&state.dirs(image.top.as_ref())),
        )
    }

    /// Names an image; a name that was another image's moves. `reference` without tag and digest gets `latest`. Returns the previous image.
    pub fn tag(&self, id: &Digest, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        let reference = reference.clone().or_latest();
        let now = jiff::Timestamp::now().as_nanosecond();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let mut state = self.state.lock();
        if !state.images.contains_key(id) {
            return Err(StoreError::NoSuchImage(id.to_string()));
        }
        state.db.transaction(|rows| {
            rows.set_reference(&reference.to_string(), id)?;
            rows.set_tagged(id, now)
        })?;
        if let Some(image) = state.images.get_mut(id) {
            image.tagged = Some(now);
        }
        Ok(state
            .references
            .insert(reference, id.clone())
            .filter(|previous| previous != id))
    }

    /// As [`Store::tag`], without a note of the time: what loading does.
    pub(crate) fn set_reference(
        &self,
        id: &Digest,
        reference: &Reference,
    ) -> Result<Option<Digest>, StoreError> {
        let mut state = self.state.lock();
        state.db.rows().set_reference(&reference.to_string(), id)?;
        Ok(state
            .references
            .insert(reference.clone(), id.clone())
            .filter(|previous| previous != id))
    }

    /// Takes a name away; `false` if there was none.
    pub fn untag(&self, reference: &Reference) -> Result<bool, StoreError> {
        self.with_reserve(|| self.untag_now(reference))
    }

    fn untag_now(&self, reference: &Reference) -> Result<bool, StoreError> {
        let reference = reference.clone().or_latest();
        let mut state = self.state.lock();
        state.db.rows().delete_reference(&reference.to_string())?;
        Ok(state.references.remove(&reference).is_some())
    }

    /// Notes that an image is used at a time, in seconds since 1970.
    pub fn note_used(&self, id: &Digest, seconds: i64) -> Result<(), StoreError> {
        Ok(self.state.lock().db.rows().set_used(id, seconds)?)
    }

    /// When images were used last, or came: seconds since 1970.
    pub fn used_times(&self) -> Result<std::collections::HashMap<Digest, i64>, StoreError> {
        Ok(self.state.lock().db.rows().used()?.into_iter().collect())
    }

    /// Says that an image was built from another one.
    pub fn set_parent(&self, id: &Digest, parent: &Digest) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.db.rows().set_parent(id, parent)?;
        if let Some(image) = state.images.get_mut(id) {
            image.parent = Some(parent.clone());
        }
        Ok(())
    }

    /// Forgets what an image was built from.
    pub fn forget_parent(&self, id: &Digest) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.db.rows().forget_parent(id)?;
        if let Some(image) = state.images.get_mut(id) {
            image.parent = None;
        }
        Ok(())
    }

    /// Removes an image with its references, and the layers nothing else needs; these come back, topmost first.
    pub fn remove_image(&self, id: &Digest) -> Result<Vec<Layer>, StoreError> {
        self.with_reserve(|| self.remove_image_now(id))
    }

    fn remove_image_now(&self, id: &Digest) -> Result<Vec<Layer>, StoreError> {
        let mut state = self.state.lock();
        let Some(image) = state.images.remove(id) else {
            return Err(StoreError::NoSuchImage(id.to_string()));
        };
        let released = state.plan_release(image.top.as_ref());
        let done = state.db.transaction(|rows| {
            rows.delete_image(id)?;
            released
                .iter()
                .try_for_each(|chain| rows.delete_layer(chain))
        });
        if let Err(error) = done {
            state.images.insert(id.clone(), image);
            return Err(error.into());
        }
        state.references.retain(|_, target| target != id);
        let layers: Vec<Layer> = released
            .iter()
            .filter_map(|chain| state.layers.remove(chain))
            .collect();
        drop(state);
        self.remove_layer_dirs(&layers);
        Ok(layers)
    }

    /// The rows are gone already, so what cannot be removed now goes at the next start.
    pub(crate) fn remove_layer_dirs(&self, layers: &[Layer]) {
        for layer in layers {
            let dir = LayerDir {
                cache: &layer.cache,
                link: &layer.link,
            };
            // Thousands of files take seconds; nobody needs to wait for that.
            let discarded =
                match !layer.cache.is_empty() && self.driver.is_plain_directory(&layer.cache) {
                    // An empty name would be the whole home.
                    true => self.discard(&self.driver.layer_dir(&layer.cache)),
                    false => Ok(()),
                };
            if let Err(error) = discarded.and_then(|()| self.driver.remove(dir)) {
                tracing::warn!(layer = %layer.chain, %error, "layer directory is left for the next start");
            }
        }
        self.drop_kept_of(layers);
    }
}
