//! The JSON documents of an archive, with Docker's field order.

use std::collections::BTreeMap;

use serde::Serialize;
use wharf_spec::digest::Digest;

use super::plan::{PlannedImage, SavePlan};
use super::{Blob, Content};
use crate::error::StoreError;
use crate::image::ImageRecord;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// A line of `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    layer_sources: BTreeMap<String, LayerSource>,
}

/// Docker's older descriptor, whose size comes before the digest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LayerSource {
    media_type: &'static str,
    size: u64,
    digest: String,
}

/// Adds all blobs; returns the other files in the order of the archive.
pub(super) fn describe(
    plan: &SavePlan,
    blobs: &mut BTreeMap<String, Blob>,
) -> Result<Vec<(&'static str, Vec<u8>)>, StoreError> {
    let (mut items, mut manifests) = (Vec::new(), Vec::new());
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in &plan.images {
        add_layers(image, blobs);
        let manifest = add_manifest(image, blobs)?;
        items.push(manifest_item(image, plan));
        let top = image
            .layers
            .last()
            .map_or("", |(layer, _)| layer.diff.0.hex());
        for reference in &image.references {
            let tag = reference.tag().unwrap_or_default().to_owned();
            repositories
                .entry(reference.familiar_name())
                .or_default()
                .insert(tag.clone(), top.to_owned());
            let annotations = BTreeMap::from([
                ("io.containerd.image.name", reference.to_string()),
                ("org.opencontainers.image.ref.name", tag),
            ]);
            manifests.push(Descriptor {
                annotations,
                ..manifest.clone()
            });
        }
        // An image without a name must be in the index too.
        if image.references.is_empty() {
            manifests.push(manifest);
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: INDEX,
        manifests,
    };
    let mut files = vec![
        ("index.json", encode(&index, "")?),
        ("manifest.json", encode(&items, "\n")?),
        ("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec()),
    ];
    if !repositories.is_empty() {
        files.push(("repositories", encode(&repositories, "\n")?));
    }
    Ok(files)
}

fn add_layers(image: &PlannedImage, blobs: &mut BTreeMap<String, Blob>) {
    let mtime = created_seconds(&image.record);
    for (layer, dir) in &image.layers {
        let content = Content::Layer(dir.clone(), layer.tar_size);
        blobs
            .entry(layer.diff.0.hex().to_owned())
            .or_insert(Blob { content, mtime });
    }
}

/// Adds config and manifest; returns the manifest's descriptor.
fn add_manifest(
    image: &PlannedImage,
    blobs: &mut BTreeMap<String, Blob>,
) -> Result<Descriptor, StoreError> {
    let config = image.record.raw.to_vec();
    let descriptor = |media_type, digest: &Digest, size| Descriptor {
        media_type,
        digest: digest.to_string(),
        size,
        annotations: BTreeMap::new(),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: descriptor(CONFIG, &image.record.id, config.len() as u64),
        layers: image
            .layers
            .iter()
            .map(|(layer, _)| descriptor(LAYER, &layer.diff.0, layer.tar_size))
            .collect(),
    };
    let bytes = encode(&manifest, "")?;
    let digest = Digest::of(&bytes);
    let found = descriptor(MANIFEST, &digest, bytes.len() as u64);
    let mtime = created_seconds(&image.record);
    blobs.insert(
        image.record.id.hex().to_owned(),
        Blob {
            content: Content::Bytes(config),
            mtime,
        },
    );
    blobs.insert(
        digest.hex().to_owned(),
        Blob {
            content: Content::Bytes(bytes),
            mtime: 0,
        },
    );
    Ok(found)
}

fn manifest_item(image: &PlannedImage, plan: &SavePlan) -> ManifestItem {
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
    let parent = image.record.parent.as_ref();
    let parent = parent.filter(|parent| {
        plan.image_ids()
            .any(|id| id == *parent && *id != image.record.id)
    });
    let source = |layer: &crate::layer::Layer| LayerSource {
        media_type: LAYER,
        size: layer.tar_size,
        digest: layer.diff.to_string(),
    };
    let tags: Vec<String> = image
        .references
        .iter()
        .map(wharf_spec::reference::Reference::familiar)
        .collect();
    ManifestItem {
        config: path(&image.record.id),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: image
            .layers
            .iter()
            .map(|(layer, _)| path(&layer.diff.0))
            .collect(),
        parent: parent.map(Digest::to_string),
        layer_sources: image
            .layers
            .iter()
            .map(|(layer, _)| (layer.diff.to_string(), source(layer)))
            .collect(),
    }
}

/// Creation time of the image; 0 when it has none.
pub(super) fn created_seconds(record: &ImageRecord) -> i64 {
    let created = record
        .config
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    created.map_or(0, jiff::Timestamp::as_second)
}

fn encode(value: &impl Serialize, end: &str) -> Result<Vec<u8>, StoreError> {
    let mut bytes = serde_json::to_vec(value)
        .map_err(|error| StoreError::Damaged(format!("JSON of the archive: {error}")))?;
    bytes.extend_from_slice(end.as_bytes());
    Ok(bytes)
}
