//! What every command is given: who we are, the daemon, the configuration.

use std::cell::OnceCell;
use std::path::Path;

use crate::autostart;
use crate::client::Client;
use crate::client::endpoint::{DEFAULT_SOCKET, Endpoint};
use crate::config_file::ConfigFile;
use crate::context::store::Store;
use crate::context::{self, Place, env};
use crate::failure::Failure;
use crate::flags::parse::Matches;

/// One invocation of the program.
pub struct Session {
    /// `docker` or `wharf`.
    pub program: &'static str,
    /// How the command was called, without the program: `container ls`.
    pub path: String,
    /// The daemon.
    pub client: Client,
    /// The context in use.
    pub context: String,
    /// The daemon's address as it was given.
    pub host: String,
    /// `-D` was given.
    pub debug: bool,
    config_directory: Option<String>,
    config: OnceCell<ConfigFile>,
}

impl Session {
    /// From the flags before the command and the environment.
    ///
    /// # Errors
    /// The daemon's address is not one.
    pub fn new(program: &'static str, path: String, globals: &Matches) -> Result<Session, Failure> {
        if let Some(level) = globals.text("log-level")
            && !matches!(
                level,
                "debug" | "info" | "warn" | "error" | "fatal" | "panic" | "trace" | "warning"
            )
        {
            return Err(Failure::new(format!(
                "Unable to parse logging level: {level}"
            )));
        }
        let config_directory = globals.text("config").map(str::to_owned);
        let config = OnceCell::new();
        let configured = || {
            read_config(&config, config_directory.as_deref())
                .current_context
                .clone()
        };
        let context = context::name(globals, configured)?;
        let directory = crate::config_file::path(config_directory.as_deref());
        let directory = directory.as_deref().and_then(Path::parent);
        let place = match context::place(&context, globals, directory) {
            Ok(place) => place,
            // Whoever mends contexts can do without the one that is broken.
            Err(_) if path.starts_with("context ") => Place {
                endpoint: Endpoint::Unix(DEFAULT_SOCKET.into()),
                host: String::new(),
                named: true,
            },
            Err(failure) => return Err(failure),
        };
        let may_start = !place.named;
        let client = Client::new(
            place.endpoint,
            env("DOCKER_API_VERSION").map(|version| version.trim_start_matches('v').to_owned()),
            Box::new(move || {
                if may_start {
                    autostart::ensure_daemon()
                } else {
                    Ok(false)
                }
            }),
        );
        Ok(Session {
            program,
            path,
            client,
            context,
            host: place.host,
            debug: globals.on("debug"),
            config_directory,
            config,
        })
    }

    /// Where the client configuration is kept, if there is a place.
    pub fn config_path(&self) -> Option<std::path::PathBuf> {
        crate::config_file::path(self.config_directory.as_deref())
    }

    /// The client configuration; a file that cannot be read is told about and counts as empty.
    pub fn config(&self) -> &ConfigFile {
        read_config(&self.config, self.config_directory.as_deref())
    }

    /// The contexts that are kept.
    ///
    /// # Errors
    /// There is no place for them.
    pub fn contexts(&self) -> Result<Store, Failure> {
        let path = self.config_path().ok_or_else(|| {
            Failure::new(
                "no place for contexts: neither --config, DOCKER_CONFIG nor HOME says where",
            )
        })?;
        Ok(Store::new(path.parent().unwrap_or(Path::new("."))))
    }
}

fn read_config<'a>(config: &'a OnceCell<ConfigFile>, directory: Option<&str>) -> &'a ConfigFile {
    config.get_or_init(|| {
        ConfigFile::load(directory).unwrap_or_else(|failure| {
            crate::print::error_line(&format!("WARNING: {}", failure.message));
            ConfigFile::default()
        })
    })
}
