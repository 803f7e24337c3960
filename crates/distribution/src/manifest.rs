//! Manifests and indexes (OCI image-spec 1.1, Docker image manifest version 2, schema 2).

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharf_spec::digest::Digest;
use wharf_spec::platform::Platform;

use crate::error::RegistryError;
use crate::repository::{Ask, Repository};
use crate::transport::limited;

/// Docker's manifest of one image.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's list of manifests.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI's manifest of one image.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI's index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's compressed layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// What types of OCI layers begin with; `tar`, `tar+gzip` or `tar+zstd` follows.
pub const OCI_LAYER_PREFIX: &str = "application/vnd.oci.image.layer.v1.";
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// Registries refuse manifests above 4 MiB; so do we, with some air.
pub const MAX_MANIFEST: usize = 4 << 20;
/// No image config comes near this.
pub const MAX_CONFIG: usize = 8 << 20;

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    #[serde(default)]
    pub size: u64,
    /// Where else it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// 2.
    pub schema_version: u32,
    /// Its own type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image config.
    pub config: Descriptor,
    /// Bottom first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// Manifests of several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// Its own type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Best first.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// What a tag or a digest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Image(Box<ImageManifest>),
    /// Several.
    Index(Index),
}

/// A manifest as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its type.
    pub media_type: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// What it says.
    pub document: Document,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Shape {
    schema_version: u32,
    media_type: String,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads a manifest. `content_type` is what the registry called it; the document's own word counts more.
    pub fn parse(bytes: Bytes, content_type: &str, name: &str) -> Result<Manifest, RegistryError> {
        let bad = |error: serde_json::Error| {
            RegistryError::Invalid(format!("failed to decode manifest of {name}: {error}"))
        };
        let shape: Shape = serde_json::from_slice(&bytes).map_err(bad)?;
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let media_type = match (shape.media_type.as_str(), content_type) {
            ("", "" | "application/json" | "text/plain" | "application/octet-stream") => {
                guess(&shape)
            }
            ("", given) => given.to_owned(),
            (own, _) => own.to_owned(),
        };
        let document = match media_type.as_str() {
            DOCKER_LIST | OCI_INDEX => {
                Document::Index(serde_json::from_slice(&bytes).map_err(bad)?)
            }
            DOCKER_MANIFEST | OCI_MANIFEST => {
                Document::Image(serde_json::from_slice(&bytes).map_err(bad)?)
            }
            other if SCHEMA_1.contains(&other) || shape.schema_version == 1 => {
                return Err(RegistryError::Invalid(schema_1(name)));
            }
            other => {
                return Err(RegistryError::Invalid(format!(
                    "unsupported manifest format: {other}"
                )));
            }
        };
        Ok(Manifest {
            digest: Digest::of(&bytes),
            bytes,
            media_type,
            document,
        })
    }
}

fn guess(shape: &Shape) -> String {
    let media_type = if shape.manifests.is_some() {
        OCI_INDEX
    } else if shape.config.is_some() {
        OCI_MANIFEST
    } else if shape.fs_layers.is_some() {
        SCHEMA_1[0]
    } else {
        ""
    };
    media_type.to_owned()
}

/// Docker's words (moby `DeprecatedSchema1ImageError`).
fn schema_1(name: &str) -> String {
    format!(
        "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of {name} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
    )
}

impl Index {
    /// The entries that run on `wanted`, best first. Entries that are no images (attestations) never do.
    pub fn select(&self, wanted: &Platform) -> Vec<&Descriptor> {
        let mut found: Vec<(usize, &Descriptor)> = self
            .manifests
            .iter()
            .filter_map(|entry| match &entry.platform {
                Some(platform) => wanted.rank(platform).map(|rank| (rank, entry)),
                None => Some((usize::MAX, entry)),
            })
            .collect();
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// What pulls accept.
fn accept() -> String {
    [
        DOCKER_MANIFEST,
        DOCKER_LIST,
        OCI_INDEX,
        OCI_MANIFEST,
        SCHEMA_1[1],
    ]
    .join(", ")
}

impl Repository {
    /// The manifest that a tag or a digest names, verified against the digest if it is one.
    pub async fn manifest(&self, reference: &str) -> Result<Manifest, RegistryError> {
        let ask = Ask::get(format!("manifests/{reference}")).header(ACCEPT, accept());
        let response = self.ask(&ask).await?;
        let content_type = header(&response, &CONTENT_TYPE);
        let name = format!("{}:{reference}", self.name().familiar_name());
        let bytes = limited(response, MAX_MANIFEST).await.ok_or_else(|| {
            RegistryError::Invalid(format!(
                "manifest of {name} is longer than {MAX_MANIFEST} bytes, or broke off"
            ))
        })?;
        if let Ok(digest) = Digest::parse(reference)
            && !digest.verify(&bytes)
        {
            return Err(RegistryError::Verification {
                what: "manifest",
                digest,
            });
        }
        Manifest::parse(bytes.into(), &content_type, &name)
    }

    /// Digest, type and length of a manifest without its content; `None` if there is none, or the registry does not say.
    pub async fn manifest_head(
        &self,
        reference: &str,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let ask = Ask::new(Method::HEAD, format!("manifests/{reference}")).header(ACCEPT, accept());
        let response = match self.ask(&ask).await {
            Ok(response) => response,
            Err(error) if error.status() == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let digest = response.headers().get("docker-content-digest");
        let digest = digest
            .and_then(|value| value.to_str().ok())
            .and_then(|text| Digest::parse(text).ok());
        Ok(digest.map(|digest| Descriptor {
            media_type: header(&response, &CONTENT_TYPE),
            size: header(&response, &http::header::CONTENT_LENGTH)
                .parse()
                .unwrap_or(0),
            digest,
            urls: Vec::new(),
            annotations: None,
            platform: None,
        }))
    }

    /// All tags, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        for page in self.pages(Ask::get("tags/list"), "list of tags").await? {
            let page: Tags = serde_json::from_slice(&page)
                .map_err(|error| RegistryError::Invalid(format!("list of tags: {error}")))?;
            tags.extend(page.tags.unwrap_or_default());
        }
        Ok(tags)
    }

    /// Descriptors of the manifests that refer to one, as the registry gives them. Of a registry that does not know who refers to what, those
    /// of the tag that stands for it (OCI distribution-spec 1.1, "Referrers Tag Schema").
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Value>, RegistryError> {
        let ask = Ask::get(format!("referrers/{subject}")).header(ACCEPT, OCI_INDEX.to_owned());
        let pages = match self.pages(ask, "list of referrers").await {
            Ok(pages) => pages,
            Err(error) if error.status() == Some(404) => {
                let tag = subject.as_str().replacen(':', "-", 1);
                match self.manifest(&tag).await {
                    Ok(index) => vec![index.bytes],
                    Err(error) if error.status() == Some(404) => Vec::new(),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for page in pages {
            let mut page: Value = serde_json::from_slice(&page)
                .map_err(|error| RegistryError::Invalid(format!("list of referrers: {error}")))?;
            if let Some(Value::Array(manifests)) = page.get_mut("manifests").map(Value::take) {
                found.extend(manifests);
            }
        }
        Ok(found)
    }

    /// All pages of a list, each as it came.
    async fn pages(&self, mut ask: Ask, what: &str) -> Result<Vec<Bytes>, RegistryError> {
        let mut pages = Vec::new();
        loop {
            let response = self.ask(&ask).await?;
            let next = next_link(&header(&response, &http::header::LINK));
            let page = limited(response, MAX_MANIFEST).await.ok_or_else(|| {
                RegistryError::Invalid(format!("{what} is too long, or broke off"))
            })?;
            pages.push(page.into());
            match next {
                Some(link) => ask = Ask::url(Method::GET, self.absolute(&link)?),
                None => return Ok(pages),
            }
        }
    }
}

pub(crate) fn header(response: &reqwest::Response, name: &http::HeaderName) -> String {
    let value = response.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// `<…>; rel="next"` (RFC 8288).
fn next_link(text: &str) -> Option<String> {
    let (target, parameters) = text.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str, content_type: &str) -> Result<Manifest, RegistryError> {
        Manifest::parse(
            Bytes::copy_from_slice(text.as_bytes()),
            content_type,
            "x:latest",
        )
    }

    #[test]
    fn types_are_found() {
        let image = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{SHA}"}},"layers":[]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{SHA}"}}]}}"#);
        for (text, content_type, expected) in [
            (&image, DOCKER_MANIFEST, Some(DOCKER_MANIFEST)),
            (&image, "application/json", Some(OCI_MANIFEST)),
            (&index, "", Some(OCI_INDEX)),
            (&r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "", None),
            (&"[]".to_owned(), "", None),
        ] {
            let got = parse(text, content_type)
                .ok()
                .map(|manifest| manifest.media_type);
            assert_eq!(got.as_deref(), expected, "{text}");
        }
        let refused = parse(r#"{"schemaVersion":1,"fsLayers":[]}"#, "").expect_err("schema 1");
        assert!(refused.to_string().contains("schema 1"), "{refused}");
    }

    #[test]
    fn platforms_are_selected_best_first() {
        let entry = |os: &str, architecture: &str, variant: &str| {
            format!(
                r#"{{"digest":"{SHA}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}}}"#
            )
        };
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{},{}]}}"#,
            entry("unknown", "unknown", ""),
            entry("linux", "arm", "v6"),
            entry("linux", "arm", "v7"),
            entry("linux", "amd64", "")
        );
        let index: Index = serde_json::from_str(&text).expect("valid");
        let variants = |wanted: &str| -> Vec<String> {
            let wanted = Platform::parse(wanted).expect("platform");
            let found = index.select(&wanted);
            found
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                .map(|platform| format!("{}{}", platform.architecture, platform.variant))
                .collect()
        };
        assert_eq!(variants("linux/amd64"), ["amd64"]);
        assert_eq!(variants("linux/arm/v7"), ["armv7", "armv6"]);
        assert_eq!(variants("linux/s390x"), [""; 0]);
    }

    #[test]
    fn next_pages() {
        assert_eq!(
            next_link(r#"</v2/x/tags/list?last=b&n=2>; rel="next""#).as_deref(),
            Some("/v2/x/tags/list?last=b&n=2")
        );
        assert_eq!(next_link(""), None);
    }
}
