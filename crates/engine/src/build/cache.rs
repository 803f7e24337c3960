//! The cache: images that earlier steps left behind (moby `image/cache`).

use std::sync::Arc;

use wharf_api::container::Config;
use wharf_build::solve::is_same;
use wharf_spec::digest::Digest;
use wharf_spec::image_config::{HistoryEntry, ImageConfig, RootFs};
use wharf_store::{ImageRecord, StoreError};

use crate::Engine;

impl Engine {
    /// The newest image that a step with these settings made upon this parent.
    pub(super) fn cached_step(&self, parent: Option<&Digest>, step: &Config) -> Option<Digest> {
        let candidates: Vec<ImageRecord> = match parent {
            Some(parent) => {
                let children = self.store.children_of(parent);
                let records = children.iter().map(|id| self.store.image_by_id(id));
                records.filter_map(Result::ok).collect()
            }
            None => {
                let mut all = self.store.images();
                all.retain(|image| image.parent.is_none() && image.config.history.len() == 1);
                all
            }
        };
        candidates
            .into_iter()
            .filter(|image| {
                let step_of = image.config.container_config.as_ref();
                step_of.is_some_and(|stored| is_same(stored, step))
            })
            .max_by(|a, b| a.config.created.cmp(&b.config.created))
            .map(|image| image.id)
    }

    /// The same of an image that came from elsewhere, whose steps are known by its history alone. The image of the step is made anew.
    pub(super) fn cached_history(
        &self,
        parent: Option<&Digest>,
        step: &Config,
        settings: &Config,
        sources: &[String],
    ) -> Result<Option<Digest>, StoreError> {
        let parent_record = parent.map(|id| self.store.image_by_id(id)).transpose()?;
        let parent_config = parent_record.as_ref().map(|record| record.config.clone());
        let wanted = step.cmd.as_deref().unwrap_or_default().join(" ");
        for name in sources {
            let Ok(source) = self.store.image(name) else {
                continue;
            };
            let steps = parent_config
                .as_ref()
                .map_or(0, |config| config.history.len());
            let step = (step, settings);
            if let Some(raw) = continued(&source.config, parent_config.as_ref(), &wanted, step) {
                // The last step is the image itself (moby `image/cache`).
                if source.config.history.len() == steps + 1 {
                    if let Some(parent) = parent {
                        self.store.set_parent(&source.id, parent)?;
                    }
                    return Ok(Some(source.id.clone()));
                }
                let keep = self.store.hold_layers(&source.id)?;
                let id = self.store.restore_step(parent, &raw)?;
                drop(keep);
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

/// The config of the step after `parent` in `source`, if that is the wanted one.
fn continued(
    source: &ImageConfig,
    parent: Option<&Arc<ImageConfig>>,
    wanted: &str,
    (step, settings): (&Config, &Config),
) -> Option<Vec<u8>> {
    let none: (&[HistoryEntry], &[_]) = (&[], &[]);
    let (history, layers) = parent.map_or(none, |parent| {
        (parent.history.as_slice(), parent.diff_ids())
    });
    if source.history.len() <= history.len()
        || !source.diff_ids().starts_with(layers)
        || !same_history(&source.history, history)
    {
        return None;
    }
    let next = &source.history[history.len()];
    if next.created_by != wanted {
        return None;
    }
    let mut layers = layers.to_vec();
    if !next.empty_layer {
        layers.push(source.diff_ids().get(layers.len())?.clone());
    }
    let mut history = history.to_vec();
    history.push(next.clone());
    let mut image = ImageConfig {
        history,
        created: next.created.clone(),
        rootfs: Some(RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers,
        }),
        container_config: serde_json::to_value(step).ok(),
        ..source.clone()
    };
    image.config = serde_json::to_value(settings)
        .and_then(serde_json::from_value)
        .ok();
    Some(wharf_api::gojson::to_string(&image).into_bytes())
}

fn same_history(source: &[HistoryEntry], parent: &[HistoryEntry]) -> bool {
    source
        .iter()
        .zip(parent)
        .all(|(a, b)| a.created_by == b.created_by && a.empty_layer == b.empty_layer)
}
