//! `docker pull` (moby `daemon/internal/distribution/pull_v2.go`).
//!
//! The manifest for the wanted platform names a config and layers. Each layer is a job that all pulls share (`download`): it streams from
//! the registry into the store, which unpacks while it hashes. Once all are there the image is put together and gets its names. Nothing of a pull
//! that fails is visible, and what was complete is not fetched again by the next one.

pub(crate) mod download;
mod lines;

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use wharf_api::error::Kind;
use wharf_api::progress::Progress;
use wharf_distribution::manifest::{
    DOCKER_CONFIG, Descriptor, Document, ImageManifest, MAX_CONFIG, Manifest,
};
use wharf_distribution::{Credentials, RegistryError, Repository};
use wharf_spec::digest::{DiffId, Digest};
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;
use wharf_store::KnownManifest;
use wharf_store::pull::{Assembly, Presence};

use crate::{Engine, Error, Result, blocking};
use lines::Lines;

/// Where progress goes. When the other end is gone, so is whoever asked.
pub type Sink = mpsc::Sender<Progress>;

/// Indexes in indexes deeper than this are refused.
const MAX_DEPTH: usize = 4;
/// More images under one name are refused where all are wanted.
const MAX_IMAGES: usize = 256;

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// With a tag or a digest; a bare name means all tags.
    pub reference: Reference,
    /// `os[/arch[/variant]]`, empty for the host's.
    pub platform: String,
    /// Who asks.
    pub credentials: Credentials,
}

impl PullRequest {
    /// Reads the parameters of `POST /images/create`.
    pub fn parse(
        image: &str,
        tag: &str,
        platform: &str,
        credentials: Credentials,
    ) -> Result<PullRequest> {
        let invalid =
            |error: wharf_spec::reference::ReferenceError| Error::invalid(error.to_string());
        // `pull -a` of old clients sends a colon without a tag.
        let name = Reference::parse(image.strip_suffix(':').unwrap_or(image)).map_err(invalid)?;
        let reference = match (tag, Digest::parse(tag)) {
            ("", _) => name,
            (_, Ok(digest)) => name.with_digest(digest),
            (tag, Err(_)) => name.with_tag(tag).map_err(invalid)?,
        };
        if reference.familiar_name() == "scratch" {
            return Err(Error::new(Kind::Forbidden, "'scratch' is a reserved name"));
        }
        Ok(PullRequest {
            reference,
            platform: platform.to_owned(),
            credentials,
        })
    }
}

impl Engine {
    /// Pulls an image, or all images of a repository. Dropping the future ends it; what is complete by then is kept for the next attempt.
    pub async fn image_pull(&self, request: PullRequest, sink: Sink) -> Result<()> {
        let platform = super::import::platform(&request.platform)?;
        let reference = &request.reference;
        let _trim = TrimLater;
        let repository = self.registry.pull(reference, &request.credentials).await;
        let pull = Pull {
            engine: self,
            repository,
            platform,
            lines: Lines::new(sink),
        };
        let mut newer = false;
        if reference.is_name_only() {
            let tags = pull.repository.tags().await;
            for tag in tags.map_err(|error| refusal(&error, reference))? {
                let tagged = reference
                    .with_tag(&tag)
                    .map_err(|error| Error::invalid(error.to_string()))?;
                newer |= pull.one(&tagged).await?;
            }
        } else {
            newer = pull.one(reference).await?;
        }
        pull.lines.outcome(reference, newer).await;
        self.tell_pulled("pull", reference);
        Ok(())
    }

    /// Gets all images that a tag or digest names, whatever their platform, and gives them no name. Their IDs come back, in the order of the
    /// index.
    pub(crate) async fn image_pull_all(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        sink: Sink,
    ) -> Result<Vec<Digest>> {
        let _trim = TrimLater;
        let pull = Pull {
            engine: self,
            repository: self.registry.pull(reference, credentials).await,
            platform: None,
            lines: Lines::new(sink),
        };
        let what = match reference.digest() {
            Some(digest) => digest.as_str(),
            None => reference
                .tag()
                .unwrap_or(wharf_spec::reference::DEFAULT_TAG),
        };
        let refused = |error: RegistryError| refusal(&error, reference);
        let mut pending = vec![pull.repository.manifest(what).await.map_err(refused)?];
        let mut ids = Vec::new();
        while let Some(manifest) = pending.pop() {
            match &manifest.document {
                Document::Image(image) => {
                    check_config_type(&manifest)?;
                    let id = pull.image(image, reference).await?;
                    self.note_manifest(&id, &manifest)?;
                    ids.push(id);
                }
                Document::Index(index) => {
                    let images = index.manifests.iter().filter(|entry| {
                        let platform = entry.platform.as_ref();
                        platform.is_none_or(|platform| platform.os != "unknown")
                    });
                    for entry in images.rev() {
                        let fetched = pull.repository.manifest(entry.digest.as_str()).await;
                        pending.push(fetched.map_err(refused)?);
                    }
                }
            }
            if ids.len() + pending.len() > MAX_IMAGES {
                return Err(Error::invalid(format!(
                    "{}: too many images",
                    reference.familiar()
                )));
            }
        }
        Ok(ids)
    }

    /// The event of a pull or push: its actor is the name.
    pub(crate) fn tell_pulled(&self, action: &str, reference: &Reference) {
        let image = self.store.image(&reference.familiar()).ok();
        let mut attributes: BTreeMap<String, String> = image
            .and_then(|image| image.config.labels().cloned())
            .unwrap_or_default();
        attributes.insert("name".to_owned(), reference.familiar_name());
        self.events
            .publish("image", action, &reference.familiar(), attributes);
    }
}

/// Gives the memory of a pull or push back once its threads are gone.
pub(crate) struct TrimLater;

impl Drop for TrimLater {
    fn drop(&mut self) {
        // Outside of a runtime there is none left to give back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(wharf_sys::heap::trim);
        }
    }
}

/// One pull under way.
struct Pull<'a> {
    engine: &'a Engine,
    repository: Repository,
    platform: Option<Platform>,
    lines: Lines,
}

impl Pull<'_> {
    /// Pulls one tag or digest; `false` if the name names this image already.
    async fn one(&self, reference: &Reference) -> Result<bool> {
        let what = match reference.digest() {
            Some(digest) => digest.as_str(),
            None => reference
                .tag()
                .unwrap_or(wharf_spec::reference::DEFAULT_TAG),
        };
        // moby shows the whole reference of a digest.
        let shown = match reference.digest() {
            Some(_) => reference.to_string(),
            None => what.to_owned(),
        };
        let refused = |error: RegistryError| refusal(&error, reference);
        if let Some(known) = self.unchanged(reference, what).await {
            self.lines.pulling(&shown, reference).await;
            self.lines.digest(&known).await;
            return Ok(false);
        }
        let top = self.repository.manifest(what).await.map_err(refused)?;
        check_config_type(&top)?;
        self.lines.pulling(&shown, reference).await;
        let manifest = self.select(&top, reference).await?;
        let image = match &manifest.document {
            Document::Image(image) => image,
            Document::Index(_) => return Err(Error::internal("an index was selected as an image")),
        };
        let id = self.image(image, reference).await?;
        self.engine.note_manifest(&id, &manifest)?;
        let newer = self.name(&id, reference, &top.digest)?;
        self.lines.digest(&top.digest).await;
        Ok(newer)
    }

    /// The digest of what the registry has under the name, if that is here already under the same name. Asking costs less than
    /// fetching, for registries that count.
    async fn unchanged(&self, reference: &Reference, what: &str) -> Option<Digest> {
        if self.platform.is_some() {
            return None;
        }
        let here = self.engine.store.named(reference)?;
        let digest = match reference.digest() {
            Some(digest) => digest.clone(),
            None => self.repository.manifest_head(what).await.ok()??.digest,
        };
        let named = self
            .engine
            .store
            .named(&reference.with_digest(digest.clone()))?;
        (named == here && self.engine.image_fits_host(&here)).then_some(digest)
    }

    /// The manifest for the platform.
    async fn select(&self, top: &Manifest, reference: &Reference) -> Result<Manifest> {
        let wanted = self.platform.clone().unwrap_or_else(Platform::host);
        let mut current = top.clone();
        for _ in 0..MAX_DEPTH {
            let Document::Index(index) = &current.document else {
                return Ok(current);
            };
            let Some(entry) = index.select(&wanted).first().copied().cloned() else {
                return Err(Error::not_found(format!(
                    "no matching manifest for {} in the manifest list entries",
                    wanted.format_all()
                )));
            };
            let fetched = self.repository.manifest(entry.digest.as_str()).await;
            current = fetched.map_err(|error| refusal(&error, reference))?;
        }
        Err(Error::invalid(format!(
            "{}: indexes are nested too deeply",
            reference.familiar()
        )))
    }

    /// The image of a manifest, in the store.
    async fn image(&self, manifest: &ImageManifest, reference: &Reference) -> Result<Digest> {
        let id = &manifest.config.digest;
        if self.engine.store.image_by_id(id).is_ok() {
            return Ok(id.clone());
        }
        manifest.layers.iter().try_for_each(check_layer_type)?;
        let raw = self.repository.blob(id, MAX_CONFIG, "image config").await;
        let raw = raw.map_err(|error| {
            refusal(&error, reference).context("error pulling image configuration")
        })?;
        let mut assembly = self.engine.store.assemble(raw.to_vec())?;
        let diffs = self.check(&assembly, manifest)?;
        let presence = assembly.presence();
        let layers = manifest.layers.iter().zip(&diffs).zip(&presence);
        self.fetch(
            layers
                .map(|((layer, diff), here)| (layer, diff, *here))
                .collect(),
        )
        .await?;
        let id = blocking(move || Ok(assembly.commit()?)).await?;
        self.engine
            .note_blobs(&manifest.layers, &diffs, reference)?;
        Ok(id)
    }

    fn check(&self, assembly: &Assembly, manifest: &ImageManifest) -> Result<Vec<DiffId>> {
        let config = &assembly.config;
        if !config.os.is_empty() && config.os != "linux" {
            return Err(Error::invalid(format!(
                "image operating system {:?} cannot be used on this platform: operating system is not supported",
                config.os
            )));
        }
        let diffs = config.diff_ids().to_vec();
        if diffs.len() != manifest.layers.len() {
            return Err(Error::internal(
                "layers from manifest don't match image configuration",
            ));
        }
        Ok(diffs)
    }

    /// Gets the layers that are missing, all at once as far as the limit on downloads lets them.
    async fn fetch(&self, layers: Vec<(&Descriptor, &DiffId, Presence)>) -> Result<()> {
        let mut jobs = Vec::new();
        for (layer, diff, presence) in layers {
            let id = layer.digest.short().to_owned();
            if presence != Presence::Missing {
                self.lines.status(&id, "Already exists").await;
                continue;
            }
            self.lines.status(&id, "Pulling fs layer").await;
            let job = self
                .engine
                .downloads
                .join(&self.engine.store, &self.repository, layer, diff);
            jobs.push((id, job));
        }
        self.lines.follow(jobs).await
    }

    /// Gives the image its names; `false` if it had the one that was asked for.
    fn name(&self, id: &Digest, reference: &Reference, digest: &Digest) -> Result<bool> {
        let store = &self.engine.store;
        let before = store.name_image(id, reference)?;
        store.name_image(id, &reference.with_digest(digest.clone()))?;
        Ok(before.as_ref() != Some(id))
    }
}

impl Engine {
    fn note_manifest(&self, id: &Digest, manifest: &Manifest) -> Result<()> {
        let known = KnownManifest {
            digest: manifest.digest.clone(),
            media_type: manifest.media_type.clone(),
            bytes: manifest.bytes.to_vec(),
        };
        Ok(self.store.note_manifest(id, &known)?)
    }

    fn note_blobs(
        &self,
        layers: &[Descriptor],
        diffs: &[DiffId],
        reference: &Reference,
    ) -> Result<()> {
        for (layer, diff) in layers.iter().zip(diffs) {
            let blob = wharf_store::KnownBlob {
                digest: layer.digest.clone(),
                size: layer.size,
                media_type: layer.media_type.clone(),
            };
            self.store.note_blob(diff, &blob, &reference.name())?;
        }
        Ok(())
    }

    fn image_fits_host(&self, id: &Digest) -> bool {
        let image = self.store.image_by_id(id);
        image.is_ok_and(|image| Platform::host().runs(&image.config.platform()))
    }
}

/// Config types of images, and those that old registries and tools put there instead (moby `defaultImageTypes`).
fn check_config_type(manifest: &Manifest) -> Result<()> {
    let Document::Image(image) = &manifest.document else {
        return Ok(());
    };
    match image.config.media_type.as_str() {
        DOCKER_CONFIG
        | "application/vnd.oci.image.config.v1+json"
        | "application/octet-stream"
        | "application/json"
        | "text/html"
        | "" => Ok(()),
        plugin @ "application/vnd.docker.plugin.v1+json" => Err(Error::invalid(format!(
            "Encountered remote {plugin:?}(plugin) when fetching"
        ))),
        other => Err(Error::invalid(format!(
            "Encountered remote {other:?}(unknown) when fetching"
        ))),
    }
}

/// Layers are tar archives, whatever they are compressed with; what else is in a registry is no image (moby `checkSupportedMediaType`).
fn check_layer_type(layer: &Descriptor) -> Result<()> {
    let media_type = layer.media_type.to_lowercase();
    let known = [
        "application/vnd.docker.image.",
        "application/vnd.oci.image.",
        "application/octet-stream",
    ];
    if media_type.is_empty() || known.iter().any(|prefix| media_type.starts_with(prefix)) {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "unsupported media type {}",
            layer.media_type
        )))
    }
}

/// Docker's words for a registry's refusal to give an image (moby `translatePullError`).
pub(crate) fn refusal(error: &RegistryError, reference: &Reference) -> Error {
    let familiar = reference.familiar_name();
    match error.code() {
        Some("DENIED") => Error::not_found(format!(
            "pull access denied for {familiar}, repository does not exist or may require 'docker login': {error}"
        )),
        Some("MANIFEST_UNKNOWN") => Error::not_found(format!(
            "manifest for {} not found: {error}",
            reference.familiar()
        )),
        Some("NAME_UNKNOWN") => {
            Error::not_found(format!("repository {familiar} not found: {error}"))
        }
        Some("UNAUTHORIZED") => Error::new(Kind::Unauthorized, error.to_string()),
        _ => Error::internal(error.to_string()),
    }
}
