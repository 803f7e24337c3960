//! `manifest.json`, Docker's own list of images in an archive.

use serde::Deserialize;
use wharf_spec::digest::Digest;

use super::Item;
use super::archive::Contents;
use crate::error::StoreError;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default)]
    parent: Option<String>,
}

/// The images `manifest.json` lists.
pub(super) fn items(manifest: &[u8], contents: &Contents) -> Result<Vec<Item>, StoreError> {
    let items: Option<Vec<ManifestItem>> = serde_json::from_slice(manifest).map_err(|error| {
        StoreError::archive(format!(
            "invalid archive: failed to decode manifest.json: {error}"
        ))
    })?;
    let Some(items) = items else {
        return Err(StoreError::archive(
            "invalid manifest, manifest cannot be null (but can be [])",
        ));
    };
    items
        .into_iter()
        .map(|item| read_item(item, contents))
        .collect()
}

fn read_item(item: ManifestItem, contents: &Contents) -> Result<Item, StoreError> {
    let config = contents.file(&item.config).ok_or_else(|| {
        StoreError::archive(format!(
            "invalid archive: does not contain a {}",
            item.config
        ))
    })?;
    let parent = item.parent.filter(|parent| !parent.is_empty());
    Ok(Item {
        config: config.to_vec(),
        layers: item.layers.unwrap_or_default(),
        tags: item.repo_tags.unwrap_or_default(),
        parent: parent.as_deref().map(Digest::parse).transpose()?,
    })
}
