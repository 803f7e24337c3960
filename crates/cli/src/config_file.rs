//! Docker's client configuration, `~/.docker/config.json`: the parts that change what our commands do.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize as _};
use serde_json::Value;

use crate::failure::Failure;

/// What the file may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigFile {
    /// Key sequence that leaves a container.
    pub detach_keys: String,
    /// Default `--format` of `ps`.
    pub ps_format: String,
    /// Default `--format` of `images`.
    pub images_format: String,
    /// Default `--format` of `stats`.
    pub stats_format: String,
    /// Default `--format` of `network ls`.
    pub networks_format: String,
    /// Default `--format` of `volume ls`.
    pub volumes_format: String,
    /// The context in use when nobody names one.
    pub current_context: String,
    /// Proxies that containers get into their environment, by daemon address or `default`.
    pub proxies: BTreeMap<String, Proxy>,
}

/// Proxies for containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Proxy {
    /// `HTTP_PROXY`
    pub http_proxy: String,
    /// `HTTPS_PROXY`
    pub https_proxy: String,
    /// `NO_PROXY`
    pub no_proxy: String,
    /// `FTP_PROXY`
    pub ftp_proxy: String,
    /// `ALL_PROXY`
    pub all_proxy: String,
}

impl ConfigFile {
    /// Reads `config.json` of the directory; a missing file says nothing.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn load(directory: Option<&str>) -> Result<ConfigFile, Failure> {
        let Some(path) = path(directory) else {
            return Ok(ConfigFile::default());
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(ConfigFile::default());
            }
            Err(error) => {
                return Err(Failure::new(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        };
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("cannot parse {}: {error}", path.display())))
    }

    /// The proxies for containers on this daemon, as environment variables in both spellings.
    pub fn proxy_env(&self, endpoint: &str) -> Vec<(String, String)> {
        let Some(proxy) = self
            .proxies
            .get(endpoint)
            .or_else(|| self.proxies.get("default"))
        else {
            return Vec::new();
        };
        [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .flat_map(|(name, value)| {
            [
                (name.to_owned(), value.clone()),
                (name.to_lowercase(), value.clone()),
            ]
        })
        .collect()
    }
}

/// Where the file is: `--config`, `DOCKER_CONFIG`, or `~/.docker`.
pub fn path(directory: Option<&str>) -> Option<PathBuf> {
    let directory = match directory {
        Some(directory) => PathBuf::from(directory),
        None => match std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()) {
            Some(directory) => directory.into(),
            None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
        },
    };
    Some(directory.join("config.json"))
}

/// Writes which context is in use into the file, empty for the default one. Everything else in it stays as it is.
///
/// # Errors
/// The file cannot be read, understood or written.
pub fn set_current_context(path: &Path, name: &str) -> Result<(), Failure> {
    let mut value = match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("cannot parse {}: {error}", path.display())))?,
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "cannot read {}: {error}",
                path.display()
            )));
        }
        _ => Value::Object(serde_json::Map::new()),
    };
    let map = value
        .as_object_mut()
        .ok_or_else(|| Failure::new(format!("{} is no JSON object", path.display())))?;
    match name {
        "" => drop(map.shift_remove("currentContext")),
        name => drop(map.insert("currentContext".to_owned(), name.into())),
    }
    save_value(path, &value)
}

/// Writes the file, with tabs as Docker does.
///
/// # Errors
/// It cannot be written.
pub fn save_value(path: &Path, value: &Value) -> Result<(), Failure> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| Failure::new(error.to_string()))?;
    write_private(path, &text)
}

/// Writes a file in one step, readable by its owner alone.
///
/// # Errors
/// It cannot be written.
pub fn write_private(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let written =
        create_private(&temporary, text).and_then(|()| std::fs::rename(&temporary, &target));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

fn create_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_left_alone() {
        let text = r#"{"auths":{"x":{}},"detachKeys":"ctrl-e","proxies":{"default":{"httpProxy":"http://p:1"}}}"#;
        let config: ConfigFile = serde_json::from_str(text).expect("parses");
        assert_eq!(config.detach_keys, "ctrl-e");
        let env = config.proxy_env("unix:///x");
        assert_eq!(env[0], ("HTTP_PROXY".into(), "http://p:1".into()));
        assert_eq!(env[1], ("http_proxy".into(), "http://p:1".into()));
    }
}
