//! OCI image layouts: `index.json`, indexes in it, manifests (OCI image-spec, image-layout).

use std::collections::BTreeMap;

use serde::Deserialize;
use wharf_spec::digest::Digest;
use wharf_spec::platform::Platform;

use super::Item;
use super::archive::Contents;
use crate::error::StoreError;

/// Indexes in indexes deeper than this are refused.
const MAX_DEPTH: usize = 4;
/// Full name, written by containerd and BuildKit.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// A tag, or with some tools a full name (OCI image-spec, annotations).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// The images of a layout: one for each name in `index.json`, for the platform that fits best.
pub(super) fn items(
    contents: &Contents,
    platform: Option<&Platform>,
) -> Result<Vec<Item>, StoreError> {
    let Some(index) = contents.file("index.json") else {
        return Err(StoreError::archive(
            "invalid archive: does not contain a manifest.json",
        ));
    };
    let index: Index = decode("index.json", index)?;
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let (named, unnamed): (Vec<_>, Vec<_>) = index
        .manifests
        .unwrap_or_default()
        .into_iter()
        .partition(|descriptor| name_of(descriptor).is_some());
    let mut items: Vec<Item> = Vec::new();
    for descriptor in named {
        let tag = name_of(&descriptor);
        if let Some(manifest) = best(vec![descriptor], contents, &wanted, 0)? {
            add(&mut items, read_manifest(&manifest, contents)?, tag);
        }
    }
    // Entries without a name are variants of one image.
    if let Some(manifest) = best(unnamed, contents, &wanted, 0)? {
        add(&mut items, read_manifest(&manifest, contents)?, None);
    }
    Ok(items)
}

/// Two names of one image come out as one image with two tags.
fn add(items: &mut Vec<Item>, mut item: Item, tag: Option<String>) {
    match items
        .iter_mut()
        .find(|known| known.config == item.config && known.layers == item.layers)
    {
        Some(known) => known.tags.extend(tag),
        None => {
            item.tags.extend(tag);
            items.push(item);
        }
    }
}

/// The manifest that fits the platform best, looked for in indexes too.
fn best(
    candidates: Vec<Descriptor>,
    contents: &Contents,
    wanted: &Platform,
    depth: usize,
) -> Result<Option<Descriptor>, StoreError> {
    if depth > MAX_DEPTH {
        return Err(StoreError::archive(
            "invalid archive: indexes are nested too deeply",
        ));
    }
    let mut found: Option<(usize, Descriptor)> = None;
    for candidate in candidates {
        let candidate = if is_index(&candidate) {
            let index: Index = decode("index", blob(&candidate, contents)?)?;
            best(
                index.manifests.unwrap_or_default(),
                contents,
                wanted,
                depth + 1,
            )?
        } else {
            Some(candidate)
        };
        let Some(candidate) = candidate else { continue };
        let rank = match &candidate.platform {
            // Attestations have the platform unknown/unknown.
            Some(platform) => wanted.rank(platform),
            None => Some(0),
        };
        let better = |rank: usize| found.as_ref().is_none_or(|(known, _)| rank < *known);
        if let Some(rank) = rank.filter(|rank| better(*rank)) {
            found = Some((rank, candidate));
        }
    }
    Ok(found.map(|(_, descriptor)| descriptor))
}

fn read_manifest(descriptor: &Descriptor, contents: &Contents) -> Result<Item, StoreError> {
    let manifest: Manifest = decode("manifest", blob(descriptor, contents)?)?;
    let config = blob(&manifest.config, contents)?.to_vec();
    let layers = manifest.layers.unwrap_or_default();
    Ok(Item {
        config,
        layers: layers
            .iter()
            .map(|layer| blob_path(&layer.digest))
            .collect(),
        tags: Vec::new(),
        parent: None,
    })
}

/// A name for the image, if the descriptor has one that is more than a tag.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations.as_ref()?;
    let whole = |name: &&String| name.contains(['/', ':']);
    annotations
        .get(IMAGE_NAME)
        .or_else(|| annotations.get(REF_NAME).filter(whole))
        .cloned()
}

fn is_index(descriptor: &Descriptor) -> bool {
    matches!(
        descriptor.media_type.as_str(),
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

/// A small blob, checked against its digest.
fn blob<'a>(descriptor: &Descriptor, contents: &'a Contents) -> Result<&'a [u8], StoreError> {
    let path = blob_path(&descriptor.digest);
    let bytes = contents.file(&path).ok_or_else(|| {
        StoreError::archive(format!("invalid archive: does not contain a {path}"))
    })?;
    if !descriptor.digest.verify(bytes) {
        return Err(StoreError::archive(format!(
            "invalid archive: blob {} has another digest",
            descriptor.digest
        )));
    }
    Ok(bytes)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| {
        StoreError::archive(format!("invalid archive: failed to decode {what}: {error}"))
    })
}
