//! Lists under construction, in the form and at the place of Docker's client.
//!
//! ```text
//! ~/.docker/manifests/<list>/<image>     JSON; in the names ':' is '-' and '/' is '_'
//! ```

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharf_distribution::manifest::{Descriptor, Document, Manifest, OCI_MANIFEST};
use wharf_spec::reference::Reference;

use crate::failure::Failure;
use crate::session::Session;

/// One image of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    #[serde(rename = "Ref")]
    pub(super) reference: String,
    pub(super) descriptor: Descriptor,
    /// Base64 of the manifest's bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(
        default,
        rename = "SchemaV2Manifest",
        skip_serializing_if = "Option::is_none"
    )]
    docker: Option<Value>,
    #[serde(
        default,
        rename = "OCIManifest",
        skip_serializing_if = "Option::is_none"
    )]
    oci: Option<Value>,
}

impl Entry {
    /// From a manifest that is one image.
    pub(super) fn new(
        reference: &Reference,
        descriptor: Descriptor,
        manifest: &Manifest,
    ) -> Result<Entry, Failure> {
        let value: Value = serde_json::from_slice(&manifest.bytes)
            .map_err(|error| Failure::new(error.to_string()))?;
        let is_oci = manifest.media_type == OCI_MANIFEST;
        Ok(Entry {
            reference: reference.to_string(),
            descriptor,
            raw: STANDARD.encode(&manifest.bytes),
            docker: (!is_oci).then(|| value.clone()),
            oci: is_oci.then_some(value),
        })
    }

    /// The manifest as it came.
    pub(super) fn manifest(&self) -> Result<Manifest, Failure> {
        let bad = |why: String| {
            Failure::new(format!(
                "invalid manifest file of {}: {why}",
                self.reference
            ))
        };
        let bytes = STANDARD
            .decode(&self.raw)
            .map_err(|error| bad(error.to_string()))?;
        let manifest = Manifest::parse(bytes.into(), &self.descriptor.media_type, &self.reference)
            .map_err(|error| bad(error.to_string()))?;
        if manifest.digest != self.descriptor.digest {
            return Err(bad(format!(
                "image manifest digest mismatch ({} != {})",
                self.descriptor.digest, manifest.digest
            )));
        }
        Ok(manifest)
    }

    /// The name, parsed.
    pub(super) fn name(&self) -> Result<Reference, Failure> {
        Reference::parse(&self.reference).map_err(|error| Failure::new(error.to_string()))
    }

    /// Config and layers.
    pub(super) fn blobs(&self) -> Result<Vec<Descriptor>, Failure> {
        Ok(match self.manifest()?.document {
            Document::Image(image) => image.layers.into_iter().chain([image.config]).collect(),
            Document::Index(_) => Vec::new(),
        })
    }
}

/// The place of all lists.
pub(super) struct Lists(PathBuf);

impl Lists {
    pub(super) fn open(session: &Session) -> Result<Lists, Failure> {
        let config = session.config_path().ok_or_else(|| {
            Failure::new("no place for manifests: neither DOCKER_CONFIG nor HOME is set")
        })?;
        Ok(Lists(config.with_file_name("manifests")))
    }

    fn directory(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }

    /// The entries of a list; `None` if there is no such list.
    pub(super) fn list(&self, list: &Reference) -> Result<Option<Vec<Entry>>, Failure> {
        let entries = match std::fs::read_dir(self.directory(list)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn get(
        &self,
        list: &Reference,
        image: &Reference,
    ) -> Result<Option<Entry>, Failure> {
        let path = self.directory(list).join(file_name(image));
        if !path.exists() {
            return Ok(None);
        }
        read(&path).map(Some)
    }

    pub(super) fn save(
        &self,
        list: &Reference,
        image: &Reference,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let directory = self.directory(list);
        std::fs::create_dir_all(&directory)?;
        let text = serde_json::to_vec(entry).map_err(|error| Failure::new(error.to_string()))?;
        Ok(std::fs::write(directory.join(file_name(image)), text)?)
    }

    pub(super) fn remove(&self, list: &Reference) -> Result<(), Failure> {
        match std::fs::remove_dir_all(self.directory(list)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}

fn read(path: &PathBuf) -> Result<Entry, Failure> {
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::new(format!("invalid manifest file {}: {error}", path.display())))
}

fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

/// Docker's words for a list or an entry that is not there.
pub(super) fn no_such(reference: &Reference) -> Failure {
    Failure::new(format!("No such manifest: {reference}"))
}
