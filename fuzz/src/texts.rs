//! Manifests and references.

use std::path::Path;

use bytes::Bytes;
use wharf_distribution::manifest::{Document, Manifest};
use wharf_spec::digest::Digest;
use wharf_spec::image_config::ImageConfig;
use wharf_spec::platform::Platform;
use wharf_spec::reference::{AnyReference, Reference};

use crate::run::Target;

/// What a registry answers to `GET …/manifests/…`, and image configs.
pub(crate) const MANIFEST: Target = Target {
    name: "manifest",
    seeds: manifests,
    shape: |input| input,
    check: check_manifest,
};

/// What users write.
pub(crate) const REFERENCE: Target = Target {
    name: "reference",
    seeds: references,
    shape: |input| input,
    check: check_reference,
};

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifests() -> Vec<Vec<u8>> {
    let texts = [
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","size":7,"digest":"{SHA}"}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":9,"digest":"{SHA}","annotations":{{"a":"b"}}}}]}}"#
        ),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":3,"digest":"{SHA}","platform":{{"os":"linux","architecture":"arm","variant":"v7","os.features":["x"]}}}}]}}"#
        ),
        r#"{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[],"history":[],"signatures":[]}"#
            .to_owned(),
        format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{{"Env":["A=b"],"Cmd":["sh"],"Labels":{{"a":"b"}},"ExposedPorts":{{"80/tcp":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{SHA}"]}},"history":[{{"created_by":"x","empty_layer":true}}]}}"#
        ),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

fn check_manifest(input: &[u8], _: &Path) {
    let bytes = Bytes::copy_from_slice(input);
    for content_type in [
        "",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
    ] {
        let Ok(manifest) = Manifest::parse(bytes.clone(), content_type, "x:latest") else {
            continue;
        };
        assert_eq!(
            manifest.digest,
            Digest::of(input),
            "the digest is that of the bytes"
        );
        match &manifest.document {
            Document::Index(index) => {
                let selected = index.select(&Platform::host());
                assert!(selected.len() <= index.manifests.len());
            }
            Document::Image(image) => {
                let text = serde_json::to_vec(image).expect("what was read can be written");
                let again: wharf_distribution::manifest::ImageManifest =
                    serde_json::from_slice(&text).expect("and read again");
                assert_eq!(again, **image);
            }
        }
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(input) {
        let _ = (config.diff_ids().len(), config.platform(), config.labels());
    }
}

fn references() -> Vec<Vec<u8>> {
    [
        "busybox",
        "docker.io/library/busybox:1.36",
        "localhost:5000/a/b_c--d:tag@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "[::1]:5000/x",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "linux/arm64/v8",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

fn check_reference(input: &[u8], _: &Path) {
    let text = String::from_utf8_lossy(input);
    if let Ok(reference) = Reference::parse(&text) {
        // Both forms name the same thing, but for names at Docker Hub that begin like a registry: Docker shortens them all the same.
        let first = reference.path().split('/').next().unwrap_or_default();
        let ambiguous =
            reference.domain() == "docker.io" && (first.contains('.') || first == "localhost");
        let familiar = (!ambiguous).then(|| reference.familiar());
        for form in [Some(reference.to_string()), familiar]
            .into_iter()
            .flatten()
        {
            match Reference::parse(&form) {
                Ok(again) => assert_eq!(again, reference, "{form:?}"),
                Err(error) => panic!("{form:?} of {text:?}: {error}"),
            }
        }
        let latest = reference.clone().or_latest();
        assert!(latest.tag().is_some() || latest.digest().is_some());
        assert!(!reference.path().starts_with('/') && !reference.path().contains(".."));
    }
    if let Ok(AnyReference::Id(id)) = AnyReference::parse(&text) {
        assert_eq!(id.hex().len(), 64);
    }
    if let Ok(digest) = Digest::parse(&text) {
        assert_eq!(digest.as_str(), text);
    }
    if let Ok(platform) = Platform::parse(&text) {
        assert_eq!(platform.normalise(), platform.normalise().normalise());
    }
}
