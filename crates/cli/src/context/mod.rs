//! Contexts: named daemons with what it takes to reach them, kept as Docker's client keeps them, so that both share them.

pub mod archive;
pub mod store;

use std::path::{Path, PathBuf};

use crate::client::endpoint::{DEFAULT_SOCKET, Endpoint};
use crate::client::tls::TlsFiles;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use store::Store;

/// The context of `--host`, `DOCKER_HOST`, or neither.
pub const DEFAULT: &str = "default";

/// An environment variable that is set and not empty.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Which context is in use: `--context`, else the default one if a host is named, else `DOCKER_CONTEXT`, else the one that
/// `context use` has written into the configuration.
///
/// # Errors
/// A host and a context are both named on the command line.
pub fn name(globals: &Matches, configured: impl FnOnce() -> String) -> Result<String, Failure> {
    let given = globals.text_or_empty("context");
    let hosts = globals.list("host");
    if !given.is_empty() && !hosts.is_empty() {
        return Err(Failure::new(
            "conflicting options: cannot specify both --host and --context",
        ));
    }
    if !given.is_empty() {
        return Ok(given.to_owned());
    }
    if !hosts.is_empty() || env("DOCKER_HOST").is_some() {
        return Ok(DEFAULT.to_owned());
    }
    let chosen = env("DOCKER_CONTEXT").unwrap_or_else(configured);
    Ok(if chosen.is_empty() {
        DEFAULT.to_owned()
    } else {
        chosen
    })
}

/// Where a context's daemon is. `named` says that somebody named it: nobody starts a daemon there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub endpoint: Endpoint,
    /// The address as it was given.
    pub host: String,
    /// It was asked for.
    pub named: bool,
}

/// Finds the daemon of a context.
///
/// # Errors
/// There is no such context, or its address or files cannot be used.
pub fn place(name: &str, globals: &Matches, directory: Option<&Path>) -> Result<Place, Failure> {
    let failed = |why: String| {
        Failure::new(format!(
            "Failed to initialize: unable to resolve docker endpoint: {why}"
        ))
    };
    if name != DEFAULT {
        let directory =
            directory.ok_or_else(|| failed("no place for contexts: HOME is not set".into()))?;
        let store = Store::new(directory);
        let host = store
            .get(name)
            .and_then(|found| found.host())
            .map_err(failed)?;
        let tls = store.tls_files(name).map_err(failed)?;
        let endpoint = Endpoint::parse_with(&host, tls).map_err(failed)?;
        return Ok(Place {
            endpoint,
            host,
            named: true,
        });
    }
    let hosts = globals.list("host");
    if hosts.len() > 1 {
        return Err(failed("Specify only one -H".into()));
    }
    let given = hosts.first().cloned().or_else(|| env("DOCKER_HOST"));
    let named = given.is_some();
    let tls = TlsFlags::of(globals, directory);
    let host = match (given, tls.on) {
        (Some(host), _) => host,
        (None, true) => "tcp://localhost:2376".to_owned(),
        (None, false) => format!("unix://{DEFAULT_SOCKET}"),
    };
    let files = tls.files().map_err(failed)?;
    let endpoint = Endpoint::parse_with(&host, files).map_err(failed)?;
    Ok(Place {
        endpoint,
        named: named || tls.on,
        host,
    })
}

/// `--tls`, `--tlsverify`, and where the files are.
struct TlsFlags {
    on: bool,
    verify: bool,
    files: [(PathBuf, bool); 3],
}

impl TlsFlags {
    fn of(globals: &Matches, directory: Option<&Path>) -> TlsFlags {
        let by_env = env("DOCKER_TLS_VERIFY").is_some();
        let verify = globals.on_or("tlsverify", by_env);
        let place = env("DOCKER_CERT_PATH").map(PathBuf::from);
        let place = place
            .or_else(|| directory.map(Path::to_owned))
            .unwrap_or_default();
        let file = |flag: &str, name: &str| match globals.text(flag) {
            Some(path) => (PathBuf::from(path), true),
            None => (place.join(name), false),
        };
        TlsFlags {
            on: globals.on_or("tls", env("DOCKER_TLS").is_some())
                || by_env
                || globals.given("tlsverify"),
            verify,
            files: [
                file("tlscacert", "ca.pem"),
                file("tlscert", "cert.pem"),
                file("tlskey", "key.pem"),
            ],
        }
    }

    fn files(&self) -> Result<Option<TlsFiles>, String> {
        if !self.on {
            return Ok(None);
        }
        let read = |index: usize, needed: bool| {
            let (path, given) = &self.files[index];
            match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(_) if !given && !needed => Ok(None),
                Err(error) => Err(open_error(path, &error)),
            }
        };
        let files = TlsFiles {
            // Whoever asks for verification says by whom.
            ca: read(0, self.verify)?,
            cert: read(1, false)?,
            key: read(2, false)?,
            skip_verify: !self.verify,
        };
        files.check().map(|()| Some(files))
    }
}

/// `open PATH: no such file or directory`
pub fn open_error(path: &Path, error: &std::io::Error) -> String {
    format!(
        "open {}: {}",
        path.display(),
        crate::failure::errno_text(error)
    )
}
