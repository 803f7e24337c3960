//! The engine as a build sees it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use wharf_api::container::Config;
use wharf_api::error::Kind;
use wharf_build::files::{Context, Directory, Files};
use wharf_build::solve::{
    BuildError, Fault, Fetched, MakeConfig, Named, Output, Piece, RunStep, Worker, WriteLayer,
};
use wharf_spec::digest::Digest;
use wharf_spec::image_config::ImageConfig;
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;
use wharf_store::{ExtendError, StoreError};

use super::named::Given;
use super::uploads::Loaded;
use super::{BuildOptions, fetch};
use crate::container::root_view::RootView;
use crate::images::pull::PullRequest;
use crate::{Engine, Error, blocking};

/// Lines of a pull under way.
const PULL_DEPTH: usize = 64;

/// One build's view of the engine.
pub(super) struct EngineWorker {
    pub(super) engine: Arc<Engine>,
    pub(super) options: BuildOptions,
    /// Trees that were opened, by image.
    trees: Mutex<HashMap<String, Arc<dyn Files>>>,
    /// Images pulled by this build: each once.
    pulled: tokio::sync::Mutex<HashMap<String, String>>,
    /// Secrets of the client by ID.
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    /// Named contexts.
    pub(super) given: HashMap<String, Given>,
    /// Those that were fetched.
    pub(super) fetched: tokio::sync::Mutex<HashMap<String, Arc<dyn Files>>>,
    /// Images to take steps from.
    pub(super) cache: Vec<String>,
    /// What goes with the build.
    _loaded: Vec<Loaded>,
    /// Base images: name as written, and ID.
    pub(super) bases: Mutex<BTreeMap<String, String>>,
}

impl Drop for EngineWorker {
    fn drop(&mut self) {
        for token in self.options.extras.agents.values() {
            self.engine.builds.agents.forget(token);
        }
    }
}

/// What a request brought along, looked up.
#[derive(Default)]
pub(super) struct Brought {
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    pub(super) given: HashMap<String, Given>,
    pub(super) cache: Vec<String>,
    pub(super) loaded: Vec<Loaded>,
}

impl EngineWorker {
    pub(super) fn new(
        engine: Arc<Engine>,
        options: BuildOptions,
        brought: Brought,
    ) -> EngineWorker {
        let mut cache = options.cache_from.clone();
        cache.extend(brought.cache);
        EngineWorker {
            engine,
            options,
            trees: Mutex::default(),
            pulled: tokio::sync::Mutex::default(),
            secrets: brought.secrets,
            given: brought.given,
            fetched: tokio::sync::Mutex::default(),
            cache,
            _loaded: brought.loaded,
            bases: Mutex::default(),
        }
    }

    /// What is put before the IDs of cache mounts (`BUILDKIT_CACHE_MOUNT_NS`).
    pub(super) fn cache_scope(&self) -> String {
        let given = self.options.arguments.get("BUILDKIT_CACHE_MOUNT_NS");
        match given.and_then(Option::as_deref) {
            Some(scope) if !scope.is_empty() => format!("{scope}/"),
            _ => String::new(),
        }
    }

    /// The value of `Authorization` for a download, from a secret (BuildKit's `HTTP_AUTH_HEADER_<host>`, `HTTP_AUTH_TOKEN_<host>`).
    fn authorization(&self, url: &str) -> Option<String> {
        let (_, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        let host = host.rsplit('@').next()?;
        // Without the port (BuildKit `source/http`); with it is taken too.
        let (name, _) = host.rsplit_once(':').unwrap_or((host, ""));
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let text = |kind: &str| {
            let known = |host: &str| self.secrets.get(&format!("HTTP_AUTH_{kind}_{host}"));
            let value = known(name).or_else(|| known(host))?;
            Some(String::from_utf8_lossy(value).trim().to_owned())
        };
        text("HEADER").or_else(|| text("TOKEN").map(|token| format!("Bearer {token}")))
    }

    async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        output: &Output,
    ) -> Result<(), Error> {
        let credentials = self.options.credentials_for(reference);
        let request = PullRequest {
            reference: reference.clone().or_latest(),
            platform: platform.map(ToString::to_string).unwrap_or_default(),
            credentials,
        };
        let (send, mut lines) = mpsc::channel(PULL_DEPTH);
        let pulling = self.engine.image_pull(request, send);
        tokio::pin!(pulling);
        loop {
            tokio::select! {
                Some(line) = lines.recv() => output.piece(Piece::Progress(Box::new(line))),
                done = &mut pulling => {
                    while let Ok(line) = lines.try_recv() {
                        output.piece(Piece::Progress(Box::new(line)));
                    }
                    return done;
                }
            }
        }
    }
}

impl Worker for EngineWorker {
    async fn base(
        &self,
        name: &str,
        platform: Option<&Platform>,
        output: &Output,
    ) -> Result<String, BuildError> {
        let key = format!(
            "{name} {}",
            platform.map(ToString::to_string).unwrap_or_default()
        );
        // Two stages upon one image pull it once.
        let mut pulled = self.pulled.lock().await;
        if let Some(id) = pulled.get(&key) {
            return Ok(id.clone());
        }
        let local = self.engine.store.image(name).ok();
        let fits =
            |config: &ImageConfig| platform.is_none_or(|wanted| wanted.runs(&config.platform()));
        let id = match local {
            Some(image) if !self.options.pull && fits(&image.config) => image.id,
            _ => {
                let reference = Reference::parse(name)
                    .map_err(|error| BuildError::invalid(error.to_string()))?;
                self.pull(&reference, platform, output)
                    .await
                    .map_err(|error| failed(&error))?;
                let image = self.engine.store.image(name).map_err(stored)?;
                image.id
            }
        };
        self.bases.lock().insert(name.to_owned(), id.to_string());
        pulled.insert(key, id.to_string());
        Ok(id.to_string())
    }

    fn image(&self, id: &str) -> Result<ImageConfig, BuildError> {
        let image = self.engine.store.image_by_id(&parse(id)?).map_err(stored)?;
        Ok((*image.config).clone())
    }

    fn cached(
        &self,
        parent: Option<&str>,
        step: &Config,
        settings: &Config,
    ) -> Result<Option<String>, BuildError> {
        let parent = parent.map(parse).transpose()?;
        if let Some(found) = self.engine.cached_step(parent.as_ref(), step) {
            return Ok(Some(found.to_string()));
        }
        if self.cache.is_empty() {
            return Ok(None);
        }
        self.engine
            .cached_history(parent.as_ref(), step, settings, &self.cache)
            .map(|found| found.map(|id| id.to_string()))
            .map_err(stored)
    }

    async fn files(&self, image: Option<&str>) -> Result<Arc<dyn Files>, BuildError> {
        let key = image.unwrap_or_default().to_owned();
        if let Some(tree) = self.trees.lock().get(&key) {
            return Ok(tree.clone());
        }
        let id = image.map(parse).transpose()?;
        let (store, scratch) = (self.engine.store.clone(), self.scratch());
        let open = move || {
            let held = match &id {
                Some(id) => store.hold_layers(id)?,
                None => return empty(&scratch),
            };
            if held.dirs.is_empty() {
                return empty(&scratch);
            }
            let failed = |error| Error::caused("look at the image's files", error);
            let root = RootView::of_layers(&held.dirs).map_err(failed)?;
            let tree = Directory::new(root, held).map_err(failed)?;
            Ok(Arc::new(tree) as Arc<dyn Files>)
        };
        let tree = blocking(open).await.map_err(|error| failed(&error))?;
        // Intermediate images are looked at by one step; only what several may want is kept.
        self.trees.lock().insert(key, tree.clone());
        Ok(tree)
    }

    async fn extend(
        &self,
        parent: Option<&str>,
        layer: Option<WriteLayer>,
        config: MakeConfig,
    ) -> Result<String, BuildError> {
        let parent = parent.map(parse).transpose()?;
        let store = self.engine.store.clone();
        let extend = move || match layer {
            // A step without a layer must not start the threads that would take one in.
            None => store.extend(parent.as_ref(), None, config),
            Some(layer) => {
                let mut layer = Some(layer);
                let mut write = |out: &mut dyn std::io::Write| match layer.take() {
                    Some(layer) => layer(out),
                    None => Ok(()),
                };
                store.extend(parent.as_ref(), Some(&mut write), config)
            }
        };
        tokio::task::spawn_blocking(extend)
            .await
            .map_err(|error| BuildError::internal(error.to_string()))?
            .map(|id| id.to_string())
            .map_err(|error| match error {
                ExtendError::Written(text) => BuildError::invalid(text),
                ExtendError::Store(error) => stored(error),
            })
    }

    async fn run(
        &self,
        step: RunStep,
        config: MakeConfig,
        output: &Output,
    ) -> Result<String, BuildError> {
        self.run_step(step, config, output).await
    }

    async fn context(&self, name: &str, output: &Output) -> Result<Named, BuildError> {
        self.named_context(name, output).await
    }

    async fn repository(
        &self,
        address: &str,
        keep_git: bool,
        _output: &Output,
    ) -> Result<(Arc<dyn Files>, String), BuildError> {
        let checkout = async {
            let checkout = fetch::checkout(&self.engine, address, &self.secrets).await?;
            if !keep_git {
                checkout.without_git()?;
            }
            let commit = checkout.commit.clone();
            Ok((checkout.files()?, commit))
        };
        checkout.await.map_err(|error| failed(&error))
    }

    async fn fetch(&self, url: &str, output: &Output) -> Result<Fetched, BuildError> {
        fetch::file(&self.engine, url, self.authorization(url), output)
            .await
            .map_err(|error| failed(&error))
    }

    fn scratch(&self) -> PathBuf {
        self.engine.config.data_root.clone()
    }
}

fn empty(scratch: &std::path::Path) -> crate::Result<Arc<dyn Files>> {
    let tree = Context::empty(scratch).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Arc::new(tree))
}

pub(super) fn parse(id: &str) -> Result<Digest, BuildError> {
    Digest::parse(id).map_err(|error| BuildError::internal(error.to_string()))
}

/// An error of the engine as one of the build.
pub(super) fn failed(error: &Error) -> BuildError {
    let fault = match error.kind() {
        Kind::Invalid => Fault::Invalid,
        Kind::NotFound => Fault::NotFound,
        Kind::NotImplemented => Fault::NotImplemented,
        _ => Fault::Internal,
    };
    BuildError::new(fault, error.to_string())
}

pub(super) fn stored(error: StoreError) -> BuildError {
    failed(&Error::from(error))
}
