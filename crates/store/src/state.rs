//! What the store knows, in memory; the database holds the same.

use std::collections::{BTreeMap, HashMap};

use wharf_spec::digest::{ChainId, DiffId, Digest};
use wharf_spec::reference::Reference;

use crate::db::Db;
use crate::drivers::LayerDir;
use crate::error::StoreError;
use crate::image::{ImageRecord, parse_config};
use crate::layer::{Layer, chain_of, plan_release};
use crate::parked::Parked;
use crate::rw::ContainerLayer;

/// Everything but file content.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) db: Db,
    pub(crate) images: HashMap<Digest, ImageRecord>,
    /// By full name.
    pub(crate) references: BTreeMap<Reference, Digest>,
    pub(crate) layers: HashMap<ChainId, Layer>,
    pub(crate) containers: HashMap<String, ContainerLayer>,
    /// Layers that no image has yet, by content.
    pub(crate) parked: HashMap<DiffId, Parked>,
    /// Layers an operation under way relies on.
    pub(crate) pins: HashMap<ChainId, usize>,
}

impl State {
    /// Reads all rows.
    pub(crate) fn load(db: Db) -> Result<State, StoreError> {
        let rows = db.rows();
        let layers = rows
            .layers()?
            .into_iter()
            .map(|layer| (layer.chain.clone(), layer))
            .collect();
        let containers = rows.container_layers()?.into_iter().collect();
        let parked = rows.parked()?.into_iter();
        let parked = parked.map(|parked| (parked.diff.clone(), parked)).collect();
        let mut images = HashMap::new();
        for row in rows.images()? {
            let id = Digest::parse(&row.id)?;
            let config = parse_config(&row.config)?;
            let parent = row.parent.as_deref().map(Digest::parse).transpose()?;
            let record = ImageRecord {
                tagged: row.tagged,
                parent,
                ..ImageRecord::new(id.clone(), config, row.config)
            };
            images.insert(id, record);
        }
        let mut references = BTreeMap::new();
        for (name, image) in rows.references()? {
            references.insert(Reference::parse(&name)?, Digest::parse(&image)?);
        }
        Ok(State {
            db,
            images,
            references,
            layers,
            containers,
            parked,
            pins: HashMap::new(),
        })
    }

    /// An existing layer with this content, whatever lies below it.
    pub(crate) fn layer_by_diff(&self, diff: &DiffId) -> Option<&Layer> {
        self.layers.values().find(|layer| layer.diff == *diff)
    }

    /// Directories of a layer and all below, topmost first.
    pub(crate) fn dirs(&self, top: Option<&ChainId>) -> Vec<LayerDir<'_>> {
        let chain = chain_of(&self.layers, top);
        chain
            .into_iter()
            .map(|layer| LayerDir {
                cache: &layer.cache,
                link: &layer.link,
            })
            .collect()
    }

    /// Sum of the sizes of a layer and all below.
    pub(crate) fn size(&self, top: Option<&ChainId>) -> u64 {
        chain_of(&self.layers, top)
            .iter()
            .map(|layer| layer.size)
            .sum()
    }

    /// Deletes the rows of a container's layers and of the image layers that fall with them.
    pub(crate) fn delete_container_rows(
        &mut self,
        container_id: &str,
        released: &[ChainId],
    ) -> rusqlite::Result<()> {
        self.db.transaction(|rows| {
            rows.delete_container_layer(container_id)?;
            released
                .iter()
                .try_for_each(|chain| rows.delete_layer(chain))
        })
    }

    /// Layers that fall when nothing but their being in a chain holds `top`.
    pub(crate) fn plan_release(&self, top: Option<&ChainId>) -> Vec<ChainId> {
        let wanted = |chain: &ChainId| {
            self.pins.contains_key(chain)
                || self
                    .images
                    .values()
                    .any(|image| image.top.as_ref() == Some(chain))
                || self
                    .containers
                    .values()
                    .any(|container| container.parent.as_ref() == Some(chain))
        };
        plan_release(&self.layers, top, wanted)
    }

    /// Takes out the rows of `top` and what falls with it, if nothing holds it; the directories are the caller's to remove.
    pub(crate) fn release(&mut self, top: &ChainId) -> rusqlite::Result<Vec<Layer>> {
        let released = self.plan_release(Some(top));
        if released.is_empty() {
            return Ok(Vec::new());
        }
        self.db.transaction(|rows| {
            released
                .iter()
                .try_for_each(|chain| rows.delete_layer(chain))
        })?;
        Ok(released
            .iter()
            .filter_map(|chain| self.layers.remove(chain))
            .collect())
    }

    /// References of an image, sorted by their text as Docker does.
    pub(crate) fn references_of(&self, id: &Digest) -> Vec<Reference> {
        let named = self.references.iter().filter(|(_, image)| *image == id);
        let mut references: Vec<Reference> = named.map(|(name, _)| name.clone()).collect();
        references.sort_by_cached_key(Reference::to_string);
        references
    }
}
