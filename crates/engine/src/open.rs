//! Starting an engine: everything it needs side by side, then the containers it finds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wharf_network::{Endpoint, NetdConfig, NetworkConfig, NetworkManager};
use wharf_runtime::client::Spawner;
use wharf_runtime::host::HostFacts;
use wharf_store::drivers::Choice;
use wharf_store::{Store, StoreConfig};

use parking_lot::RwLock;

use crate::container::abilities::Abilities;
use crate::container::log_driver;
use crate::container::record::{Record, State};
use crate::container::registry::Registry;
use crate::events::EventBus;
use crate::exec::Execs;
use crate::images::pull::download::Downloads;
use crate::selinux::Policy;
use crate::state::{ContainerRow, Database};
use crate::volumes::Volumes;
use crate::{Engine, EngineConfig, Error, Result, blocking, ids, images, networks};

type Row = ContainerRow<Record, State>;

impl Engine {
    /// Opens an engine over its data root. Containers that outlived an earlier engine are found again before this returns.
    pub async fn open(mut config: EngineConfig) -> Result<Arc<Engine>> {
        for path in [&mut config.data_root, &mut config.exec_root] {
            *path = std::path::absolute(&*path)
                .map_err(|error| Error::caused("find the current directory", error))?;
        }
        log_driver::check_default(&config.log)?;
        make_directories(&config)?;
        let database = Arc::new(Database::open(&config.data_root.join("wharf.db"))?);
        let rows: Vec<Row> = database.load_containers()?;
        let spawner = Spawner::start(&config.binary);
        let store = open_store(config.data_root.clone(), config.storage.clone());
        let id = identity(&database)?;
        config.network.host_id.clone_from(&id);
        config.network.netd = Some(NetdConfig {
            socket: config.exec_root.join("netd.sock"),
            program: Some(config.binary.clone()),
        });
        let network = open_network(
            config.network.clone(),
            database.clone(),
            endpoints_in_use(&rows),
        );
        let (spawner, store, network) = tokio::join!(spawner, store, network);
        let spawner = spawner.map_err(|error| Error::caused("start the spawner", error))?;
        let host = HostFacts::probe().map_err(|error| Error::caused("read the host", error))?;
        let volumes = Volumes::open(config.data_root.join("volumes"), database.clone())?;
        let (store, network) = (store?, network?);
        let registry = crate::registry::config(&config.live).map_err(Error::invalid)?;
        let selinux = selinux_policy(&config, &host);
        let engine = Arc::new_cyclic(|this| Engine {
            id,
            placing_ids: parking_lot::Mutex::new(()),
            abilities: Abilities {
                selinux: selinux.is_some(),
                ..Abilities::probe(&host)
            },
            selinux,
            host,
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            events: EventBus::default(),
            database,
            store: Arc::new(store),
            registry: wharf_distribution::Registry::new(registry),
            uploads: images::pull::download::slots(config.live.max_concurrent_uploads),
            downloads: Downloads::new(config.live.max_concurrent_downloads),
            network: Arc::new(network),
            spawner,
            containers: Registry::default(),
            execs: Execs::default(),
            volumes: Arc::new(volumes),
            builds: crate::build::Builds::default(),
            shutting_down: AtomicBool::new(false),
            live: RwLock::new(Arc::new(config.live.clone())),
            this: this.clone(),
            config,
        });
        engine.store.configure(engine.config.live.store);
        engine.restore(rows).await?;
        images::collect::start(Arc::downgrade(&engine));
        engine.clear_builds();
        Ok(engine)
    }
}

/// Labels are given where they are wanted and the host has them; where it has not, dockerd goes on without, too.
fn selinux_policy(config: &EngineConfig, host: &HostFacts) -> Option<Policy> {
    let policy = (config.selinux_enabled && host.features.selinux)
        .then(Policy::load)
        .flatten();
    if config.selinux_enabled && policy.is_none() {
        tracing::warn!("could not enable SELinux on the host system");
    }
    policy
}

fn make_directories(config: &EngineConfig) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let make = |path: &Path, mode: u32| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|error| Error::caused(&format!("create {}", path.display()), error))
    };
    make(&config.data_root, 0o710)?;
    make(&config.data_root.join("containers"), 0o710)?;
    make(&config.exec_root, 0o711)?;
    make(&config.exec_root.join("monitor"), 0o711)
}

async fn open_store(data_root: std::path::PathBuf, driver: Choice) -> Result<Store> {
    blocking(move || Ok(Store::open(StoreConfig { data_root, driver })?)).await
}

/// Opens the networks and stores those that are new.
async fn open_network(
    config: NetworkConfig,
    database: Arc<Database>,
    in_use: Vec<Endpoint>,
) -> Result<NetworkManager> {
    blocking(move || networks::open(config, &database, in_use)).await
}

fn endpoints_in_use(rows: &[Row]) -> Vec<Endpoint> {
    let running = rows.iter().filter(|row| row.state.status.is_running());
    running
        .flat_map(|row| row.state.endpoints.clone())
        .collect()
}

/// The engine's own id, made at its first start: a UUID's form, as dockerd's.
fn identity(database: &Database) -> Result<String> {
    const KEY: &str = "engine-id";
    if let Some(id) = database.fact(KEY)? {
        return Ok(id);
    }
    let hex = ids::random();
    let id = format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    );
    database.save_fact(KEY, &id)?;
    Ok(id)
}
