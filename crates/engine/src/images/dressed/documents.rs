//! The documents, as pure values.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_distribution::manifest::{OCI_INDEX, OCI_MANIFEST};
use wharf_spec::digest::Digest;
use wharf_spec::platform::Platform;

use super::{Attestation, Dressing};

pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const STATEMENT: &str = "application/vnd.in-toto+json";

/// Bytes with their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) media_type: &'static str,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

impl Blob {
    pub(super) fn new(media_type: &'static str, bytes: Vec<u8>) -> Blob {
        Blob {
            media_type,
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    fn of(media_type: &'static str, value: &Value) -> Blob {
        Blob::new(media_type, value.to_string().into_bytes())
    }

    pub(super) fn descriptor(&self) -> Value {
        descriptor(self.media_type, &self.digest, self.bytes.len() as u64)
    }
}

pub(super) fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// An image with everything that points at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Documents {
    /// The image's manifest.
    pub(super) manifest: Blob,
    /// Statements and what holds them, before what names them; the last is the attestation manifest.
    pub(super) attested: Vec<Blob>,
    /// The index, if one is needed.
    pub(super) index: Option<Blob>,
    /// Descriptor of the top.
    pub(super) top: Value,
}

/// Makes all documents of an image from its descriptors.
pub(super) fn describe(
    config: &Value,
    layers: &[Value],
    platform: &Platform,
    dressing: &Dressing,
) -> Documents {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    annotate(&mut manifest, &dressing.annotations);
    let manifest = Blob::of(OCI_MANIFEST, &manifest);
    let mut described = manifest.descriptor();
    annotate(&mut described, &dressing.descriptor_annotations);
    if !dressing.needs_index() {
        return Documents {
            manifest,
            attested: Vec::new(),
            index: None,
            top: described,
        };
    }
    described["platform"] = json!(platform);
    let mut manifests = vec![described];
    let attested = attest(&manifest, platform, dressing);
    if let Some(last) = attested.last() {
        let mut entry = last.descriptor();
        entry["annotations"] = json!({
            "vnd.docker.reference.digest": manifest.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        });
        entry["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        manifests.push(entry);
    }
    let index = index(&manifests, &dressing.index_annotations);
    Documents {
        manifest,
        attested,
        top: index.descriptor(),
        index: Some(index),
    }
}

/// An index of manifests.
pub(super) fn index(manifests: &[Value], annotations: &BTreeMap<String, String>) -> Blob {
    let mut index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": manifests,
    });
    annotate(&mut index, annotations);
    Blob::of(OCI_INDEX, &index)
}

fn annotate(document: &mut Value, annotations: &BTreeMap<String, String>) {
    if !annotations.is_empty() {
        document["annotations"] = json!(annotations);
    }
}

/// Statements, their config and their manifest, in this order.
fn attest(manifest: &Blob, platform: &Platform, dressing: &Dressing) -> Vec<Blob> {
    if dressing.attestations.is_empty() {
        return Vec::new();
    }
    let mut blobs: Vec<Blob> = dressing
        .attestations
        .iter()
        .map(|attestation| statement(attestation, manifest, platform, &dressing.names))
        .collect();
    let layers: Vec<Value> = blobs
        .iter()
        .zip(&dressing.attestations)
        .map(|(blob, attestation)| {
            let mut layer = blob.descriptor();
            layer["annotations"] = json!({"in-toto.io/predicate-type": attestation.predicate_type});
            layer
        })
        .collect();
    let diffs: Vec<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
    let config = Blob::of(
        CONFIG,
        &json!({
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }),
    );
    let holder = Blob::of(
        OCI_MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.descriptor(),
            "layers": layers,
        }),
    );
    blobs.push(config);
    blobs.push(holder);
    blobs
}

/// An in-toto statement (in-toto attestation framework, v0.1): its subject is the image under each of its names.
fn statement(
    attestation: &Attestation,
    manifest: &Blob,
    platform: &Platform,
    names: &[String],
) -> Blob {
    let digest = json!({"sha256": manifest.digest.hex()});
    let mut subjects: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": package_url(name, platform), "digest": digest}))
        .collect();
    if subjects.is_empty() {
        subjects.push(json!({"name": "_", "digest": digest}));
    }
    Blob::of(
        STATEMENT,
        &json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": attestation.predicate_type,
            "subject": subjects,
            "predicate": attestation.predicate,
        }),
    )
}

/// A package URL of an image (purl-spec, type `docker`).
fn package_url(name: &str, platform: &Platform) -> String {
    let (name, version) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, format!("@{tag}")),
        _ => (name, String::new()),
    };
    let platform = platform.to_string().replace('/', "%2F");
    format!("pkg:docker/{name}{version}?platform={platform}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(dressing: &Dressing) -> Documents {
        let platform = Platform::parse("linux/amd64").expect("a platform");
        let config = Blob::new(CONFIG, b"{}".to_vec());
        describe(&config.descriptor(), &[], &platform, dressing)
    }

    #[test]
    fn an_index_is_made_when_it_is_needed() {
        let plain = documents(&Dressing::default());
        assert_eq!(plain.index, None);
        assert_eq!(plain.top["digest"], plain.manifest.digest.to_string());
        let dressed = documents(&Dressing {
            attestations: vec![Attestation {
                predicate_type: "https://example.com/p".to_owned(),
                predicate: json!({"a": 1}),
            }],
            names: vec!["host:5000/a/b:1".to_owned()],
            ..Dressing::default()
        });
        let index: Value =
            serde_json::from_slice(&dressed.index.expect("an index").bytes).expect("JSON");
        assert_eq!(
            index["manifests"][0]["digest"],
            plain.manifest.digest.to_string()
        );
        assert_eq!(index["manifests"][1]["platform"]["os"], "unknown");
        assert_eq!(
            index["manifests"][1]["annotations"]["vnd.docker.reference.digest"],
            plain.manifest.digest.to_string()
        );
        let statement: Value = serde_json::from_slice(&dressed.attested[0].bytes).expect("JSON");
        assert_eq!(
            statement["subject"][0]["name"],
            "pkg:docker/host:5000/a/b@1?platform=linux%2Famd64"
        );
        assert_eq!(
            statement["subject"][0]["digest"]["sha256"],
            plain.manifest.digest.hex()
        );
        assert_eq!(dressed.attested.len(), 3);
    }

    #[test]
    fn annotations_go_where_they_belong() {
        let map = |key: &str| BTreeMap::from([(key.to_owned(), "v".to_owned())]);
        let dressed = documents(&Dressing {
            annotations: map("m"),
            descriptor_annotations: map("d"),
            index_annotations: map("i"),
            ..Dressing::default()
        });
        let manifest: Value = serde_json::from_slice(&dressed.manifest.bytes).expect("JSON");
        assert_eq!(manifest["annotations"], json!({"m": "v"}));
        let index: Value =
            serde_json::from_slice(&dressed.index.expect("an index").bytes).expect("JSON");
        assert_eq!(index["annotations"], json!({"i": "v"}));
        assert_eq!(index["manifests"][0]["annotations"], json!({"d": "v"}));
    }
}
