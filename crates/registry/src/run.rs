//! A registry from its configuration to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use wharf_tls::{Certificates, TlsError};

use crate::auth::{Auth, AuthError};
use crate::collect::{self, scrub};
use crate::config::{Config, ConfigError};
use crate::content::{Content, Settings};
use crate::events::Events;
use crate::http::limit::Limits;
use crate::http::serve::{Face, Places, serve};
use crate::http::tls;
use crate::metrics::Metrics;
use crate::server::Server;
use crate::source::Source;
use crate::storage::cloud::CloudError;
use crate::storage::{Cloud, Local, Storage, StorageError};
use crate::upstream::client::Client;
use crate::upstream::mirror::{Mirror, MirrorError};
use crate::upstream::{UpstreamError, Upstreams};

/// Why a registry did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Store.
    #[error("the store {place} cannot be opened")]
    Store {
        /// Directory or URL.
        place: String,
        /// Cause.
        #[source]
        source: Box<StorageError>,
    },
    /// A directory without a store, where one is needed.
    #[error("there is no registry in {0}")]
    Nothing(String),
    /// Object store.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Somebody collects or repairs alone.
    #[error("{0} is in use by `wharf registry gc` or `check` right now; try again when it is done")]
    Locked(String),
    /// Who may.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Other registries.
    #[error("upstreams: {0}")]
    Upstream(#[from] UpstreamError),
    /// Mirror jobs.
    #[error("mirrors: {0}")]
    Mirror(#[from] MirrorError),
    /// An address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As given.
        address: String,
        /// Cause.
        source: std::io::Error,
    },
    /// Everything else.
    #[error("{0}")]
    Other(String),
}

/// The store that a configuration names.
///
/// # Errors
/// It cannot be opened.
pub fn open_storage(config: &Config) -> Result<Storage, RunError> {
    if config.storage.url.is_some() {
        return Ok(Storage::Cloud(Cloud::open(&config.storage)?));
    }
    Local::open(&config.root, config.storage.sync)
        .map(Storage::Local)
        .map_err(|source| RunError::Store {
            place: config.root.display().to_string(),
            source: Box::new(source),
        })
}

/// The same for those who only look after a store: none is made.
///
/// # Errors
/// There is none, or it cannot be opened.
pub fn open_existing(config: &Config) -> Result<Storage, RunError> {
    if config.storage.url.is_none() && !config.root.join("oci-layout").exists() {
        return Err(RunError::Nothing(config.root.display().to_string()));
    }
    open_storage(config)
}

/// A registry that listens.
#[derive(Debug)]
pub struct Running {
    /// Where, one for each of `listen`.
    pub addresses: Vec<SocketAddr>,
    /// What answers.
    pub server: Arc<Server>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    helpers: Vec<tokio::task::AbortHandle>,
    tls: Option<Certificates>,
    _lock: Option<std::fs::File>,
}

/// Starts a registry; it listens when this returns. `source` is what `--from-engine` serves instead of a store.
///
/// # Errors
/// See [`RunError`].
pub async fn start(config: Config, source: Option<Arc<dyn Source>>) -> Result<Running, RunError> {
    config.check()?;
    let storage = open_storage(&config)?;
    start_on(config, storage, source).await
}

/// The same over a store that is open.
///
/// # Errors
/// See [`RunError`].
pub async fn start_on(
    config: Config,
    storage: Storage,
    source: Option<Arc<dyn Source>>,
) -> Result<Running, RunError> {
    let lock = match &storage {
        Storage::Local(local) if !config.storage.read_only => {
            let place = local.root().display().to_string();
            Some(local.lock(false).map_err(|_| RunError::Locked(place))?)
        }
        _ => None,
    };
    let content = Content::new(storage, Settings::of(&config));
    let metrics = Arc::new(Metrics::new());
    let client = Client::new().map_err(RunError::Other)?;
    let tls = tls::open(&config.tls)?;
    let server = Arc::new(Server {
        auth: Auth::open(&config, content.storage()).await?,
        limits: Limits::new(config.limits.clone()),
        events: Events::start(&config.webhooks, &client, &metrics),
        upstreams: Upstreams::open(&config)?,
        metrics,
        source,
        content,
        config,
    });
    let (stop, stopped) = watch::channel(false);
    let places = Arc::new(Places::new(&server.config.http));
    let (mut addresses, mut tasks) = (Vec::new(), Vec::new());
    for address in &server.config.listen {
        let listener = listen(address).await?;
        addresses.extend(listener.local_addr().ok());
        tasks.push(tokio::spawn(serve(
            listener,
            tls.clone(),
            Face::Registry,
            server.clone(),
            places.clone(),
            stopped.clone(),
        )));
    }
    if let Some(address) = server.config.metrics.listen {
        let listener = listen(&address.to_string()).await?;
        tasks.push(tokio::spawn(serve(
            listener,
            None,
            Face::Metrics,
            server.clone(),
            places.clone(),
            stopped.clone(),
        )));
    }
    let helpers = start_helpers(&server)?;
    Ok(Running {
        addresses,
        server,
        stop,
        tasks,
        helpers,
        tls,
        _lock: lock,
    })
}

async fn listen(address: &str) -> Result<TcpListener, RunError> {
    // `:5000` is every address, as Go has it.
    let full = match address.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => address.to_owned(),
    };
    TcpListener::bind(&full)
        .await
        .map_err(|source| RunError::Listen {
            address: address.to_owned(),
            source,
        })
}

/// Everything that goes on beside requests.
fn start_helpers(server: &Arc<Server>) -> Result<Vec<tokio::task::AbortHandle>, RunError> {
    let config = &server.config;
    let mut helpers = Vec::new();
    if server.source.is_some() {
        return Ok(helpers);
    }
    let content = &server.content;
    if !config.scrub.interval.is_zero() {
        let work = scrub::run_for_ever(
            content.clone(),
            config.scrub.clone(),
            config.storage.read_only,
            server.metrics.clone(),
        );
        helpers.push(tokio::spawn(work).abort_handle());
    }
    if config.storage.read_only {
        return Ok(helpers);
    }
    if let Storage::Local(_) = content.storage() {
        helpers.push(tokio::spawn(crate::content::index::keep(content.clone())).abort_handle());
    }
    if !config.gc.interval.is_zero() {
        let plan = collect::Plan {
            config: config.gc.clone(),
            dry_run: false,
        };
        let work = collect::run_for_ever(content.clone(), plan, server.metrics.clone());
        helpers.push(tokio::spawn(work).abort_handle());
    }
    for job in &config.mirrors {
        let mirror = Mirror::open(job, &config.root)?;
        helpers.push(tokio::spawn(mirror.run(content.clone())).abort_handle());
    }
    Ok(helpers)
}

impl Running {
    /// Stops listening, lets requests finish, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        for helper in self.helpers {
            helper.abort();
        }
        if self.server.source.is_none()
            && !self.server.config.storage.read_only
            && let Storage::Local(_) = self.server.content.storage()
        {
            // What others read of the directory is up to date when nobody serves it.
            let _ = crate::content::index::write(&self.server.content).await;
        }
    }

    /// Goes on until SIGTERM or SIGINT; SIGHUP reads certificates and passwords again.
    ///
    /// # Errors
    /// Signals cannot be waited for.
    pub async fn until_told(self) -> Result<(), RunError> {
        let other = |error: std::io::Error| RunError::Other(error.to_string());
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(other)?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    tracing::info!("reading certificates and passwords again");
                    self.server.auth.reload();
                    if let Some(tls) = &self.tls {
                        tls.renew();
                    }
                }
            }
        }
        tracing::info!("stopping");
        self.stop().await;
        Ok(())
    }
}
