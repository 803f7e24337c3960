//! The engine: containers, images, networks, volumes, events, logs and their state, as one object.
//!
//! In: checked requests (types of `wharf-api`). Out: answers, events, byte streams, or one [`Error`] in Docker's words.
//! Promises: what was acknowledged survives the death of any process; a restart finds every container where it is.
//! Leaves to others: HTTP and hijacking (`server`), layers (`store`), processes (`runtime`), packets (`network`).
//!
//! Reading order: [`Engine`] → [`container`] (the life of a container) → [`exec`], [`logs`], [`events`], [`volumes`], [`info`];
//! [`state`] is the database below all of them.

#![forbid(unsafe_code)]

mod open;

pub mod apparmor;
pub mod build;
pub mod cdi;
pub mod clock;
pub mod config;
pub mod container;
pub mod error;
pub mod events;
pub mod exec;
pub mod ids;
pub mod images;
pub mod info;
pub mod logs;
pub mod networks;
pub mod plugins;
mod registry;
mod sbom;
pub mod selinux;
pub mod state;
pub mod userns;
pub mod volumes;

pub use config::{BuilderConfig, EngineConfig, LiveConfig};
pub use error::{Error, Result};
pub use wharf_store::StoreSettings;
pub use wharf_store::drivers::Choice as StorageChoice;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use wharf_api::error::Kind;
use wharf_api::filters::Filters;
use wharf_distribution::Registry as Registries;
use wharf_network::NetworkManager;
use wharf_runtime::client::Spawner;
use wharf_runtime::host::HostFacts;
use wharf_store::Store;

use container::abilities::Abilities;
use container::registry::Registry;
use events::EventBus;
use exec::Execs;
use images::pull::download::Downloads;
use parking_lot::RwLock;
use state::Database;
use volumes::Volumes;

/// One engine. Everything that can be asked of it is a method, in the module of its noun.
#[derive(Debug)]
pub struct Engine {
    /// Settings.
    pub config: EngineConfig,
    /// 36 characters, the same over restarts; `ID` of `info`.
    pub id: String,
    /// What this host can do.
    pub host: HostFacts,
    /// Number of CPUs we may use; the standard library reads a dozen files to tell.
    pub(crate) cpus: usize,
    /// Held while a container's own range of ids is chosen and until the container is among the others.
    pub(crate) placing_ids: parking_lot::Mutex<()>,
    /// What its control groups can limit.
    pub(crate) abilities: Abilities,
    /// How containers are labelled; `None` is not at all.
    pub(crate) selinux: Option<selinux::Policy>,
    /// Events.
    pub events: EventBus,
    pub(crate) database: Arc<Database>,
    pub(crate) store: Arc<Store>,
    /// Registries.
    pub(crate) registry: Registries,
    /// Layers being pulled.
    pub(crate) downloads: Downloads,
    /// Room for layers being pushed.
    pub(crate) uploads: Arc<tokio::sync::Semaphore>,
    pub(crate) network: Arc<NetworkManager>,
    pub(crate) spawner: Spawner,
    pub(crate) containers: Registry,
    pub(crate) execs: Execs,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) builds: build::Builds,
    /// What a reload changes.
    live: RwLock<Arc<LiveConfig>>,
    /// Containers are being stopped because the daemon is; policies and records of what users wanted stay out of it.
    pub(crate) shutting_down: AtomicBool,
    /// For tasks that outlive the request that started them.
    this: Weak<Engine>,
}

impl Engine {
    /// A handle for a task of its own. `None`: the engine is being dropped.
    pub(crate) fn handle(&self) -> Option<Arc<Engine>> {
        self.this.upgrade()
    }

    /// The settings that can change, as they are at this moment.
    pub fn settings(&self) -> Arc<LiveConfig> {
        self.live.read().clone()
    }

    /// Takes new settings; what is under way keeps those it began with.
    pub fn reload(&self, settings: LiveConfig) {
        match registry::config(&settings) {
            Ok(config) => self.registry.configure(config),
            Err(error) => tracing::error!(%error, "settings of registries stay as they were"),
        }
        self.downloads.limit(settings.max_concurrent_downloads);
        self.store.configure(settings.store);
        *self.live.write() = Arc::new(settings);
    }

    /// Whether [`Engine::shutdown`] was called.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    /// Runs `work` to its end even when the caller goes away: nothing is left half-done.
    pub(crate) async fn finish<T, F>(&self, work: impl FnOnce(Arc<Engine>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let engine = self
            .handle()
            .ok_or_else(|| Error::new(Kind::Unavailable, "the daemon is shutting down"))?;
        match tokio::spawn(work(engine)).await {
            Ok(result) => result,
            Err(error) => Err(Error::caused("task", error)),
        }
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::caused("blocking task", error)),
    }
}

/// Whether one of the `label!` filters matches.
pub(crate) fn matches_unwanted(
    filters: &Filters,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    filters.get("label!").iter().any(|value| {
        let mut only = Filters::default();
        only.add("label", value.clone());
        only.matches_labels("label", labels)
    })
}
