//! Flags over file. What both say is refused, as dockerd does.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::options::{OPTIONS, Support};
use super::{ConfigError, Flags, Settings, file};

/// Options as they were given, and what they make.
#[derive(Debug, Clone)]
pub struct Loaded {
    options: Map<String, Value>,
    /// The value.
    pub settings: Settings,
}

/// What a reload looks at in the file; what is not there any more keeps its present value.
const RELOADED: [&str; 17] = [
    "debug",
    "log-level",
    "labels",
    "live-restore",
    "shutdown-timeout",
    "default-stop-timeout",
    "default-runtime",
    "runtimes",
    "default-shm-size",
    "default-ipc-mode",
    "default-cgroupns-mode",
    "insecure-registries",
    "registry-mirrors",
    "http-proxy",
    "https-proxy",
    "no-proxy",
    "authorization-policy",
];

/// These go back to their defaults when the file does not have them.
const RESET: [&str; 5] = [
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "features",
    "authorization-plugins",
];

/// Reads the file again and changes of the running configuration what dockerd's reload does (moby `daemon/reload.go`).
pub fn reload(flags: &Flags, running: &Loaded) -> Result<Loaded, ConfigError> {
    let (path, file) = file::read(flags.config_file.as_deref())?.unzip();
    let file = file.unwrap_or_default();
    if let Some(why) = conflicts(&flags.given, &file) {
        return Err(match path {
            Some(path) => ConfigError::File { path, why },
            None => ConfigError::Invalid(why),
        });
    }
    settings(reloaded(&running.options, &file), path)
}

fn reloaded(running: &Map<String, Value>, file: &Map<String, Value>) -> Map<String, Value> {
    let mut options = running.clone();
    for key in RESET {
        options.remove(key);
    }
    for key in RELOADED.iter().chain(&RESET) {
        if let Some(value) = file.get(*key) {
            options.insert((*key).to_owned(), value.clone());
        }
    }
    options
}

/// Reads the file that `flags` point at and merges the two.
pub fn load(flags: &Flags) -> Result<Loaded, ConfigError> {
    let (options, path) = match file::read(flags.config_file.as_deref())? {
        Some((path, options)) => {
            let why = conflicts(&flags.given, &options);
            if let Some(why) = why {
                return Err(ConfigError::File { path, why });
            }
            (options, Some(path))
        }
        None => (Map::new(), None),
    };
    settings(joined(options, &flags.given), path)
}

/// Flags count more, but runtimes of both are joined.
fn joined(mut options: Map<String, Value>, flags: &Map<String, Value>) -> Map<String, Value> {
    for (key, value) in flags {
        match (options.get_mut(key), value) {
            (Some(Value::Object(file)), Value::Object(flag)) if key == "runtimes" => {
                file.extend(flag.clone());
            }
            _ => {
                options.insert(key.clone(), value.clone());
            }
        }
    }
    options
}

fn settings(options: Map<String, Value>, path: Option<PathBuf>) -> Result<Loaded, ConfigError> {
    refuse_unsupported(&options)?;
    let settings = Settings::from_options(options.clone()).map_err(|why| match path {
        Some(path) => ConfigError::File { path, why },
        None => ConfigError::Invalid(why),
    })?;
    settings.validate().map_err(ConfigError::Invalid)?;
    Ok(Loaded { options, settings })
}

/// dockerd's complaint about options that both flags and file set.
fn conflicts(flags: &Map<String, Value>, file: &Map<String, Value>) -> Option<String> {
    let both: Vec<String> = flags
        .iter()
        .filter_map(|(key, flag)| {
            // Runtimes of both are joined.
            let in_file = file.get(key).filter(|_| key != "runtimes")?;
            Some(format!(
                "{key}: (from flag: {}, from file: {})",
                go_text(key, flag),
                go_text(key, in_file)
            ))
        })
        .collect();
    (!both.is_empty()).then(|| {
        format!("the following directives are specified both as a flag and in the configuration file: {}", both.join(", "))
    })
}

/// A value as Go's `%v` prints it; proxies without their credentials.
fn go_text(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if key.ends_with("-proxy") => mask_credentials(text),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!(
            "[{}]",
            list.iter()
                .map(|v| go_text(key, v))
                .collect::<Vec<_>>()
                .join(" ")
        ),
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", go_text(key, v)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

fn mask_credentials(url: &str) -> String {
    match url
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)))
    {
        Some((scheme, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => url.to_owned(),
    }
}

fn refuse_unsupported(options: &Map<String, Value>) -> Result<(), ConfigError> {
    let refused = OPTIONS.iter().find(|opt| {
        opt.support == Support::No && options.get(opt.key).is_some_and(asks_for_something)
    });
    refused.map_or(Ok(()), |opt| Err(ConfigError::Unsupported(opt.key)))
}

fn asks_for_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn conflicts_are_told_in_dockerds_words() {
        let flags =
            map(json!({"debug": true, "hosts": ["unix:///a"], "http-proxy": "http://u:p@h:1"}));
        let file = map(
            json!({"debug": false, "hosts": ["tcp://b", "fd://"], "http-proxy": "http://h:2", "mtu": 1}),
        );
        assert_eq!(
            conflicts(&flags, &file).as_deref(),
            Some(
                "the following directives are specified both as a flag and in the configuration file: \
                 debug: (from flag: true, from file: false), \
                 hosts: (from flag: [unix:///a], from file: [tcp://b fd://]), \
                 http-proxy: (from flag: http://xxxxx:xxxxx@h:1, from file: http://h:2)"
            )
        );
        assert_eq!(conflicts(&flags, &map(json!({"mtu": 1}))), None);
    }

    #[test]
    fn a_reload_changes_what_may_change() {
        let running = map(
            json!({"debug": true, "labels": ["a=1"], "max-concurrent-downloads": 9, "mtu": 1400}),
        );
        let file = map(json!({"labels": ["b=2"], "mtu": 9000, "features": {"x": true}}));
        assert_eq!(
            Value::Object(reloaded(&running, &file)),
            json!({"debug": true, "labels": ["b=2"], "mtu": 1400, "features": {"x": true}})
        );
    }

    #[test]
    fn runtimes_of_flags_and_file_are_joined() {
        let file = map(json!({"runtimes": {"a": {"path": "/a"}}}));
        let flags = map(json!({"runtimes": {"b": {"path": "/b"}}, "debug": true}));
        assert_eq!(conflicts(&flags, &file), None);
        assert_eq!(
            Value::Object(joined(file, &flags)),
            json!({"runtimes": {"a": {"path": "/a"}, "b": {"path": "/b"}}, "debug": true})
        );
    }

    #[test]
    fn unsupported_options_are_refused_unless_off() {
        let load = |options| settings(map(options), None);
        assert!(load(json!({"selinux-enabled": false, "ipv6": false, "storage-opts": []})).is_ok());
        let error = load(json!({"cri-containerd": true})).expect_err("unsupported");
        assert_eq!(
            error.to_string(),
            "cri-containerd is not supported by this engine yet"
        );
    }
}
