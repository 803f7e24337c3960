//! What a manifest says about other content. The bytes themselves are never changed.

use serde::Deserialize;
use serde_json::{Value, json};
use wharf_spec::digest::Digest;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What OCI 1.1 release candidates had for artifacts.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// All that is accepted.
pub const TYPES: [&str; 5] = [
    OCI_MANIFEST,
    OCI_INDEX,
    DOCKER_MANIFEST,
    DOCKER_LIST,
    OCI_ARTIFACT,
];

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the form.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A type nobody knows.
    #[error("manifests of type {0:?} are not accepted")]
    Type(String),
    /// The header and the document differ.
    #[error("Content-Type is {header:?}, but mediaType in the manifest {inside:?}")]
    Mismatch {
        /// In the request.
        header: String,
        /// In the document.
        inside: String,
    },
    /// Only the second schema is.
    #[error("schemaVersion {0} is not supported")]
    Schema(u64),
    /// It has parts of both.
    #[error("an image manifest has no \"manifests\", an index no \"layers\" or \"config\"")]
    Both,
}

/// A reference to other content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    #[serde(default)]
    pub media_type: String,
    /// Which content.
    pub digest: Digest,
    /// In bytes.
    #[serde(default)]
    pub size: u64,
    /// Where else it is.
    #[serde(default)]
    pub urls: Vec<String>,
    /// For which platform (indexes).
    #[serde(default)]
    pub platform: Option<Value>,
    /// What the builder says.
    #[serde(default)]
    pub annotations: Option<Value>,
}

impl Descriptor {
    /// Whether the content is not meant to be pushed (base layers of Windows).
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains("nondistributable") || self.media_type.contains("layer.foreign")
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    blobs: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<Value>,
}

/// A manifest that was understood.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// How it is served.
    pub media_type: String,
    /// Config and layers.
    pub config: Option<Descriptor>,
    /// Layers, or an artifact's blobs.
    pub layers: Vec<Descriptor>,
    /// An index's manifests.
    pub manifests: Vec<Descriptor>,
    /// Which manifest it is about.
    pub subject: Option<Descriptor>,
    /// What kind of artifact it is; an image manifest's config tells where it does not.
    pub artifact_type: Option<String>,
    /// What the builder says.
    pub annotations: Option<Value>,
}

impl Manifest {
    /// Understands bytes that came with a type; one of the two must name it.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(bytes: &[u8], content_type: &str) -> Result<Manifest, ManifestError> {
        let header = content_type.split(';').next().unwrap_or("").trim();
        let written: Written = serde_json::from_slice(bytes)?;
        let inside = written.media_type.clone().unwrap_or_default();
        let general = ["", "application/json", "application/octet-stream"];
        if !inside.is_empty() && !general.contains(&header) && inside != header {
            return Err(ManifestError::Mismatch {
                header: header.to_owned(),
                inside,
            });
        }
        let media_type = if general.contains(&header) {
            inside
        } else {
            header.to_owned()
        };
        if !TYPES.contains(&media_type.as_str()) {
            return Err(ManifestError::Type(media_type));
        }
        if media_type != OCI_ARTIFACT && written.schema_version != Some(2) {
            return Err(ManifestError::Schema(written.schema_version.unwrap_or(0)));
        }
        let index = is_index(&media_type);
        // A document that two readers take for two things (CVE-2021-41190).
        if index && (written.layers.is_some() || written.config.is_some())
            || !index && written.manifests.is_some()
        {
            return Err(ManifestError::Both);
        }
        let artifact_type = written.artifact_type.filter(|kind| !kind.is_empty());
        let of_config = written
            .config
            .as_ref()
            .map(|config| config.media_type.clone());
        Ok(Manifest {
            artifact_type: artifact_type.or(of_config),
            media_type,
            config: written.config,
            layers: written.layers.or(written.blobs).unwrap_or_default(),
            manifests: written.manifests.unwrap_or_default(),
            subject: written.subject,
            annotations: written.annotations,
        })
    }

    /// Blobs that must be in the repository.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config
            .iter()
            .chain(&self.layers)
            .filter(|descriptor| !descriptor.is_foreign())
    }

    /// How it stands in a list of referrers (distribution-spec, "Listing Referrers").
    pub fn as_referrer(&self, digest: &Digest, size: u64) -> Value {
        let mut descriptor = json!({"mediaType": self.media_type, "digest": digest, "size": size});
        if let Some(kind) = &self.artifact_type {
            descriptor["artifactType"] = json!(kind);
        }
        if let Some(annotations) = &self.annotations {
            descriptor["annotations"] = annotations.clone();
        }
        descriptor
    }
}

/// Whether the type is a list of manifests.
pub fn is_index(media_type: &str) -> bool {
    media_type == OCI_INDEX || media_type == DOCKER_LIST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_from_either_place_and_must_agree() {
        let doc = |media_type: &str| {
            format!(
                r#"{{"schemaVersion":2{},"config":{{"mediaType":"c","digest":"sha256:{}","size":1}},"layers":[]}}"#,
                if media_type.is_empty() {
                    String::new()
                } else {
                    format!(r#","mediaType":"{media_type}""#)
                },
                "a".repeat(64)
            )
        };
        for (header, inside, good) in [
            (OCI_MANIFEST, "", true),
            (OCI_MANIFEST, OCI_MANIFEST, true),
            ("", OCI_MANIFEST, true),
            ("application/json", DOCKER_MANIFEST, true),
            (
                "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
                "",
                true,
            ),
            (OCI_MANIFEST, DOCKER_MANIFEST, false),
            ("", "", false),
            ("text/html", "", false),
            (OCI_INDEX, "", false),
        ] {
            assert_eq!(
                Manifest::parse(doc(inside).as_bytes(), header).is_ok(),
                good,
                "{header} {inside}"
            );
        }
    }

    #[test]
    fn a_missing_artifact_type_is_the_config_s() {
        let doc = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"text/x","digest":"sha256:{}","size":1}},"layers":[]}}"#,
            "a".repeat(64)
        );
        let manifest = Manifest::parse(doc.as_bytes(), OCI_MANIFEST).expect("parses");
        assert_eq!(manifest.artifact_type.as_deref(), Some("text/x"));
        let index =
            Manifest::parse(br#"{"schemaVersion":2,"manifests":[]}"#, OCI_INDEX).expect("parses");
        assert_eq!(index.artifact_type, None);
    }
}
