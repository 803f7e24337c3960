//! Connections, certificates, and how much of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::units;

/// See [`super::Config::http`].
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

/// See [`super::Config::tls`].
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

/// See [`super::Config::limits`].
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
