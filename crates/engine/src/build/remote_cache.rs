//! Steps from a registry: `--cache-from type=registry`, and what `--cache-to` writes there.
//!
//! A cache is images: their histories say which steps were made, their layers what came of them. An image is its own cache; the cache of
//! a build with several stages is an index of the images of all.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use wharf_distribution::Credentials;
use wharf_spec::digest::Digest;
use wharf_spec::reference::Reference;

use super::BuildOptions;
use super::uploads::Loaded;
use crate::{Engine, Error, Result};

/// Lines that nobody reads.
const DEPTH: usize = 64;

impl BuildOptions {
    /// Who asks the registry of this name.
    pub(super) fn credentials_for(&self, reference: &Reference) -> Credentials {
        let hub = || {
            let of_hub = self.credentials.get("https://index.docker.io/v1/");
            of_hub.filter(|_| reference.domain() == "docker.io")
        };
        self.credentials
            .get(reference.domain())
            .or_else(hub)
            .cloned()
            .unwrap_or_default()
    }
}

impl Engine {
    /// All images under a name, without giving them one.
    pub(super) async fn pull_cache(&self, name: &str, options: &BuildOptions) -> Result<Loaded> {
        let reference = Reference::parse(name)
            .map_err(|error| Error::invalid(error.to_string()))?
            .or_latest();
        let engine = self
            .handle()
            .ok_or_else(|| Error::internal("the daemon is shutting down"))?;
        let before: BTreeSet<Digest> = self
            .store
            .images()
            .into_iter()
            .map(|image| image.id)
            .collect();
        let (sink, mut lines) = mpsc::channel(DEPTH);
        let credentials = options.credentials_for(&reference);
        let pulling = self.image_pull_all(&reference, &credentials, sink);
        let unread = async { while lines.recv().await.is_some() {} };
        let (ids, ()) = tokio::join!(pulling, unread);
        let ids = ids?;
        let new = ids.iter().filter(|id| !before.contains(*id)).cloned();
        let new = new.collect();
        Ok(Loaded::new(engine, ids, new))
    }
}
