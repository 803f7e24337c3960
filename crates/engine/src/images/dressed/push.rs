//! Dressed images, and caches of builds, to registries.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_distribution::RegistryError;
use wharf_distribution::manifest::{DOCKER_LAYER, OCI_LAYER_PREFIX};
use wharf_spec::digest::Digest;
use wharf_spec::reference::{DEFAULT_TAG, Reference};
use wharf_store::push::PushPlan;

use super::Dressing;
use super::documents::{Blob, CONFIG, describe, descriptor, index};
use crate::images::pull::{Sink, TrimLater};
use crate::images::push::{Push, PushRequest, refusal};
use crate::{Engine, Error, Result, blocking};

impl Engine {
    /// Pushes an image under the name it has here, with what goes along with it.
    pub async fn image_push_dressed(
        &self,
        request: PushRequest,
        mut dressing: Dressing,
        sink: Sink,
    ) -> Result<()> {
        let _trim = TrimLater;
        let reference = request.reference.clone().or_latest();
        let id = self.store.named(&reference).ok_or_else(|| {
            Error::internal(format!("tag does not exist: {}", reference.familiar()))
        })?;
        let engine = self
            .handle()
            .ok_or_else(|| Error::internal("the daemon is shutting down"))?;
        if dressing.names.is_empty() {
            dressing.names.push(reference.to_string());
        }
        let image = id.clone();
        let dressing = blocking(move || {
            engine.add_sbom(&image, &mut dressing)?;
            Ok(dressing)
        })
        .await?;
        let push = Push::begin(self, &reference, request.credentials, sink).await;
        push.dressed(&reference, &id, &dressing).await?;
        self.tell_pulled("push", &reference);
        Ok(())
    }

    /// Pushes images as the cache of builds: one as it is, several under an index.
    pub async fn image_push_cache(
        &self,
        request: PushRequest,
        images: Vec<String>,
        sink: Sink,
    ) -> Result<()> {
        let _trim = TrimLater;
        let reference = request.reference.clone().or_latest();
        let ids = images
            .iter()
            .map(|name| Ok(self.store.image(name)?.id))
            .collect::<Result<Vec<Digest>>>()?;
        let push = Push::begin(self, &reference, request.credentials, sink).await;
        let mut entries = Vec::new();
        for id in &ids {
            let (plan, layers) = push.content(id).await?;
            let config = Blob::new(CONFIG, plan.image.raw.to_vec());
            let platform = plan.image.config.platform();
            let documents = describe(
                &config.descriptor(),
                &layers,
                &platform,
                &Dressing::default(),
            );
            push.put(&documents.manifest.digest.to_string(), &documents.manifest)
                .await?;
            let mut entry = documents.top;
            entry["platform"] = json!(platform);
            entries.push(entry);
        }
        let top = index(&entries, &BTreeMap::new());
        push.put(tag_of(&reference), &top).await?;
        push.told(tag_of(&reference), &top).await;
        Ok(())
    }
}

fn tag_of(reference: &Reference) -> &str {
    reference.tag().unwrap_or(DEFAULT_TAG)
}

impl Push<'_> {
    async fn dressed(&self, reference: &Reference, id: &Digest, dressing: &Dressing) -> Result<()> {
        let (plan, layers) = self.content(id).await?;
        let config = Blob::new(CONFIG, plan.image.raw.to_vec());
        let platform = plan.image.config.platform();
        let documents = describe(&config.descriptor(), &layers, &platform, dressing);
        let top = match &documents.index {
            None => &documents.manifest,
            Some(index) => {
                self.put(&documents.manifest.digest.to_string(), &documents.manifest)
                    .await?;
                if let Some((holder, blobs)) = documents.attested.split_last() {
                    for blob in blobs {
                        self.small_blob(blob).await?;
                    }
                    self.put(&holder.digest.to_string(), holder).await?;
                }
                index
            }
        };
        self.put(tag_of(reference), top).await?;
        self.told(tag_of(reference), top).await;
        let by_digest = reference.with_digest(top.digest.clone());
        if self.engine().store.named(&by_digest).is_none() {
            self.engine().store.name_image(id, &by_digest)?;
        }
        Ok(())
    }

    /// Gets layers and config there; gives the layers' descriptors.
    async fn content(&self, id: &Digest) -> Result<(PushPlan, Vec<Value>)> {
        let plan = self.engine().store.plan_push(id)?;
        let sent = self.all_layers(&plan).await?;
        let layers = sent
            .iter()
            .map(|(media_type, digest, size)| descriptor(&oci_type(media_type), digest, *size))
            .collect();
        Ok((plan, layers))
    }

    async fn put(&self, name: &str, blob: &Blob) -> Result<()> {
        let bytes = Bytes::copy_from_slice(&blob.bytes);
        self.repository()
            .put_manifest(name, blob.media_type, bytes)
            .await
            .map_err(|error| refusal(&error))
    }

    async fn small_blob(&self, blob: &Blob) -> Result<()> {
        let refused = |error: RegistryError| refusal(&error);
        let repository = self.repository();
        if repository
            .blob_head(&blob.digest)
            .await
            .map_err(refused)?
            .is_some()
        {
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(&blob.bytes);
        repository
            .put_blob(&blob.digest, bytes)
            .await
            .map_err(refused)
    }

    async fn told(&self, tag: &str, blob: &Blob) {
        self.tell_pushed(tag, &blob.digest, blob.bytes.len()).await;
    }
}

/// OCI's name for the type of a layer.
fn oci_type(media_type: &str) -> String {
    match media_type {
        DOCKER_LAYER => format!("{OCI_LAYER_PREFIX}tar+gzip"),
        "application/vnd.docker.image.rootfs.diff.tar" => format!("{OCI_LAYER_PREFIX}tar"),
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            format!("{OCI_LAYER_PREFIX}tar+zstd")
        }
        other => other.to_owned(),
    }
}
