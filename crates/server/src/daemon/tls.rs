//! TLS on TCP listeners: our certificate, and with `--tlsverify` the clients' too.

use std::path::{Path, PathBuf};

use wharf_tls::{Certificates, Files, TlsError};

use crate::config::Settings;

/// TLS as configured; `None` when it is off.
///
/// # Errors
/// A file is missing or makes no sense.
pub fn tls(settings: &Settings) -> Result<Option<Certificates>, TlsError> {
    let Some(verify) = settings.tls_mode() else {
        return Ok(None);
    };
    let file = |given: &Option<PathBuf>, name: &str| {
        given.clone().unwrap_or_else(|| default_dir().join(name))
    };
    Certificates::open(Files {
        certificate: file(&settings.tlscert, "cert.pem"),
        key: file(&settings.tlskey, "key.pem"),
        authority: verify.then(|| file(&settings.tlscacert, "ca.pem")),
        optional: false,
        // Attach needs to leave HTTP, which HTTP/2 does not allow.
        protocols: &["http/1.1"],
    })
    .map(Some)
}

/// Where dockerd looks for certificates.
fn default_dir() -> PathBuf {
    match std::env::var_os("DOCKER_CERT_PATH") {
        Some(dir) => dir.into(),
        None => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
    }
}
