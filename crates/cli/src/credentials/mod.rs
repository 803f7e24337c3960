//! Credentials of registries: with a helper program (docker-credential-helpers), or else sealed with a key that the kernel holds, or where it holds
//! none, in `config.json` as Docker does.

mod file;
mod helper;
mod sealed;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};
use wharf_spec::reference::{DEFAULT_DOMAIN, Reference};

use crate::failure::Failure;
use crate::session::Session;
use file::AuthFile;

/// The key of Docker's own registry.
pub const HUB: &str = "https://index.docker.io/v1/";

/// What the daemon is told about the user (moby `api/types/registry.AuthConfig`).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// User.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password or access token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// The registry.
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// A refresh token instead of a password.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// A bearer token.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub registry_token: String,
}

impl Auth {
    /// The value of `X-Registry-Auth`.
    pub fn header(&self) -> String {
        let json = serde_json::to_vec(self).expect("texts have a JSON form");
        URL_SAFE.encode(json)
    }

    /// Nothing is known about the user.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

/// The credentials for an image's registry. What cannot be had from a helper counts as none, with a warning.
pub fn for_image(session: &Session, name: &Reference) -> Auth {
    let server = match name.domain() {
        DEFAULT_DOMAIN => HUB,
        other => other,
    };
    get(session, server).unwrap_or_else(|failure| {
        crate::print::error_line(&format!("WARNING: {}", failure.message));
        Auth::default()
    })
}

/// The credentials of all registries there are any for. What cannot be had from a helper is left out, with a warning.
pub fn all(session: &Session) -> std::collections::BTreeMap<String, Auth> {
    let servers = match AuthFile::load(session.config_path()) {
        Ok(file) => file.servers(),
        Err(failure) => {
            crate::print::error_line(&format!("WARNING: {}", failure.message));
            Vec::new()
        }
    };
    let mut found = std::collections::BTreeMap::new();
    for server in servers {
        match get(session, &server) {
            Ok(auth) if auth.is_empty() => {}
            Ok(auth) => drop(found.insert(server, auth)),
            Err(failure) => crate::print::error_line(&format!("WARNING: {}", failure.message)),
        }
    }
    found
}

/// The credentials for a server; empty where there are none.
///
/// # Errors
/// The file or the helper fails.
pub fn get(session: &Session, server: &str) -> Result<Auth, Failure> {
    if let Some(auth) = from_environment(server)? {
        return Ok(auth);
    }
    let file = AuthFile::load(session.config_path())?;
    match file.helper(server) {
        Some(name) => helper::get(&name, server),
        None => {
            let readable = file.get(server);
            if !readable.is_empty() {
                return Ok(readable);
            }
            Ok(sealed::get(file.path(), server)?.unwrap_or_default())
        }
    }
}

/// Keeps credentials. Returns the file they are in readable form, if they are in one.
///
/// # Errors
/// The file or the helper fails.
pub fn store(session: &Session, auth: &Auth) -> Result<Option<std::path::PathBuf>, Failure> {
    let mut file = AuthFile::load(session.config_path())?;
    if let Some(name) = file.helper(&auth.server) {
        // The entry says that there are credentials, not which.
        file.mark(&auth.server)?;
        return helper::store(&name, auth).map(|()| None);
    }
    if sealed::is_available() {
        sealed::store(file.path(), auth)?;
        return file.mark(&auth.server).map(|()| None);
    }
    file.set(auth)?;
    Ok((!auth.password.is_empty()).then(|| file.path().to_owned()))
}

/// Forgets credentials. Safe to repeat.
///
/// # Errors
/// The file or the helper fails.
pub fn erase(session: &Session, server: &str) -> Result<(), Failure> {
    let mut file = AuthFile::load(session.config_path())?;
    let helper = file.helper(server);
    file.remove(server)?;
    match helper {
        Some(name) => helper::erase(&name, server),
        None => sealed::erase(file.path(), server),
    }
}

/// What a helper program does: `get`, `store`, `erase`, `list`, with the input of the protocol. Returns what it prints.
///
/// # Errors
/// There is nothing, or it cannot be kept.
pub fn help(session: &Session, verb: &str, input: &str) -> Result<String, Failure> {
    let file = AuthFile::load(session.config_path())?;
    let (config, server) = (file.path(), input.trim());
    match verb {
        "get" => match sealed::get(config, server)? {
            Some(auth) => helper::answer(server, &auth),
            None => Err(Failure::new(helper::NOT_FOUND)),
        },
        "store" => sealed::store(config, &helper::parse(input)?).map(|()| String::new()),
        "erase" => sealed::erase(config, server).map(|()| String::new()),
        "list" => serde_json::to_string(&sealed::list(config)?)
            .map_err(|error| Failure::new(error.to_string())),
        other => Err(Failure::new(format!("Unknown credential action `{other}`"))),
    }
}

/// `DOCKER_AUTH_CONFIG`: an `auths` object for machines without a file.
fn from_environment(server: &str) -> Result<Option<Auth>, Failure> {
    let Some(text) = std::env::var("DOCKER_AUTH_CONFIG")
        .ok()
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("failed to parse DOCKER_AUTH_CONFIG: {error}")))?;
    Ok(Some(file::find(&value, server)).filter(|auth| !auth.is_empty()))
}

/// `host[:port]` of an address.
pub fn hostname(server: &str) -> &str {
    let rest = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    rest.split('/').next().unwrap_or(rest)
}
