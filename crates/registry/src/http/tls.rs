//! Our certificates, as configured.

use std::path::PathBuf;

use wharf_tls::{Certificates, Files, TlsError};

use crate::config::TlsConfig;

/// Reads the files; `None` when TLS is off.
///
/// # Errors
/// A file is missing or makes no sense.
pub fn open(config: &TlsConfig) -> Result<Option<Certificates>, TlsError> {
    let Some(certificate) = &config.certificate else {
        return Ok(None);
    };
    Certificates::open(Files {
        certificate: certificate.clone(),
        // The two go together, which `Config::check` has seen to.
        key: config
            .key
            .as_ref()
            .map_or_else(PathBuf::new, PathBuf::clone),
        authority: config.client_ca.clone(),
        optional: config.client_optional,
        protocols: &["h2", "http/1.1"],
    })
    .map(Some)
}
