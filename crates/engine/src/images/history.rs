//! `docker history`.

use wharf_api::image::HistoryItem;
use wharf_spec::digest::Digest;
use wharf_spec::image_config::HistoryEntry;
use wharf_store::layer::Layer;

use super::signed;
use crate::{Engine, Error, Result};

impl Engine {
    /// The steps an image came about by, newest first. Only steps whose images are here have IDs.
    pub async fn image_history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let image = self.store.image(name)?;
        let mut items = steps(&image.config.history, &self.store.layers_of(&image))?;
        items.reverse();
        let mut next = Some(image.id);
        for item in &mut items {
            let Some(id) = next else { break };
            item.id = id.to_string();
            item.tags = self.tags_of(&id);
            next = self
                .store
                .image_by_id(&id)
                .ok()
                .and_then(|image| image.parent);
        }
        Ok(items)
    }

    fn tags_of(&self, id: &Digest) -> Option<Vec<String>> {
        let names = self.store.references_of(id);
        let tags: Vec<String> = names
            .iter()
            .filter(|name| name.digest().is_none())
            .map(|name| name.familiar())
            .collect();
        (!tags.is_empty()).then_some(tags)
    }
}

/// One item for each step, oldest first, with the size of the layer it made.
fn steps(history: &[HistoryEntry], layers: &[Layer]) -> Result<Vec<HistoryItem>> {
    let mut layers = layers.iter();
    let item = |step: &HistoryEntry| {
        let size = if step.empty_layer {
            0
        } else {
            let layer = layers
                .next()
                .ok_or_else(|| Error::internal("too many non-empty layers in History section"))?;
            signed(layer.size)
        };
        let created = step
            .created
            .as_deref()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Ok(HistoryItem {
            comment: step.comment.clone(),
            created: created.map_or(0, jiff::Timestamp::as_second),
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size,
            tags: None,
        })
    };
    history.iter().map(item).collect()
}
