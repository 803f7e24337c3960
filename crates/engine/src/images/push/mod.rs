//! `docker push` (moby `daemon/internal/distribution/push_v2.go`).
//!
//! A layer that was pulled, or pushed before, is known by the digest of its compressed form. Where the registry has it, or another of its
//! repositories, nothing is sent; where only its old home has it, it goes from there to here as it is, so that the image keeps its digest. All
//! else is compressed, the same way each time.

mod layer;
mod lines;

use std::collections::HashMap;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use wharf_api::error::Kind;
use wharf_distribution::manifest::{
    DOCKER_CONFIG, DOCKER_MANIFEST, Document, ImageManifest, Manifest,
};
use wharf_distribution::{Credentials, RegistryError, Repository};
use wharf_spec::digest::{DiffId, Digest};
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;
use wharf_store::KnownManifest;
use wharf_store::push::PushPlan;

use super::pull::{Sink, TrimLater};
use crate::{Engine, Error, Result};
use layer::Sent;
use lines::Lines;

/// What to push.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// With a tag; a bare name means all tags.
    pub reference: Reference,
    /// `os/arch[/variant]`: refuse images of others.
    pub platform: String,
    /// Who asks.
    pub credentials: Credentials,
}

impl PushRequest {
    /// Reads the parameters of `POST /images/{name}/push`.
    pub fn parse(
        name: &str,
        tag: &str,
        platform: &str,
        credentials: Credentials,
    ) -> Result<PushRequest> {
        let invalid =
            |error: wharf_spec::reference::ReferenceError| Error::invalid(error.to_string());
        let reference = Reference::parse(name).map_err(invalid)?;
        let reference = match tag {
            "" => reference,
            _ if reference.digest().is_some() => {
                return Err(Error::invalid("cannot push a digest reference"));
            }
            tag => reference.with_tag(tag).map_err(invalid)?,
        };
        Ok(PushRequest {
            reference,
            platform: platform.to_owned(),
            credentials,
        })
    }
}

impl Engine {
    /// Pushes an image, or all tags of a name. Dropping the future ends it.
    pub async fn image_push(&self, request: PushRequest, sink: Sink) -> Result<()> {
        let platform = super::import::platform(&request.platform)?;
        let lines = Lines::new(sink);
        let _trim = TrimLater;
        let reference = &request.reference;
        let tags = self.tags_to_push(reference, platform.as_ref());
        lines.refers_to(reference).await;
        let tags = tags?;
        let push = Push {
            repository: self.registry.push(reference, &request.credentials).await,
            engine: self,
            credentials: request.credentials,
            lines,
            sent: tokio::sync::Mutex::default(),
        };
        for (tag, id) in tags {
            push.one(&tag, &id).await?;
        }
        self.tell_pulled("push", reference);
        Ok(())
    }

    /// The names to push with the image of each, in Docker's words where there is none.
    fn tags_to_push(
        &self,
        wanted: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Vec<(Reference, Digest)>> {
        let of_name: Vec<(Reference, Digest)> = self
            .store
            .references()
            .into_iter()
            .filter(|(known, _)| known.name() == wanted.name())
            .collect();
        if of_name.is_empty() {
            return Err(Error::internal(format!(
                "An image does not exist locally with the tag: {}",
                wanted.familiar_name()
            )));
        }
        if wanted.digest().is_some() {
            return Err(Error::internal("cannot push a digest reference"));
        }
        let tags: Vec<_> = of_name
            .into_iter()
            .filter(|(known, _)| {
                known.tag().is_some() && (wanted.is_name_only() || known == wanted)
            })
            .collect();
        if tags.is_empty() && wanted.is_name_only() {
            return Err(Error::internal(format!(
                "no tags to push for {}",
                wanted.familiar_name()
            )));
        }
        if tags.is_empty() {
            return Err(Error::internal(format!(
                "tag does not exist: {}",
                wanted.familiar()
            )));
        }
        if let Some(platform) = platform {
            for (tag, id) in &tags {
                self.check_platform(tag, id, platform)?;
            }
        }
        Ok(tags)
    }

    fn check_platform(&self, tag: &Reference, id: &Digest, wanted: &Platform) -> Result<()> {
        let actual = self.store.image_by_id(id)?.config.platform();
        if wanted.runs(&actual) {
            return Ok(());
        }
        Err(Error::not_found(format!(
            "image with reference {} was found but its platform ({}) does not match the specified platform ({})",
            tag.familiar(),
            actual.format_all(),
            wanted.format_all()
        )))
    }
}

/// One push under way.
pub(super) struct Push<'a> {
    engine: &'a Engine,
    repository: Repository,
    credentials: Credentials,
    lines: Lines,
    /// Layers that are there, for further tags.
    sent: tokio::sync::Mutex<HashMap<DiffId, Sent>>,
}

impl<'a> Push<'a> {
    /// Nothing is sent yet.
    pub(super) async fn begin(
        engine: &'a Engine,
        reference: &Reference,
        credentials: Credentials,
        sink: Sink,
    ) -> Push<'a> {
        let lines = Lines::new(sink);
        lines.refers_to(reference).await;
        Push {
            repository: engine.registry.push(reference, &credentials).await,
            engine,
            credentials,
            lines,
            sent: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn engine(&self) -> &'a Engine {
        self.engine
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) async fn tell_pushed(&self, tag: &str, digest: &Digest, size: usize) {
        self.lines.pushed(tag, digest, size).await;
    }

    /// Gets an image's layers and config there; gives type, digest and size of each layer, bottom first.
    pub(super) async fn all_layers(&self, plan: &PushPlan) -> Result<Vec<(String, Digest, u64)>> {
        let manifests = self.engine.manifests_of(&plan.image.id)?;
        self.layers(plan, &manifests).await?;
        self.config(plan).await?;
        let sent = self.sent.lock().await;
        plan.layers
            .iter()
            .map(|layer| {
                let sent = sent.get(&layer.layer.diff);
                let sent = sent.ok_or_else(|| Error::internal("a layer was not pushed"))?;
                Ok((sent.docker_type(), sent.digest.clone(), sent.size))
            })
            .collect()
    }
}

impl Push<'_> {
    async fn one(&self, tag: &Reference, id: &Digest) -> Result<()> {
        let plan = self.engine.store.plan_push(id)?;
        let manifests = self.engine.manifests_of(id)?;
        self.layers(&plan, &manifests).await?;
        let manifest = self.manifest(&plan, &manifests).await?;
        self.config(&plan).await?;
        let name = tag.tag().unwrap_or(wharf_spec::reference::DEFAULT_TAG);
        self.repository
            .put_manifest(name, &manifest.media_type, manifest.bytes.clone().into())
            .await
            .map_err(|error| refusal(&error))?;
        self.lines
            .pushed(name, &manifest.digest, manifest.bytes.len())
            .await;
        if let Err(error) = self.note(tag, id, manifest) {
            tracing::warn!(image = %id, %error, "the digest of a pushed image was not noted");
        }
        Ok(())
    }

    /// Remembers by which digest the image is in the registry now. It is there whether that succeeds or not.
    fn note(&self, tag: &Reference, id: &Digest, manifest: KnownManifest) -> Result<()> {
        self.engine.store.note_manifest(id, &manifest)?;
        let by_digest = tag.with_digest(manifest.digest);
        if self.engine.store.named(&by_digest).is_none() {
            self.engine.store.name_image(id, &by_digest)?;
        }
        Ok(())
    }

    /// Gets all layers there, side by side; topmost first in what is told, as in Docker.
    async fn layers(&self, plan: &PushPlan, manifests: &[Manifest]) -> Result<()> {
        let mut seen = std::collections::HashSet::new();
        let mut layers: Vec<_> = plan.layers.iter().rev().collect();
        layers.retain(|layer| seen.insert(layer.layer.diff.clone()));
        for layer in &layers {
            self.lines.status(&layer.layer.diff, "Preparing").await;
        }
        let preferred = |diff: &DiffId| preferred(plan, manifests, diff);
        let mut sending: FuturesUnordered<_> = layers
            .into_iter()
            .map(|layer| self.layer(layer, preferred(&layer.layer.diff)))
            .collect();
        while let Some(outcome) = sending.next().await {
            outcome?;
        }
        Ok(())
    }

    async fn config(&self, plan: &PushPlan) -> Result<()> {
        let id = &plan.image.id;
        let refused = |error: RegistryError| refusal(&error);
        if self
            .repository
            .blob_head(id)
            .await
            .map_err(refused)?
            .is_some()
        {
            return Ok(());
        }
        let raw = bytes::Bytes::copy_from_slice(&plan.image.raw);
        self.repository.put_blob(id, raw).await.map_err(refused)
    }

    /// The manifest the image came by, if its layers are there as it says; else one of our own.
    async fn manifest(&self, plan: &PushPlan, manifests: &[Manifest]) -> Result<KnownManifest> {
        let sent = self.sent.lock().await;
        let layers: Vec<&Sent> = plan
            .layers
            .iter()
            .filter_map(|layer| sent.get(&layer.layer.diff))
            .collect();
        if layers.len() != plan.layers.len() {
            return Err(Error::internal("a layer was not pushed"));
        }
        let known = manifests.iter().find(|manifest| {
            image_of(manifest).is_some_and(|image| {
                image.layers.len() == layers.len()
                    && image
                        .layers
                        .iter()
                        .zip(&layers)
                        .all(|(a, b)| a.digest == b.digest)
            })
        });
        if let Some(manifest) = known {
            return Ok(KnownManifest {
                digest: manifest.digest.clone(),
                media_type: manifest.media_type.clone(),
                bytes: manifest.bytes.to_vec(),
            });
        }
        Ok(docker_manifest(plan, &layers))
    }
}

/// The digest a layer has in a manifest the image came by.
fn preferred(plan: &PushPlan, manifests: &[Manifest], diff: &DiffId) -> Vec<Digest> {
    let at = plan
        .layers
        .iter()
        .position(|layer| layer.layer.diff == *diff);
    let digests = manifests.iter().filter_map(image_of).filter_map(|image| {
        let layer = image.layers.get(at?)?;
        Some(layer.digest.clone())
    });
    digests.collect()
}

fn image_of(manifest: &Manifest) -> Option<&ImageManifest> {
    match &manifest.document {
        Document::Image(image) => Some(image),
        Document::Index(_) => None,
    }
}

/// Schema 2, in the form Docker writes it.
fn docker_manifest(plan: &PushPlan, layers: &[&Sent]) -> KnownManifest {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| json!({"mediaType": layer.docker_type(), "size": layer.size, "digest": layer.digest}))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "size": plan.image.raw.len(), "digest": plan.image.id},
        "layers": layers,
    });
    let bytes = indented(&manifest);
    KnownManifest {
        digest: Digest::of(&bytes),
        media_type: DOCKER_MANIFEST.to_owned(),
        bytes,
    }
}

/// Docker indents manifests by three spaces.
fn indented(value: &serde_json::Value) -> Vec<u8> {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .expect("a JSON value is written to memory without failing");
    bytes
}

impl Engine {
    /// The manifests an image came by, those that can be read.
    fn manifests_of(&self, id: &Digest) -> Result<Vec<Manifest>> {
        let known = self.store.manifests_of(id)?;
        Ok(known
            .into_iter()
            .filter_map(|known| Manifest::parse(known.bytes.into(), &known.media_type, "").ok())
            .collect())
    }
}

/// Docker's words for a registry's refusal to take something: those of the registry.
pub(super) fn refusal(error: &RegistryError) -> Error {
    match error {
        RegistryError::NoCredentials { .. } => {
            Error::new(Kind::Unauthorized, "no basic auth credentials")
        }
        _ => Error::internal(error.to_string()),
    }
}
