//! The command line: `clap` arguments made from the table, values made into the JSON the file would hold.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::ConfigError;
use super::options::{Kind, OPTIONS, Opt};

/// A parsed command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// Options that were given, by their `daemon.json` key.
    pub given: Map<String, Value>,
    /// `--config-file`.
    pub config_file: Option<PathBuf>,
    /// `--validate`.
    pub validate: bool,
}

impl Flags {
    /// Parses arguments, the program's name not among them.
    pub fn parse(
        name: &'static str,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Flags, ConfigError> {
        let matches = command(name).try_get_matches_from(args)?;
        let mut given = Map::new();
        for opt in OPTIONS.iter().filter(|opt| !opt.flag.is_empty()) {
            if let Some(value) = value_of(opt, &matches)? {
                given.insert(opt.key.to_owned(), value);
            }
        }
        Ok(Flags {
            given,
            config_file: matches.get_one::<String>("config-file").map(PathBuf::from),
            validate: matches
                .get_one::<String>("validate")
                .is_some_and(|v| v != "false"),
        })
    }
}

fn command(name: &'static str) -> Command {
    let own = [
        Arg::new("config-file")
            .long("config-file")
            .value_name("string")
            .help("Daemon configuration file"),
        switch(
            Arg::new("validate")
                .long("validate")
                .help("Validate daemon configuration and exit"),
        ),
        // Deprecated since Docker 1.3; containers have their own restart policies.
        switch(Arg::new("restart").long("restart").short('r').hide(true)),
    ];
    Command::new(name)
        .about("A container engine that speaks Docker's API.")
        .override_usage(format!("{name} [OPTIONS]"))
        .no_binary_name(true)
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .action(ArgAction::Version)
                .help("Print version information and quit"),
        )
        .version(env!("CARGO_PKG_VERSION"))
        .args(own)
        .args(OPTIONS.iter().filter(|opt| !opt.flag.is_empty()).map(arg))
}

fn arg(opt: &Opt) -> Arg {
    let mut arg = Arg::new(opt.flag)
        .long(opt.flag)
        .help(opt.help)
        .value_name(value_name(opt.kind));
    if let Some(letter) = opt.short {
        arg = arg.short(letter);
    }
    match opt.kind {
        Kind::Switch => switch(arg),
        Kind::Number | Kind::Text | Kind::Size | Kind::Object => arg
            .action(ArgAction::Set)
            .overrides_with(opt.flag)
            .allow_hyphen_values(true),
        Kind::List
        | Kind::Map
        | Kind::Maps
        | Kind::Runtimes
        | Kind::Switches
        | Kind::Ulimits
        | Kind::Pools => arg.action(ArgAction::Append).allow_hyphen_values(true),
    }
}

/// The types that dockerd's help shows.
fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "true|false",
        Kind::Number => "int",
        Kind::Text | Kind::Object => "string",
        Kind::Size => "bytes",
        Kind::List => "list",
        Kind::Map | Kind::Switches => "map",
        Kind::Maps => "mapmap",
        Kind::Runtimes => "runtime",
        Kind::Ulimits => "ulimit",
        Kind::Pools => "pool-options",
    }
}

/// A Go boolean: a value only after `=`.
fn switch(arg: Arg) -> Arg {
    let id = arg.get_id().clone();
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser([
            "true", "false", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False",
        ])
        .hide_possible_values(true)
        .overrides_with(id)
}

fn value_of(opt: &Opt, matches: &ArgMatches) -> Result<Option<Value>, ConfigError> {
    let Some(texts) = matches.get_many::<String>(opt.flag) else {
        return Ok(None);
    };
    let texts: Vec<&str> = texts.map(String::as_str).collect();
    let last = texts.last().copied().unwrap_or("");
    Ok(Some(match opt.kind {
        Kind::Switch => Value::Bool(is_true(last)),
        Kind::Number => json!(parse(
            opt,
            last,
            last.parse::<i64>().ok(),
            "invalid syntax"
        )?),
        Kind::Text | Kind::Size | Kind::Object => json!(last),
        Kind::List => json!(texts),
        Kind::Map => Value::Object(pairs(opt, &texts, |v| Some(json!(v)))?),
        Kind::Maps => Value::Object(maps(opt, &texts)?),
        Kind::Switches => Value::Object(pairs(opt, &texts, |v| Some(Value::Bool(is_true(v))))?),
        Kind::Runtimes => Value::Object(pairs(opt, &texts, |path| Some(json!({"path": path})))?),
        Kind::Ulimits => Value::Object(ulimits(opt, &texts)?),
        Kind::Pools => Value::Array(
            texts
                .iter()
                .map(|text| pool(opt, text))
                .collect::<Result<_, _>>()?,
        ),
    }))
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1" | "t" | "T" | "TRUE" | "True")
}

fn parse<T>(opt: &Opt, text: &str, value: Option<T>, why: &str) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError::Value {
        flag: opt.flag,
        value: text.to_owned(),
        why: why.to_owned(),
    })
}

fn pairs(
    opt: &Opt,
    texts: &[&str],
    value: impl Fn(&str) -> Option<Value>,
) -> Result<Map<String, Value>, ConfigError> {
    texts
        .iter()
        .map(|text| {
            let pair = text
                .split_once('=')
                .and_then(|(k, v)| Some((k.to_owned(), value(v)?)));
            parse(opt, text, pair, "not of the form key=value")
        })
        .collect()
}

/// `bridge=com.docker.network.driver.mtu=1400` and its like, grouped by the first word.
fn maps(opt: &Opt, texts: &[&str]) -> Result<Map<String, Value>, ConfigError> {
    let mut groups = Map::new();
    for text in texts {
        let parts = text
            .split_once('=')
            .and_then(|(name, rest)| Some((name, rest.split_once('=')?)));
        let (name, (key, value)) = parse(opt, text, parts, "not of the form name=key=value")?;
        let group = groups
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(group) = group {
            group.insert(key.to_owned(), json!(value));
        }
    }
    Ok(groups)
}

fn ulimits(opt: &Opt, texts: &[&str]) -> Result<Map<String, Value>, ConfigError> {
    texts
        .iter()
        .map(|text| {
            let limit = text.split_once('=').and_then(|(name, limits)| {
                let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
                let (soft, hard): (i64, i64) = (soft.parse().ok()?, hard.parse().ok()?);
                Some((
                    name.to_owned(),
                    json!({"Name": name, "Hard": hard, "Soft": soft}),
                ))
            });
            parse(opt, text, limit, "invalid ulimit argument")
        })
        .collect()
}

fn pool(opt: &Opt, text: &str) -> Result<Value, ConfigError> {
    let mut pool = Map::new();
    for part in text.split(',') {
        let value = match part.split_once('=') {
            Some((key @ "base", base)) => Some((key, json!(base))),
            Some((key @ "size", size)) => size.parse::<u8>().ok().map(|size| (key, json!(size))),
            _ => None,
        };
        let (key, value) = parse(
            opt,
            text,
            value,
            "not of the form base=<cidr>,size=<number>",
        )?;
        pool.insert(key.to_owned(), value);
    }
    Ok(Value::Object(pool))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Flags, ConfigError> {
        Flags::parse("dockerd", line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_become_what_the_file_would_hold() {
        let rows = [
            ("-D", json!({"debug": true})),
            (
                "--debug=false --iptables=false",
                json!({"debug": false, "iptables": false}),
            ),
            (
                "-H unix:///a -H tcp://b:1",
                json!({"hosts": ["unix:///a", "tcp://b:1"]}),
            ),
            (
                "--log-opt max-size=10m --log-opt max-file=2",
                json!({"log-opts": {"max-size": "10m", "max-file": "2"}}),
            ),
            (
                "--mtu 1400 --data-root /d",
                json!({"mtu": 1400, "data-root": "/d"}),
            ),
            (
                "--default-ulimit nofile=1:2",
                json!({"default-ulimits": {"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1}}}),
            ),
            (
                "--default-address-pool base=10.0.0.0/8,size=24",
                json!({"default-address-pools": [{"base": "10.0.0.0/8", "size": 24}]}),
            ),
            (
                "--add-runtime crun=/usr/bin/crun",
                json!({"runtimes": {"crun": {"path": "/usr/bin/crun"}}}),
            ),
            ("--feature a=true", json!({"features": {"a": true}})),
        ];
        for (line, expected) in rows {
            assert_eq!(
                Value::Object(parse_line(line).expect("well formed").given),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn malformed_flags_are_refused() {
        for line in [
            "--no-such-flag",
            "--mtu many",
            "--log-opt x",
            "--default-address-pool base",
            "extra",
            "--debug=maybe",
        ] {
            assert!(parse_line(line).is_err(), "{line}");
        }
        assert!(parse_line("--validate").expect("well formed").validate);
    }
}
