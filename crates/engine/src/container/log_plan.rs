//! Log drivers: which there are, which options they take, and what the monitor is told.

use std::collections::BTreeMap;
use std::path::Path;

use wharf_api::container::LogConfig;
use wharf_runtime::client::LogPlan;

use super::record::Record;
use crate::{Error, Result, ids};

/// Our own default rotation; Docker's is none. Two million ordinary lines stay readable, no container fills a disk.
const DEFAULT_SIZE: u64 = 64_000_000;
const DEFAULT_FILES: u32 = 5;

const OPTIONS: [&str; 10] = [
    "max-file",
    "max-size",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];

/// Drivers of Docker that this engine does not have yet.
const MISSING: [&str; 9] = [
    "local", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs",
];

/// Fills in the daemon's default and refuses what makes no sense. Gives the options really used.
pub fn settle(config: &mut LogConfig, default: &LogConfig) -> Result<BTreeMap<String, String>> {
    if config.kind.is_empty() {
        config.kind.clone_from(&default.kind);
    }
    let own = config.config.get_or_insert_default();
    if config.kind == default.kind {
        for (key, value) in default.config.iter().flatten() {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    match config.kind.as_str() {
        "none" => Ok(BTreeMap::new()),
        "json-file" => {
            check_options(own)?;
            Ok(own.clone())
        }
        missing if MISSING.contains(&missing) => Err(Error::not_implemented(format!(
            "logging driver {missing:?} is not supported yet"
        ))),
        other => Err(Error::invalid(format!(
            "error looking up logging plugin {other}: plugin \"{other}\" not found"
        ))),
    }
}

fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(unknown) = options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        return Err(Error::invalid(format!(
            "unknown log opt '{unknown}' for json-file log driver"
        )));
    }
    if let Some(mode) = options
        .get("mode")
        .filter(|mode| !matches!(mode.as_str(), "" | "blocking" | "non-blocking"))
    {
        return Err(Error::invalid(format!(
            "logger: logging mode not supported: {mode}"
        )));
    }
    Rotation::of(options).map(drop)
}

/// How a log rotates.
#[derive(Debug, PartialEq, Eq)]
struct Rotation {
    max_size: Option<u64>,
    max_file: u32,
    compress: bool,
}

impl Rotation {
    fn of(options: &BTreeMap<String, String>) -> Result<Rotation> {
        let max_size = match options.get("max-size").map(String::as_str) {
            // A user who sets another option of rotation has it his way, otherwise ours applies.
            None if !options.contains_key("max-file") => {
                return Ok(Rotation {
                    max_size: Some(DEFAULT_SIZE),
                    max_file: DEFAULT_FILES,
                    compress: true,
                });
            }
            None | Some("-1") => None,
            Some(text) => Some(parse_size(text).filter(|size| *size > 0).ok_or_else(|| {
                Error::invalid(format!(
                    "invalid value for max-size: {text}: invalid size: '{text}'"
                ))
            })?),
        };
        let max_file = match options.get("max-file") {
            None => 1,
            Some(text) => text
                .parse::<u32>()
                .ok()
                .filter(|number| *number >= 1)
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "invalid value for max-file: {text}: must be a number of at least 1"
                    ))
                })?,
        };
        let compress = match options.get("compress").map(String::as_str) {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(text) => {
                return Err(Error::invalid(format!(
                    "invalid value for compress: {text}"
                )));
            }
        };
        if compress && (max_file == 1 || max_size.is_none()) {
            return Err(Error::invalid(
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ));
        }
        Ok(Rotation {
            max_size,
            max_file,
            compress,
        })
    }
}

/// Bytes of `10m`, `1.5g`, `512`; decimal units, as Docker reads sizes of logs (go-units `FromHumanSize`).
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..]
        .trim()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "p" => 1e15,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // saturates; both factors are positive
    Some((number * unit) as u64)
}

/// What the monitor is told.
pub fn plan(record: &Record, directory: &Path) -> Result<LogPlan> {
    if record.host_config.log_config.kind == "none" {
        return Ok(LogPlan::None);
    }
    let rotation = Rotation::of(&record.log_options)?;
    Ok(LogPlan::JsonFile {
        path: directory.join(format!("{}-json.log", record.id)),
        max_size: rotation.max_size,
        max_file: rotation.max_file,
        compress: rotation.compress,
        attrs: attributes(record),
    })
}

/// Constant attributes of every line: chosen labels and variables, and the tag (moby `daemon/logger/loginfo.go`).
fn attributes(record: &Record) -> Vec<(String, String)> {
    let options = &record.log_options;
    let chosen = |key: &str| {
        options
            .get(key)
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(str::to_owned)
    };
    let mut attributes = BTreeMap::new();
    let labels = record.config.labels.as_ref();
    for key in chosen("labels") {
        if let Some(value) = labels.and_then(|labels| labels.get(&key)) {
            attributes.insert(key, value.clone());
        }
    }
    let variables: BTreeMap<&str, &str> = record
        .config
        .env
        .iter()
        .flatten()
        .filter_map(|entry| entry.split_once('='))
        .collect();
    for key in chosen("env") {
        if let Some(value) = variables.get(key.as_str()) {
            attributes.insert(key, (*value).to_owned());
        }
    }
    if let Some(tag) = options.get("tag").filter(|tag| !tag.is_empty()) {
        attributes.insert("tag".into(), expand_tag(tag, record));
    }
    attributes.into_iter().collect()
}

/// Docker's tag templates, without functions.
fn expand_tag(tag: &str, record: &Record) -> String {
    let image_id = record.image_id.trim_start_matches("sha256:");
    let fields = [
        ("{{.ID}}", ids::short(&record.id)),
        ("{{.FullID}}", record.id.as_str()),
        ("{{.Name}}", record.name.as_str()),
        ("{{.ImageID}}", ids::short(image_id)),
        ("{{.ImageFullID}}", record.image_id.as_str()),
        ("{{.ImageName}}", record.config.image.as_str()),
        ("{{.DaemonName}}", "docker"),
    ];
    fields.iter().fold(tag.to_owned(), |text, (field, value)| {
        text.replace(field, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn refused(kind: &str, pairs: &[(&str, &str)]) -> String {
        let mut config = LogConfig {
            kind: kind.into(),
            config: Some(options(pairs)),
        };
        let default = LogConfig {
            kind: "json-file".into(),
            config: None,
        };
        settle(&mut config, &default).map_or_else(|error| error.to_string(), |_| "accepted".into())
    }

    #[test]
    fn drivers_and_options_are_checked() {
        assert_eq!(refused("", &[]), "accepted");
        assert_eq!(refused("none", &[]), "accepted");
        assert_eq!(
            refused("odd", &[]),
            "error looking up logging plugin odd: plugin \"odd\" not found"
        );
        assert_eq!(
            refused("local", &[]),
            "logging driver \"local\" is not supported yet"
        );
        assert_eq!(
            refused("json-file", &[("x", "y")]),
            "unknown log opt 'x' for json-file log driver"
        );
        assert_eq!(
            refused("json-file", &[("max-size", "10m"), ("max-file", "3")]),
            "accepted"
        );
        assert_eq!(
            refused("json-file", &[("compress", "true"), ("max-file", "3")]),
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        );
    }

    #[test]
    fn rotation_is_ours_unless_the_user_chose() {
        let rotation = |pairs: &[(&str, &str)]| Rotation::of(&options(pairs)).expect("rotation");
        assert_eq!(
            rotation(&[]),
            Rotation {
                max_size: Some(64_000_000),
                max_file: 5,
                compress: true
            }
        );
        assert_eq!(
            rotation(&[("max-size", "-1")]),
            Rotation {
                max_size: None,
                max_file: 1,
                compress: false
            }
        );
        assert_eq!(
            rotation(&[("max-size", "1.5k")]),
            Rotation {
                max_size: Some(1500),
                max_file: 1,
                compress: false
            }
        );
    }

    #[test]
    fn the_daemons_defaults_are_taken_over() {
        let mut config = LogConfig::default();
        let default = LogConfig {
            kind: "json-file".into(),
            config: Some(options(&[("max-file", "2")])),
        };
        assert_eq!(
            settle(&mut config, &default).expect("settled"),
            options(&[("max-file", "2")])
        );
        assert_eq!(config.kind, "json-file");
    }
}
