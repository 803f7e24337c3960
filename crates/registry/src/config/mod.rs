//! The configuration: one YAML file, every key with a default. `default.yml` beside this module is the documentation, and a test
//! holds it against what is here.

pub mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

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

/// See [`Config::storage`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// An object store; without one, `root`.
    pub url: Option<String>,
    /// Its options, by the names of the `object_store` crate.
    pub options: BTreeMap<String, String>,
    /// Whether blobs are read at the object store itself.
    pub redirect: bool,
    /// For how long such a URL is good.
    #[serde(deserialize_with = "units::duration")]
    pub redirect_expiry: Duration,
    /// Whether what is acknowledged survives loss of power.
    pub sync: bool,
    /// Whether nothing may change.
    pub read_only: bool,
    /// Whether `DELETE` is there.
    pub delete: bool,
    /// Whether a manifest may name what is not here.
    pub sparse: bool,
}

/// See [`Config::http`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// How clients see this registry, when it stands behind a proxy: `https://registry.example.com`.
    pub external_url: Option<String>,
    /// For a request's head; also how long a connection may be idle.
    #[serde(deserialize_with = "units::duration")]
    pub header_timeout: Duration,
    /// For the next bytes of a body, in either direction.
    #[serde(deserialize_with = "units::duration")]
    pub body_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address; 0: no limit.
    pub max_connections_per_client: usize,
    /// Largest manifest.
    #[serde(deserialize_with = "units::size")]
    pub max_manifest_size: u64,
    /// Largest blob; 0: no limit.
    #[serde(deserialize_with = "units::size")]
    pub max_blob_size: u64,
    /// Threads; 0: as many as processors.
    pub workers: usize,
    /// How long requests may go on once the registry was told to stop.
    #[serde(deserialize_with = "units::duration")]
    pub shutdown_timeout: Duration,
}

/// See [`Config::tls`].
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate and those between it and the root.
    pub certificate: Option<PathBuf>,
    /// PEM file with its key.
    pub key: Option<PathBuf>,
    /// PEM file with who signs clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may come without one.
    pub client_optional: bool,
}

/// What can be done with a repository.
#[derive(Debug, Clone, Copy, Deserialize, serde::Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read.
    Pull,
    /// Write.
    Push,
    /// Remove.
    Delete,
}

impl Action {
    /// All.
    pub const ALL: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }

    /// Parses a word.
    pub fn parse(text: &str) -> Option<Action> {
        Action::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

/// See [`Config::auth`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// What clients are told they log in to.
    pub realm: String,
    /// Names and bcrypt hashes.
    pub htpasswd: Option<PathBuf>,
    /// What may be done without logging in.
    pub anonymous: Vec<Action>,
    /// Whether robot accounts in the store may log in.
    pub robots: bool,
    /// Tokens instead of passwords with every request.
    pub token: Option<TokenConfig>,
    /// Who may do what where. Empty: whoever logs in may do everything.
    pub rules: Vec<Rule>,
    /// The Unix-like groups of rules: `@name`.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Whether clients' certificates name users (the subject's common name).
    pub certificates: bool,
}

/// See [`AuthConfig::token`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// Where another server gives tokens; without it, this registry does, at `/auth/token`.
    pub realm: Option<String>,
    /// The audience.
    pub service: String,
    /// Who signs.
    pub issuer: String,
    /// For how long ours are good.
    #[serde(deserialize_with = "units::duration")]
    pub expires: Duration,
    /// Certificates, public keys (PEM) or key sets (JWKS) of the other server.
    pub keys: Vec<PathBuf>,
}

/// See [`AuthConfig::rules`]. What any rule allows is allowed.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Patterns of names.
    pub repositories: Vec<String>,
    /// Users, `@groups`, `*` for whoever logged in, `anonymous` for everybody.
    pub who: Vec<String>,
    /// What they may do.
    pub actions: Vec<Action>,
}

/// See [`Config::limits`].
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Of one client; 0: no limit.
    pub requests_per_second: u32,
    /// So many at once before that counts; 0: one second's worth.
    pub burst: u32,
    /// Manifests of one client in `pull_window`; 0: no limit.
    pub pulls: u32,
    /// See `pulls`; zero: an hour.
    #[serde(deserialize_with = "units::duration")]
    pub pull_window: Duration,
}

/// See [`Config::quotas`]. The first whose pattern fits counts.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Patterns of names.
    pub repositories: Vec<String>,
    /// Bytes of all different blobs of one repository.
    #[serde(deserialize_with = "units::size")]
    pub size: u64,
}

/// See [`Config::gc`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct GcConfig {
    /// How often; zero: only when asked.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// For how long a blob that somebody was promised stays although nothing names it.
    #[serde(deserialize_with = "units::duration")]
    pub lease: Duration,
    /// When an upload that nobody goes on with is forgotten.
    #[serde(deserialize_with = "units::duration")]
    pub upload_expiry: Duration,
    /// Whether manifests without a tag go.
    pub untagged: bool,
    /// Which tags go.
    pub retention: Vec<Retention>,
}

/// See [`GcConfig::retention`]. For each tag the first entry whose patterns fit counts; what any of its `keep…` says stays.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Patterns of names.
    #[serde(default = "everything")]
    pub repositories: Vec<String>,
    /// Patterns of tags.
    #[serde(default = "everything")]
    pub tags: Vec<String>,
    /// The newest so many stay.
    #[serde(default)]
    pub keep_last: Option<usize>,
    /// What is younger stays.
    #[serde(default, deserialize_with = "optional_duration")]
    pub keep_for: Option<Duration>,
    /// These stay.
    #[serde(default)]
    pub keep_tags: Vec<String>,
}

fn everything() -> Vec<String> {
    vec!["**".to_owned()]
}

fn optional_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    units::duration(deserializer).map(Some)
}

/// See [`Config::scrub`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ScrubConfig {
    /// How often; zero: never.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// Bytes per second; 0: as fast as it goes.
    #[serde(deserialize_with = "units::size")]
    pub rate: u64,
}

/// See [`Config::upstreams`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Repositories below this name come from there; empty: all that no other upstream has.
    #[serde(default)]
    pub prefix: String,
    /// `https://registry-1.docker.io`, perhaps with a path that goes before repositories' names.
    pub url: String,
    /// The host whose mirror this is, as containerd says in `?ns=`.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Login.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<String>,
    /// A file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM file with further roots.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// For how long a tag is believed without asking again.
    #[serde(default = "five_minutes", deserialize_with = "units::duration")]
    pub ttl: Duration,
    /// Whether tags are believed for longer while the upstream does not answer.
    #[serde(default = "yes")]
    pub stale: bool,
}

/// See [`Config::mirrors`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct MirrorJob {
    /// `https://registry.example.com/team/app`.
    pub from: String,
    /// The repository here.
    pub to: String,
    /// Patterns of tags.
    #[serde(default = "everything")]
    pub tags: Vec<String>,
    /// How often.
    #[serde(default = "one_hour", deserialize_with = "units::duration")]
    pub every: Duration,
    /// Whether tags that went there go here.
    #[serde(default)]
    pub delete: bool,
    /// Login.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<String>,
    /// A file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM file with further roots.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

fn one_hour() -> Duration {
    Duration::from_secs(3600)
}

fn yes() -> bool {
    true
}

/// See [`Config::webhooks`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where events are posted.
    pub url: String,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Which events; empty: all.
    #[serde(default)]
    pub events: Vec<String>,
    /// Patterns of names.
    #[serde(default = "everything")]
    pub repositories: Vec<String>,
    /// For one attempt.
    #[serde(default = "ten_seconds", deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// How often each is tried.
    #[serde(default = "ten")]
    pub attempts: u32,
    /// Key of the signature in `X-Wharf-Signature: sha256=…`.
    #[serde(default)]
    pub secret: Option<String>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn ten() -> u32 {
    10
}

/// See [`Config::metrics`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether `/metrics` is there.
    pub enabled: bool,
    /// On an address of its own; else where everything is.
    pub listen: Option<SocketAddr>,
}

/// See [`Config::web`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// Whether `/` is there.
    pub enabled: bool,
    /// Above every page.
    pub title: String,
}

/// See [`Config::log`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
    /// A line for each request.
    pub access: bool,
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

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            url: None,
            options: BTreeMap::new(),
            redirect: true,
            redirect_expiry: Duration::from_secs(20 * 60),
            sync: true,
            read_only: false,
            delete: true,
            sparse: false,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            external_url: None,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            max_connections: 10_000,
            max_connections_per_client: 0,
            max_manifest_size: 4 << 20,
            max_blob_size: 0,
            workers: 0,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for AuthConfig {
    fn default() -> AuthConfig {
        AuthConfig {
            realm: "Wharf registry".to_owned(),
            htpasswd: None,
            anonymous: Vec::new(),
            robots: false,
            token: None,
            rules: Vec::new(),
            groups: BTreeMap::new(),
            certificates: false,
        }
    }
}

impl Default for TokenConfig {
    fn default() -> TokenConfig {
        TokenConfig {
            realm: None,
            service: "wharf-registry".to_owned(),
            issuer: "wharf-registry".to_owned(),
            expires: Duration::from_secs(300),
            keys: Vec::new(),
        }
    }
}

impl Default for GcConfig {
    fn default() -> GcConfig {
        GcConfig {
            interval: Duration::from_secs(24 * 3600),
            lease: Duration::from_secs(3600),
            upload_expiry: Duration::from_secs(24 * 3600),
            untagged: false,
            retention: Vec::new(),
        }
    }
}

impl Default for ScrubConfig {
    fn default() -> ScrubConfig {
        ScrubConfig {
            interval: Duration::from_secs(7 * 24 * 3600),
            rate: 50 << 20,
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> MetricsConfig {
        MetricsConfig {
            enabled: true,
            listen: None,
        }
    }
}

impl Default for WebConfig {
    fn default() -> WebConfig {
        WebConfig {
            enabled: true,
            title: "Wharf registry".to_owned(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: "info".to_owned(),
            format: "text".to_owned(),
            access: true,
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
