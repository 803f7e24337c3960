//! Trust: the system's authorities, and what `certs.d/<host[:port]>/` adds (moby `daemon/pkg/registry` `loadTLSConfig`).
//!
//! ```text
//! certs.d/<host[:port]>/*.crt           authorities
//! certs.d/<host[:port]>/<name>.cert     a client certificate, with <name>.key
//! ```

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::RegistryError;

/// Names and times of a registry's files in `certs.d`. Others make a new client, as in Docker, which reads them for each request.
pub(crate) type Stamp = Vec<(OsString, Option<SystemTime>)>;

/// The files of the moment.
pub(crate) fn stamp(certs_dir: &Path, authority: &str) -> Stamp {
    let Ok(entries) = std::fs::read_dir(certs_dir.join(authority)) else {
        return Stamp::new();
    };
    let mut stamp: Stamp = entries
        .flatten()
        .map(|entry| {
            let modified = entry.metadata().and_then(|file| file.modified());
            (entry.file_name(), modified.ok())
        })
        .collect();
    stamp.sort();
    stamp
}

/// TLS for one registry.
pub(crate) fn client_config(
    certs_dir: &Path,
    authority: &str,
    verify: bool,
) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(invalid)?;
    let files = Files::read(&certs_dir.join(authority))?;
    let builder = if verify {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(files.authorities);
        builder.with_root_certificates(roots)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(wharf_tls::Anybody(provider)))
    };
    match files.identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(invalid),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn invalid(error: impl std::fmt::Display) -> RegistryError {
    RegistryError::Invalid(error.to_string())
}

#[derive(Default)]
struct Files {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Files {
    fn read(directory: &Path) -> Result<Files, RegistryError> {
        let mut files = Files::default();
        let Ok(entries) = std::fs::read_dir(directory) else {
            return Ok(files);
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => files.authorities.extend(certificates(&path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(RegistryError::Invalid(format!(
                            "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                            name(&key),
                            name(&path)
                        )));
                    }
                    let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| {
                        RegistryError::Invalid(format!("{}: {error}", key.display()))
                    })?;
                    files.identity = Some((certificates(&path)?, private));
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    return Err(RegistryError::Invalid(format!(
                        "missing client certificate {} for key {}",
                        name(&path.with_extension("cert")),
                        name(&path)
                    )));
                }
                _ => {}
            }
        }
        Ok(files)
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let bad = |error: rustls::pki_types::pem::Error| {
        RegistryError::Invalid(format!("{}: {error}", path.display()))
    };
    CertificateDer::pem_file_iter(path)
        .map_err(bad)?
        .collect::<Result<_, _>>()
        .map_err(bad)
}
