//! What every command is given: who we are, the daemon, the configuration.

use std::cell::OnceCell;

use crate::autostart;
use crate::client::Client;
use crate::client::endpoint::{DEFAULT_SOCKET, Endpoint};
use crate::config_file::ConfigFile;
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
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
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
        let hosts = globals.list("host");
        if hosts.len() > 1 {
            return Err(Failure::new(
                "Failed to initialize: unable to resolve docker endpoint: Specify only one -H",
            ));
        }
        let given = hosts.first().cloned().or_else(|| env("DOCKER_HOST"));
        let is_default = given.is_none();
        let endpoint = match given {
            Some(host) => Endpoint::parse(&host).map_err(Failure::new)?,
            None => Endpoint::Unix(DEFAULT_SOCKET.into()),
        };
        let client = Client::new(
            endpoint,
            env("DOCKER_API_VERSION").map(|version| version.trim_start_matches('v').to_owned()),
            Box::new(move || {
                if is_default {
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
            debug: globals.on("debug"),
            config_directory: globals.text("config").map(str::to_owned),
            config: OnceCell::new(),
        })
    }

    /// Where the client configuration is kept, if there is a place.
    pub fn config_path(&self) -> Option<std::path::PathBuf> {
        crate::config_file::path(self.config_directory.as_deref())
    }

    /// The client configuration; a file that cannot be read is told about and counts as empty.
    pub fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| {
            ConfigFile::load(self.config_directory.as_deref()).unwrap_or_else(|failure| {
                crate::print::error_line(&format!("WARNING: {}", failure.message));
                ConfigFile::default()
            })
        })
    }
}
