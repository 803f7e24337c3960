//! The daemon process: from its arguments to its end.

pub mod engine_config;
pub mod group;
pub mod listen;
pub mod logging;
pub mod notify;
pub mod pidfile;
pub mod reload;
pub mod tls;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use wharf_engine::Engine;

use crate::Server;
use crate::authz::{self, Authorizer};
use crate::config::merge::{self, Loaded};
use crate::config::{ConfigError, Flags, Settings};
use crate::http::serve::serve;
use crate::metrics;
use listen::Bound;
use logging::LogLevel;
use pidfile::Pidfile;

/// Threads that run tasks. Requests are short and files go to the blocking pool: more would only cost memory.
const WORKERS: usize = 2;

/// Idle threads of the blocking pool go after this long, and their stacks with them.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// How long after the start the daemon lets go of what the start needed: clients that waited for it would fetch it again at once.
const SETTLE_AFTER: Duration = Duration::from_millis(500);

/// Why the daemon did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Flags or file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another daemon, or no way to write the file.
    #[error("failed to start daemon, ensure docker is not running or delete {}: {source}", path.display())]
    Pidfile {
        /// `--pidfile`.
        path: std::path::PathBuf,
        /// What is wrong.
        source: pidfile::PidfileError,
    },
    /// `--userns-remap`.
    #[error("user namespaces cannot be set up: {0}")]
    UsernsRemap(String),
    /// `--seccomp-profile`.
    #[error("opening seccomp profile ({path}) failed: {source}")]
    Seccomp {
        /// As given.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A socket.
    #[error("failed to load listeners: {0}")]
    Listen(#[from] listen::ListenError),
    /// The engine.
    #[error("failed to start daemon: {0}")]
    Engine(#[from] wharf_engine::Error),
    /// `--authorization-plugin`, `--authorization-policy`.
    #[error(transparent)]
    Authorization(#[from] authz::AuthzError),
    /// `--metrics-addr`.
    #[error(
        "failed to listen for metrics on {address}: {source}; give --metrics-addr a free host:port"
    )]
    Metrics {
        /// As given.
        address: String,
        /// Cause.
        source: std::io::Error,
    },
    /// Not root.
    #[error("{0} needs to be started with root privileges")]
    NotRoot(&'static str),
    /// A call to the system.
    #[error("{what}: {source}")]
    Io {
        /// Attempted step.
        what: &'static str,
        /// Cause.
        source: std::io::Error,
    },
}

/// Runs the daemon until it is told to stop. `name` is what it was invoked as (`dockerd`, or `wharf daemon`), `args`
/// what followed.
pub fn main(name: &'static str, args: impl Iterator<Item = OsString>) -> ExitCode {
    match start(name, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(DaemonError::Config(ConfigError::Flags(text))) => {
            // Help goes to stdout with success, a mistake to stderr.
            let _ = text.print();
            ExitCode::from(u8::from(text.use_stderr()))
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn start(name: &'static str, args: impl Iterator<Item = OsString>) -> Result<(), DaemonError> {
    let flags = Flags::parse(name, args)?;
    let mut loaded = merge::load(&flags)?;
    if flags.validate {
        // Plugins need not run yet.
        Authorizer::load(&[], &loaded.settings.authorization_policy)?;
        eprintln!("configuration OK");
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(DaemonError::NotRoot(name));
    }
    apply_name(name, &mut loaded.settings);
    let settings = &loaded.settings;
    wharf_sys::heap::share_one_arena();
    let level = logging::start(settings);
    let authorizer = authorizer(settings)?;
    let pidfile = Pidfile::take(&settings.pidfile).map_err(|source| DaemonError::Pidfile {
        path: settings.pidfile.clone().into(),
        source,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("wharf")
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .enable_all()
        .build()
        .map_err(|source| DaemonError::Io {
            what: "start runtime",
            source,
        })?;
    let outcome = runtime.block_on(run(name, flags, loaded, level, authorizer));
    // Blocking work that nobody waits for any more does not hold the process up.
    runtime.shutdown_background();
    drop(pidfile);
    outcome
}

/// What depends on the name the daemon is invoked by: as `dockerd` it is found where Docker's clients look.
fn apply_name(name: &str, settings: &mut Settings) {
    if settings.hosts.is_empty() {
        let socket = if name == "dockerd" {
            "unix:///var/run/docker.sock"
        } else {
            "unix:///run/wharf/wharf.sock"
        };
        settings.hosts = vec![socket.to_owned()];
    }
}

async fn run(
    name: &'static str,
    flags: Flags,
    loaded: Loaded,
    level: LogLevel,
    authorizer: Authorizer,
) -> Result<(), DaemonError> {
    let signals = Signals::new().map_err(|source| DaemonError::Io {
        what: "catch signals",
        source,
    })?;
    // Bound before the engine opens: clients that come early wait in the backlog.
    let settings = &loaded.settings;
    let listeners = listen::bind_all(settings)?;
    let metrics_listener = bind_metrics(&settings.metrics_addr).await?;
    info!(name, version = env!("CARGO_PKG_VERSION"), "starting up");
    let engine = Engine::open(engine_config::engine_config(settings)?).await?;
    let server = Arc::new(Server::new(engine, settings.experimental));
    server.set_authorizer(authorizer);
    let (stop, stopped) = watch::channel(false);
    let mut serving = tokio::task::JoinSet::new();
    let mut files = Vec::new();
    for Bound {
        address,
        listener,
        file,
    } in listeners
    {
        info!("API listen on {address}");
        serving.spawn(serve(listener, server.clone(), stopped.clone()));
        files.extend(file);
    }
    if let Some(listener) = metrics_listener {
        info!("metrics listen on {}", settings.metrics_addr);
        serving.spawn(metrics::listen::serve(
            listener,
            server.clone(),
            stopped.clone(),
        ));
    }
    info!("daemon has completed initialization");
    notify::ready();
    tokio::spawn(settle());
    let mut running = loaded;
    signals
        .until_stop(|| running = reload::reload(&flags, &running, &level, &server))
        .await;
    notify::stopping();
    info!("stopping");
    stop.send_replace(true);
    while serving.join_next().await.is_some() {}
    drop(files);
    // With live restore containers go on: their monitors need no daemon, and the next one finds them.
    if !server.engine.settings().live_restore {
        server.engine.shutdown().await;
    }
    info!("daemon shutdown complete");
    Ok(())
}

/// Gives back what only the start needed, once the clients that waited for it have been served.
async fn settle() {
    tokio::time::sleep(SETTLE_AFTER).await;
    let _ = tokio::task::spawn_blocking(|| {
        wharf_sys::heap::trim();
        wharf_sys::memory::release_code();
    })
    .await;
}

/// Who has a say, as configured.
fn authorizer(settings: &Settings) -> Result<Authorizer, authz::AuthzError> {
    Authorizer::load(
        &settings.authorization_plugins,
        &settings.authorization_policy,
    )
}

/// The listener of `--metrics-addr`, if there is to be one.
async fn bind_metrics(address: &str) -> Result<Option<tokio::net::TcpListener>, DaemonError> {
    if address.is_empty() {
        return Ok(None);
    }
    let bound = metrics::listen::bind(address).await;
    bound.map(Some).map_err(|source| DaemonError::Metrics {
        address: address.to_owned(),
        source,
    })
}

/// The signals a daemon answers to.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the signal to stop; calls `reload` on every SIGHUP. From then on a third signal ends the process at once,
    /// as in dockerd.
    async fn until_stop(mut self, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.term.recv() => break,
                _ = self.int.recv() => break,
                _ = self.hup.recv() => reload(),
            }
        }
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = self.term.recv() => {}
                    _ = self.int.recv() => {}
                }
            }
            warn!("forcing shutdown without cleanup; 3 signals received");
            std::process::exit(128 + 15);
        });
    }
}
