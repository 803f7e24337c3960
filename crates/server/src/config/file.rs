//! `daemon.json`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigError;
use super::options::{Kind, OPTIONS, by_key};

/// Where the file is looked for when no flag names it; the first that exists counts.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/wharf/daemon.json", "/etc/docker/daemon.json"];

/// Options by key.
pub type Options = Map<String, Value>;

/// Reads the named file, or the first default file that exists, or none.
pub fn read(named: Option<&Path>) -> Result<Option<(PathBuf, Options)>, ConfigError> {
    let candidates: Vec<&Path> = match named {
        Some(path) => vec![path],
        None => DEFAULT_FILES.iter().map(Path::new).collect(),
    };
    for path in candidates {
        let refused = |why: String| ConfigError::File {
            path: path.to_owned(),
            why,
        };
        match std::fs::read(path) {
            Ok(bytes) => return Ok(Some((path.to_owned(), parse(&bytes).map_err(refused)?))),
            Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => {}
            Err(e) => return Err(refused(format!("open {}: {e}", path.display()))),
        }
    }
    Ok(None)
}

/// The options in the bytes of a file, nested groups opened up, every key known.
pub fn parse(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        format!(
            "failed to decode configuration JSON at offset {}",
            e.valid_up_to()
        )
    })?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Ok(Map::new());
    }
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| format!("invalid JSON: {e}"))?;
    let options = open_groups(object);
    let unknown: Vec<&str> = options
        .keys()
        .filter(|key| by_key(key).is_none())
        .map(String::as_str)
        .collect();
    if unknown.is_empty() {
        Ok(options)
    } else {
        Err(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ))
    }
}

/// moby lets options be grouped under any name (`"proxies": {"http-proxy": …}`), unless the option itself is an object.
fn open_groups(object: Map<String, Value>) -> Map<String, Value> {
    let mut options = Map::new();
    for (key, value) in object {
        let flat = OPTIONS.iter().any(|opt| {
            opt.key == key
                && matches!(
                    opt.kind,
                    Kind::Map
                        | Kind::Maps
                        | Kind::Runtimes
                        | Kind::Switches
                        | Kind::Ulimits
                        | Kind::Object
                )
        });
        match value {
            Value::Object(group) if !flat => options.extend(group),
            value => {
                options.insert(key, value);
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_are_opened_and_objects_kept() {
        let text = br#"{"debug":true,"proxies":{"http-proxy":"p"},"log-opts":{"a":"b"}}"#;
        let expected = json!({"debug": true, "http-proxy": "p", "log-opts": {"a": "b"}});
        assert_eq!(parse(text).map(Value::Object), Ok(expected));
        assert_eq!(parse("\u{feff}  \n".as_bytes()), Ok(Map::new()));
    }

    #[test]
    fn unknown_keys_and_bad_json_are_refused_in_dockerds_words() {
        assert_eq!(
            parse(br#"{"debug":true,"colour":"red"}"#),
            Err("the following directives don't match any configuration option: colour".to_owned())
        );
        assert!(
            parse(b"{")
                .expect_err("not JSON")
                .starts_with("invalid JSON: ")
        );
        assert_eq!(
            parse(b"\xff"),
            Err("failed to decode configuration JSON at offset 0".to_owned())
        );
    }
}
