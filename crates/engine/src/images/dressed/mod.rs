//! Images with what goes along with them: annotations, provenance, lists of contents. In the forms of OCI, to a file or to a registry.
//!
//! ```text
//! index ─┬─► manifest ─► config, layers
//!        └─► attestation manifest (platform unknown/unknown) ─► statements
//! ```
//!
//! (BuildKit `docs/attestations/attestation-storage.md`; OCI image-spec 1.1.)

mod documents;
mod layout;
mod push;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub use layout::Layout;

/// What goes along with an image: the JSON a client sends.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Dressing {
    /// Of the image's manifest.
    pub annotations: BTreeMap<String, String>,
    /// Of its descriptor in the index.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// Of the index.
    pub index_annotations: BTreeMap<String, String>,
    /// Statements about the image.
    pub attestations: Vec<Attestation>,
    /// A list of the packages in the image is made and attested.
    pub sbom: bool,
    /// Names of the image, in a file.
    pub names: Vec<String>,
    /// Form of the layers in a file.
    pub compression: Compression,
}

/// One statement, without its subject.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attestation {
    /// What kind of statement it is.
    pub predicate_type: String,
    /// What it says.
    pub predicate: Value,
}

/// Form of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As pushes have it.
    #[default]
    Gzip,
    /// Zstandard.
    Zstd,
    /// As it is.
    Uncompressed,
}

impl Dressing {
    /// An index is needed to hold it.
    fn needs_index(&self) -> bool {
        !self.attestations.is_empty() || !self.index_annotations.is_empty()
    }
}
