//! The configuration: one YAML file, every key with a default. `default.yml` beside this module is the documentation, and a test
//! holds it against what is here.

mod auth;
mod collect;
mod http;
mod report;
mod storage;
pub mod units;
mod upstream;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::auth::{Action, AuthConfig, Rule, TokenConfig};
pub use self::collect::{GcConfig, Quota, Retention, ScrubConfig};
pub use self::http::{HttpConfig, LimitsConfig, TlsConfig};
pub use self::report::{LogConfig, MetricsConfig, WebConfig, Webhook};
pub use self::storage::StorageConfig;
pub use self::upstream::{MirrorJob, Upstream};

/// The documented defaults; what `wharf registry serve --print-config` shows.
pub const DEFAULT_FILE: &str = include_str!("default.yml");

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("could not read {}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// It is not YAML, or says what cannot be said.
    #[error("{}: {source}", path.display())]
    Parse {
        /// File.
        path: PathBuf,
        /// Cause.
        source: serde_yaml_ng::Error,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Invalid(String),
}

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// The directory of the store, and of what is cached.
    pub root: PathBuf,
    /// Where bytes lie.
    pub storage: StorageConfig,
    /// Connections and requests.
    pub http: HttpConfig,
    /// Certificates.
    pub tls: TlsConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// How much of it.
    pub limits: LimitsConfig,
    /// Most bytes per repository.
    pub quotas: Vec<Quota>,
    /// What is thrown away when.
    pub gc: GcConfig,
    /// Reading everything again.
    pub scrub: ScrubConfig,
    /// Registries whose content is fetched when asked for.
    pub upstreams: Vec<Upstream>,
    /// Repositories that are kept equal to others.
    pub mirrors: Vec<MirrorJob>,
    /// Who is told what happens.
    pub webhooks: Vec<Webhook>,
    /// Prometheus.
    pub metrics: MetricsConfig,
    /// The pages for people.
    pub web: WebConfig,
    /// What is logged.
    pub log: LogConfig,
}

fn everything() -> Vec<String> {
    vec!["**".to_owned()]
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec!["127.0.0.1:5000".to_owned()],
            root: PathBuf::from("/var/lib/wharf-registry"),
            storage: StorageConfig::default(),
            http: HttpConfig::default(),
            tls: TlsConfig::default(),
            auth: AuthConfig::default(),
            limits: LimitsConfig::default(),
            quotas: Vec::new(),
            gc: GcConfig::default(),
            scrub: ScrubConfig::default(),
            upstreams: Vec::new(),
            mirrors: Vec::new(),
            webhooks: Vec::new(),
            metrics: MetricsConfig::default(),
            web: WebConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    /// Reads a file and checks it.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be said; the message names file, line and key.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let config: Config = Config::parse(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })?;
        Ok(config)
    }

    /// Parses the text of a file; an empty one is all defaults.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn parse(text: &str) -> Result<Config, serde_yaml_ng::Error> {
        let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text)?;
        if value.is_null() {
            return Ok(Config::default());
        }
        // From the text, so that errors know their line.
        serde_yaml_ng::from_str(text)
    }

    /// Finds what does not go together.
    ///
    /// # Errors
    /// One sentence about the first such thing.
    pub fn check(&self) -> Result<(), ConfigError> {
        let say = |text: String| Err(ConfigError::Invalid(text));
        if self.listen.is_empty() {
            return say("listen: at least one address is needed".to_owned());
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return say("tls: certificate and key go together".to_owned());
        }
        if self.tls.client_ca.is_some() && self.tls.certificate.is_none() {
            return say("tls.client_ca: needs tls.certificate and tls.key".to_owned());
        }
        if self.auth.certificates && self.tls.client_ca.is_none() {
            return say("auth.certificates: needs tls.client_ca".to_owned());
        }
        if let Some(token) = &self.auth.token {
            if token.realm.is_some() && token.keys.is_empty() {
                return say(
                    "auth.token.keys: needed to check the tokens of auth.token.realm".to_owned(),
                );
            }
            if token.realm.is_none() && self.auth.htpasswd.is_none() && !self.auth.robots {
                return say(
                    "auth.token: needs auth.htpasswd or auth.robots to know who asks for one"
                        .to_owned(),
                );
            }
        }
        for job in &self.mirrors {
            if crate::name::RepoName::parse(&job.to).is_none() {
                return say(format!("mirrors: {:?} is no repository name", job.to));
            }
        }
        for upstream in &self.upstreams {
            if !upstream.prefix.is_empty()
                && crate::name::RepoName::parse(&upstream.prefix).is_none()
            {
                return say(format!(
                    "upstreams: {:?} is no repository name",
                    upstream.prefix
                ));
            }
        }
        match self.log.format.as_str() {
            "text" | "json" => Ok(()),
            other => say(format!("log.format: {other:?} is neither text nor json")),
        }
    }

    /// Whether anybody is asked who they are.
    pub fn needs_login(&self) -> bool {
        self.auth.htpasswd.is_some()
            || self.auth.token.is_some()
            || self.auth.robots
            || self.auth.certificates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let written = Config::parse(DEFAULT_FILE).expect("parses");
        assert_eq!(written, Config::default());
        assert_eq!(Config::parse("").expect("parses"), Config::default());
    }

    #[test]
    fn every_key_is_documented() {
        for key in [
            "listen",
            "root",
            "url",
            "options",
            "redirect",
            "redirect_expiry",
            "sync",
            "read_only",
            "delete",
            "sparse",
            "external_url",
            "header_timeout",
            "body_timeout",
            "max_connections",
            "max_connections_per_client",
            "max_manifest_size",
            "max_blob_size",
            "workers",
            "shutdown_timeout",
            "certificate",
            "key",
            "client_ca",
            "client_optional",
            "realm",
            "htpasswd",
            "anonymous",
            "robots",
            "token",
            "service",
            "issuer",
            "expires",
            "keys",
            "rules",
            "groups",
            "certificates",
            "repositories",
            "who",
            "actions",
            "requests_per_second",
            "burst",
            "pulls",
            "pull_window",
            "size",
            "interval",
            "lease",
            "upload_expiry",
            "untagged",
            "retention",
            "tags",
            "keep_last",
            "keep_for",
            "keep_tags",
            "rate",
            "prefix",
            "namespace",
            "username",
            "password",
            "password_file",
            "ca",
            "ttl",
            "stale",
            "from",
            "to",
            "every",
            "headers",
            "events",
            "timeout",
            "attempts",
            "secret",
            "enabled",
            "title",
            "level",
            "format",
            "access",
        ] {
            assert!(
                DEFAULT_FILE.lines().any(|line| line
                    .trim_start_matches(['#', ' ', '-'])
                    .starts_with(&format!("{key}:"))),
                "{key}"
            );
        }
    }

    #[test]
    fn examples_in_comments_parse() {
        // An example is a comment whose `#` is not followed by one space and a word.
        let text: String = DEFAULT_FILE
            .lines()
            .filter(|line| {
                let line = line.trim_start();
                !line.starts_with("# ") || line.starts_with("#  ")
            })
            .map(|line| {
                format!(
                    "{}\n",
                    line.replacen('#', "", usize::from(line.trim_start().starts_with('#')))
                )
            })
            .filter(|line| {
                !line.ends_with(": []\n")
                    && !line.ends_with(": null\n")
                    && !line.ends_with(": {}\n")
            })
            .collect();
        let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(
            !config.upstreams.is_empty()
                && !config.mirrors.is_empty()
                && !config.webhooks.is_empty()
        );
        assert!(
            config.auth.token.is_some()
                && !config.auth.rules.is_empty()
                && !config.gc.retention.is_empty()
        );
        config.check().expect("goes together");
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        for (text, needle) in [
            ("lisen: []", "lisen"),
            ("gc: {lease: fast}", "no duration"),
            ("http: {max_blob_size: big}", "no size"),
            ("auth: {anonymous: [fly]}", "fly"),
        ] {
            let error = Config::parse(text).expect_err(text).to_string();
            assert!(error.contains(needle), "{error}");
        }
        let half = Config::parse("tls: {certificate: /x}").expect("parses");
        assert!(half.check().is_err());
    }
}
