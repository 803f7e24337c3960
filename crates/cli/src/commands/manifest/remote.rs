//! The registry's side of the manifest commands.

use std::future::Future;

use wharf_distribution::manifest::{Descriptor, Document, MAX_CONFIG, Manifest};
use wharf_distribution::{Config, Credentials, Registry, RegistryError, Repository};
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;

use super::local::Entry;
use crate::credentials;
use crate::failure::Failure;
use crate::session::Session;

/// A client of registries for one command.
pub(super) struct Remote {
    registry: Registry,
    runtime: tokio::runtime::Runtime,
}

impl Remote {
    /// `insecure` trusts every registry.
    pub(super) fn new(insecure: bool) -> Result<Remote, Failure> {
        let variable = |name: &str| {
            [name.to_owned(), name.to_lowercase()]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .unwrap_or_default()
        };
        let everything = if insecure {
            vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()]
        } else {
            Vec::new()
        };
        let config = Config {
            insecure: everything,
            http_proxy: variable("HTTP_PROXY"),
            https_proxy: variable("HTTPS_PROXY"),
            no_proxy: variable("NO_PROXY"),
            ..Config::default()
        };
        Ok(Remote {
            registry: Registry::new(config),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
        })
    }

    /// Waits for what a registry is asked.
    pub(super) fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, Failure> {
        self.runtime
            .block_on(work)
            .map_err(|error| Failure::new(error.to_string()))
    }

    /// A repository to read from.
    pub(super) fn pull(&self, session: &Session, name: &Reference) -> Repository {
        self.runtime
            .block_on(self.registry.pull(name, &credentials_of(session, name)))
    }

    /// A repository to write to.
    pub(super) fn push(&self, session: &Session, name: &Reference) -> Repository {
        self.runtime
            .block_on(self.registry.push(name, &credentials_of(session, name)))
    }

    /// What a name names.
    pub(super) fn manifest(
        &self,
        session: &Session,
        name: &Reference,
    ) -> Result<(Repository, Manifest), Failure> {
        let repository = self.pull(session, name);
        let what = match name.digest() {
            Some(digest) => digest.to_string(),
            None => name.tag().unwrap_or("latest").to_owned(),
        };
        match self.runtime.block_on(repository.manifest(&what)) {
            Ok(manifest) => Ok((repository, manifest)),
            Err(error) if matches!(error.code(), Some("MANIFEST_UNKNOWN" | "NAME_UNKNOWN")) => {
                Err(Failure::new(format!("no such manifest: {name}")))
            }
            Err(error) => Err(Failure::new(error.to_string())),
        }
    }

    /// A manifest of one image as an entry of a list, with the platform its config names.
    pub(super) fn entry(
        &self,
        name: &Reference,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Entry, Failure> {
        let Document::Image(image) = &manifest.document else {
            return Err(Failure::new(format!("{name} is a manifest list")));
        };
        let config =
            self.wait(repository.blob(&image.config.digest, MAX_CONFIG, "image config"))?;
        let platform: Option<Platform> = serde_json::from_slice(&config).ok();
        let descriptor = Descriptor {
            media_type: manifest.media_type.clone(),
            size: manifest.bytes.len() as u64,
            digest: manifest.digest.clone(),
            urls: Vec::new(),
            annotations: None,
            platform,
        };
        Entry::new(name, descriptor, manifest)
    }
}

fn credentials_of(session: &Session, name: &Reference) -> Credentials {
    let auth = credentials::for_image(session, name);
    Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
        server_address: auth.server,
        ..Credentials::default()
    }
}
