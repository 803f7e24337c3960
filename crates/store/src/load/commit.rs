//! Images of an archive become records, once their layers are what the config says.

use wharf_spec::digest::{ChainId, DiffId, Digest};
use wharf_spec::image_config::ImageConfig;
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;

use super::archive::{Blob, Contents};
use super::{Item, LoadEvent, LoadOptions, LoadedReference};
use crate::error::StoreError;
use crate::image::parse_config;
use crate::pipeline::Staged;
use crate::store::Store;

/// Commits images one after the other, as Docker does.
pub(super) fn commit(
    store: &Store,
    items: Vec<Item>,
    contents: &mut Contents,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadEvent),
) -> Result<(), StoreError> {
    let mut loaded: Vec<(Digest, Option<Digest>)> = Vec::new();
    for item in items {
        let config = parse_config(&item.config)?;
        if !config.os.is_empty() && config.os != "linux" {
            return Err(StoreError::Invalid(format!(
                "cannot load {} image on linux",
                config.os
            )));
        }
        if options
            .platform
            .as_ref()
            .is_some_and(|wanted| !fits(wanted, &config))
        {
            continue;
        }
        store.check_depth(&config)?;
        register_layers(store, &config, &item, contents)?;
        let id = store.add_image(&item.config)?;
        let references = tag_all(store, &id, &item.tags)?;
        loaded.push((id.clone(), item.parent));
        progress(LoadEvent::Image { id, references });
    }
    link_parents(store, &loaded)
}

fn fits(wanted: &Platform, config: &ImageConfig) -> bool {
    wanted.runs(&config.platform())
}

fn register_layers(
    store: &Store,
    config: &ImageConfig,
    item: &Item,
    contents: &mut Contents,
) -> Result<(), StoreError> {
    let diffs = config.diff_ids();
    if item.layers.len() != diffs.len() {
        let (expected, got) = (item.layers.len(), diffs.len());
        return Err(StoreError::archive(format!(
            "invalid manifest, layers length mismatch: expected {expected}, got {got}"
        )));
    }
    let mut parent: Option<ChainId> = None;
    for (i, (diff, name)) in diffs.iter().zip(&item.layers).enumerate() {
        let chain = ChainId::above(parent.as_ref(), diff);
        if !contents.pins.pin(&chain) {
            let staged = take_layer(store, contents, name, diff, i)?;
            store.register_layer(staged, parent.as_ref(), &mut contents.pins)?;
        }
        parent = Some(chain);
    }
    Ok(())
}

/// The layer called `name`; a further copy when another chain has it already.
fn take_layer(
    store: &Store,
    contents: &mut Contents,
    name: &str,
    expected: &DiffId,
    index: usize,
) -> Result<Staged, StoreError> {
    let name = contents.resolve(name);
    let found = match contents.blobs.remove(&name) {
        Some(Blob::Staged(staged)) => {
            contents
                .blobs
                .insert(name, Blob::Known(staged.diff.clone()));
            Ok(*staged)
        }
        Some(Blob::Known(diff)) => {
            contents.blobs.insert(name, Blob::Known(diff.clone()));
            Err(diff)
        }
        Some(Blob::Bad(error)) => return Err(error),
        None => {
            return Err(StoreError::archive(format!(
                "invalid archive: does not contain a {name}"
            )));
        }
    };
    let diff = match &found {
        Ok(staged) => &staged.diff,
        Err(diff) => diff,
    };
    if diff != expected {
        return Err(StoreError::archive(format!(
            "invalid diffID for layer {index}: expected \"{expected}\", got \"{diff}\""
        )));
    }
    found.or_else(|diff| store.copy_layer(&diff))
}

fn tag_all(
    store: &Store,
    id: &Digest,
    tags: &[String],
) -> Result<Vec<LoadedReference>, StoreError> {
    let mut references = Vec::new();
    for tag in tags {
        let reference = Reference::parse(tag)?;
        if reference.tag().is_none() {
            return Err(StoreError::archive(format!("invalid tag {tag:?}")));
        }
        let previous = store.set_reference(id, &reference)?;
        references.push(LoadedReference {
            reference,
            previous,
        });
    }
    Ok(references)
}

/// Parents the archive names, where both are in it and one is made from the other.
fn link_parents(store: &Store, loaded: &[(Digest, Option<Digest>)]) -> Result<(), StoreError> {
    for (id, parent) in loaded {
        let Some(parent) = parent.as_ref().filter(|parent| {
            loaded
                .iter()
                .any(|(known, _)| known == *parent && known != id)
        }) else {
            continue;
        };
        let (child, base) = (store.image_by_id(id)?, store.image_by_id(parent)?);
        if !is_parent(&base.config, &child.config) {
            return Err(StoreError::archive(format!(
                "image {parent} is not a valid parent for {id}"
            )));
        }
        store.set_parent(id, parent)?;
    }
    Ok(())
}

/// A child has its parent's history and one step more.
fn is_parent(parent: &ImageConfig, child: &ImageConfig) -> bool {
    let (parent, child) = (&parent.history, &child.history);
    (parent.is_empty() && child.is_empty())
        || (child.len() == parent.len() + 1 && child.starts_with(parent))
}
