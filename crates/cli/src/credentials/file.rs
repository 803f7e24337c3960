//! `auths` in `config.json`. Everything else in the file stays as it is.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Auth, hostname};
use crate::config_file::save_value;
use crate::failure::Failure;

/// The file and what it says.
#[derive(Debug)]
pub(super) struct AuthFile {
    path: PathBuf,
    value: Value,
}

impl AuthFile {
    /// Reads the file; a missing one is empty.
    pub(super) fn load(path: Option<PathBuf>) -> Result<AuthFile, Failure> {
        let path = path.ok_or_else(|| {
            Failure::new("no place for credentials: neither DOCKER_CONFIG nor HOME is set")
        })?;
        let value = match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => json!({}),
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                Failure::new(format!("cannot parse {}: {error}", path.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(error) => {
                return Err(Failure::new(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        };
        Ok(AuthFile { path, value })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The helper program for a server: its own, or the general one.
    pub(super) fn helper(&self, server: &str) -> Option<String> {
        let own = self.value["credHelpers"][hostname(server)].as_str();
        let own = own.or_else(|| self.value["credHelpers"][server].as_str());
        let name = own.or_else(|| self.value["credsStore"].as_str())?;
        Some(name.to_owned()).filter(|name| !name.is_empty())
    }

    /// All servers the file says something about.
    pub(super) fn servers(&self) -> Vec<String> {
        let keys = |name: &str| {
            let map = self.value[name].as_object();
            map.into_iter()
                .flat_map(|map| map.keys().cloned())
                .collect::<Vec<_>>()
        };
        let mut servers = keys("auths");
        servers.extend(keys("credHelpers"));
        servers.sort();
        servers.dedup();
        servers
    }

    pub(super) fn get(&self, server: &str) -> Auth {
        find(&self.value, server)
    }

    pub(super) fn set(&mut self, auth: &Auth) -> Result<(), Failure> {
        let mut entry = Map::new();
        if !auth.username.is_empty() {
            let text = format!("{}:{}", auth.username, auth.password);
            entry.insert("auth".to_owned(), json!(STANDARD.encode(text)));
        }
        if !auth.identity_token.is_empty() {
            entry.insert("identitytoken".to_owned(), json!(auth.identity_token));
        }
        self.entry(&auth.server, Value::Object(entry))
    }

    pub(super) fn mark(&mut self, server: &str) -> Result<(), Failure> {
        self.entry(server, json!({}))
    }

    fn entry(&mut self, server: &str, entry: Value) -> Result<(), Failure> {
        let root = self
            .value
            .as_object_mut()
            .ok_or_else(|| Failure::new(format!("{} is no JSON object", self.path.display())))?;
        let auths = root.entry("auths").or_insert_with(|| json!({}));
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(server.to_owned(), entry);
        }
        self.save()
    }

    pub(super) fn remove(&mut self, server: &str) -> Result<(), Failure> {
        let auths = self.value.get_mut("auths").and_then(Value::as_object_mut);
        match auths.and_then(|auths| auths.shift_remove(server)) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    fn save(&self) -> Result<(), Failure> {
        save_value(&self.path, &self.value)
    }
}

/// The entry of a server in `auths`, by its name or by a name with scheme and path that older clients wrote.
pub(super) fn find(value: &Value, server: &str) -> Auth {
    let Some(auths) = value["auths"].as_object() else {
        return Auth::default();
    };
    let entry = auths.get(server).or_else(|| {
        let found = auths
            .iter()
            .find(|(key, _)| hostname(key) == hostname(server));
        found.map(|(_, entry)| entry)
    });
    entry.map_or_else(Auth::default, |entry| read(entry, server))
}

fn read(entry: &Value, server: &str) -> Auth {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut auth = Auth {
        username: text("username"),
        password: text("password"),
        server: server.to_owned(),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    };
    if let Ok(bytes) = STANDARD.decode(text("auth"))
        && let Some((user, password)) = String::from_utf8_lossy(&bytes).split_once(':')
    {
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    auth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_back_and_the_rest_of_the_file_stays() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("config.json");
        std::fs::write(
            &path,
            r#"{"psFormat":"x","auths":{"https://old/v1/":{"auth":"YTpi"}}}"#,
        )
        .expect("write");
        let load = || AuthFile::load(Some(path.clone())).expect("load");
        assert_eq!(load().get("old").password, "b");
        let auth = Auth {
            username: "u".into(),
            password: "p:q".into(),
            server: "r:5000".into(),
            ..Auth::default()
        };
        load().set(&auth).expect("set");
        assert!(load().get("r:5000") == auth);
        load().remove("r:5000").expect("remove");
        assert!(load().get("r:5000").is_empty());
        assert_eq!(load().value["psFormat"], "x");
    }

    #[test]
    fn a_servers_own_helper_counts_more() {
        let file = AuthFile {
            path: PathBuf::new(),
            value: json!({"credsStore": "all", "credHelpers": {"r:5000": "own"}}),
        };
        assert_eq!(file.helper("r:5000").as_deref(), Some("own"));
        assert_eq!(file.helper("https://r:5000/v2/").as_deref(), Some("own"));
        assert_eq!(file.helper("other").as_deref(), Some("all"));
    }
}
