//! Where contexts are kept (docker/cli `cli/context/store`):
//!
//! ```text
//! ~/.docker/contexts/meta/<sha256 of the name>/meta.json
//! ~/.docker/contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::open_error;
use crate::client::tls::TlsFiles;
use crate::config_file::write_private;
use crate::flags::parse::quote;

/// The endpoint that a context has for this client.
pub const DOCKER: &str = "docker";

/// What is known of a context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Description` and what others have put beside it.
    pub metadata: Map<String, Value>,
    /// By the name of who uses them.
    pub endpoints: BTreeMap<String, Value>,
}

impl Metadata {
    /// A context with this daemon.
    pub fn new(name: &str, host: &str, skip_verify: bool) -> Metadata {
        let mut context = Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        };
        context.set_host(host, skip_verify);
        context
    }

    /// What people wrote about it.
    pub fn description(&self) -> &str {
        self.metadata
            .get("Description")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Writes about it.
    pub fn describe(&mut self, text: &str) {
        if !text.is_empty() {
            self.metadata.insert("Description".to_owned(), json!(text));
        }
    }

    /// The daemon's address as it was given.
    ///
    /// # Errors
    /// It is a context of somebody else.
    pub fn host(&self) -> Result<String, String> {
        let endpoint = self
            .endpoints
            .get(DOCKER)
            .ok_or("cannot find docker endpoint in context")?;
        Ok(endpoint["Host"].as_str().unwrap_or_default().to_owned())
    }

    /// Gives it another daemon.
    pub fn set_host(&mut self, host: &str, skip_verify: bool) {
        let mut endpoint = Map::new();
        if !host.is_empty() {
            endpoint.insert("Host".to_owned(), json!(host));
        }
        endpoint.insert("SkipTLSVerify".to_owned(), json!(skip_verify));
        self.endpoints
            .insert(DOCKER.to_owned(), Value::Object(endpoint));
    }
}

/// Names of files and what is in them, by endpoint.
pub type TlsMaterial = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// All contexts of a configuration directory.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Those of `~/.docker`.
    pub fn new(configuration: &Path) -> Store {
        Store {
            root: configuration.join("contexts"),
        }
    }

    /// The directory of a context's description.
    pub fn meta_directory(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(directory_name(name))
    }

    /// The directory of a context's certificates.
    pub fn tls_directory(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(directory_name(name))
    }

    /// A context by its name.
    ///
    /// # Errors
    /// Docker's text if there is none, or it cannot be read.
    pub fn get(&self, name: &str) -> Result<Metadata, String> {
        let path = self.meta_directory(name).join("meta.json");
        let text = fs::read(&path).map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::NotFound => "context not found: ",
                _ => "",
            };
            format!(
                "context {}: {kind}{}",
                quote(name),
                open_error(&path, &error)
            )
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            format!(
                "context {}: cannot parse {}: {error}",
                quote(name),
                path.display()
            )
        })
    }

    /// Whether there is one of this name, whatever is in it.
    pub fn has(&self, name: &str) -> bool {
        self.meta_directory(name).exists()
    }

    /// Every context, by name.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn list(&self) -> Result<Vec<Metadata>, String> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(self.root.join("meta")) else {
            return Ok(found);
        };
        for entry in entries.flatten() {
            let path = entry.path().join("meta.json");
            let text = match fs::read(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(open_error(&path, &error)),
            };
            let context: Metadata = serde_json::from_slice(&text)
                .map_err(|error| format!("cannot parse {}: {error}", path.display()))?;
            found.push(context);
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Makes or changes a context.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, context: &Metadata) -> Result<(), String> {
        let text = serde_json::to_vec(context).map_err(|error| error.to_string())?;
        let path = self.meta_directory(&context.name).join("meta.json");
        write_private(&path, &text).map_err(|failure| failure.message)
    }

    /// Replaces all certificates of a context.
    ///
    /// # Errors
    /// They cannot be removed or written.
    pub fn set_tls(&self, name: &str, material: &TlsMaterial) -> Result<(), String> {
        let directory = self.tls_directory(name);
        remove(&directory)?;
        for (endpoint, files) in material {
            for (file, bytes) in files {
                let path = directory.join(endpoint).join(file);
                write_private(&path, bytes).map_err(|failure| failure.message)?;
            }
        }
        Ok(())
    }

    /// All certificates of a context.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn tls(&self, name: &str) -> Result<TlsMaterial, String> {
        let mut material = TlsMaterial::new();
        let Ok(endpoints) = fs::read_dir(self.tls_directory(name)) else {
            return Ok(material);
        };
        for endpoint in endpoints.flatten() {
            let Ok(files) = fs::read_dir(endpoint.path()) else {
                continue;
            };
            let into = material
                .entry(endpoint.file_name().to_string_lossy().into_owned())
                .or_default();
            for file in files.flatten() {
                let path = file.path();
                let bytes = fs::read(&path).map_err(|error| open_error(&path, &error))?;
                into.insert(file.file_name().to_string_lossy().into_owned(), bytes);
            }
        }
        Ok(material)
    }

    /// What TLS needs to reach a context's daemon; nothing if it has no certificates and verifies.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn tls_files(&self, name: &str) -> Result<Option<TlsFiles>, String> {
        let skip = self.get(name)?.endpoints.get(DOCKER).cloned();
        let skip_verify = skip.is_some_and(|endpoint| endpoint["SkipTLSVerify"] == json!(true));
        let mut own = self.tls(name)?.remove(DOCKER).unwrap_or_default();
        if own.is_empty() && !skip_verify {
            return Ok(None);
        }
        let files = TlsFiles {
            ca: own.remove("ca.pem"),
            cert: own.remove("cert.pem"),
            key: own.remove("key.pem"),
            skip_verify,
        };
        files.check().map(|()| Some(files))
    }

    /// Removes a context and its certificates.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        remove(&self.meta_directory(name))
            .and_then(|()| remove(&self.tls_directory(name)))
            .map_err(|why| format!("failed to remove context {name}: {why}"))
    }
}

fn remove(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn directory_name(name: &str) -> String {
    Sha256::digest(name.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether a context may have this name.
///
/// # Errors
/// Docker's text.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("context name cannot be empty".to_owned());
    }
    if name == super::DEFAULT {
        return Err("\"default\" is a reserved context name".to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric();
    let fits = name.len() > 1
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || "_.+-".contains(c));
    if fits {
        Ok(())
    } else {
        Err(format!(
            "context name {} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\"",
            quote(name)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_back_as_docker_writes_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::new(directory.path());
        let mut context = Metadata::new("here", "tcp://h:2376", false);
        context.describe("a thing");
        store.save(&context).expect("saved");
        let path = store.meta_directory("here").join("meta.json");
        assert_eq!(
            fs::read_to_string(path).expect("written"),
            r#"{"Name":"here","Metadata":{"Description":"a thing"},"Endpoints":{"docker":{"Host":"tcp://h:2376","SkipTLSVerify":false}}}"#
        );
        assert!(
            store
                .meta_directory("here")
                .ends_with("fcec91509759ad995c2cd14bcb26b2720993faf61c29d379b270d442d92290eb")
        );
        assert_eq!(store.list(), Ok(vec![context]));
        let files = BTreeMap::from([("ca.pem".to_owned(), b"x".to_vec())]);
        let material = TlsMaterial::from([(DOCKER.to_owned(), files)]);
        store.set_tls("here", &material).expect("written");
        assert_eq!(store.tls("here"), Ok(material));
        store.remove("here").expect("removed");
        assert!(
            store
                .get("here")
                .is_err_and(|why| why.contains("context not found: open "))
        );
    }

    #[test]
    fn names_of_contexts() {
        for (name, fits) in [
            ("ab", true),
            ("a.b+c-d_e", true),
            ("a", false),
            ("-a", false),
            ("a b", false),
            ("default", false),
            ("", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fits, "{name}");
        }
    }
}
