//! TLS on TCP listeners: our certificate, and with `--tlsverify` the clients' too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::Settings;
use crate::http::serve::Tls;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file.
    #[error("could not read {}: {source}", path.display())]
    Pem {
        /// File.
        path: PathBuf,
        /// Cause.
        source: rustls::pki_types::pem::Error,
    },
    /// A CA file without certificates.
    #[error("failed to append certificates from PEM file: {}", .0.display())]
    NoCa(PathBuf),
    /// Certificate and key do not fit, or cannot be used.
    #[error("invalid TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The CA's certificates cannot check clients.
    #[error("invalid client verification: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// TLS as configured; `None` when it is off.
pub fn tls(settings: &Settings) -> Result<Option<Tls>, TlsError> {
    let Some(verify) = settings.tls_mode() else {
        return Ok(None);
    };
    let file = |given: &Option<PathBuf>, name: &str| {
        given.clone().unwrap_or_else(|| default_dir().join(name))
    };
    let certificates = certificates(&file(&settings.tlscert, "cert.pem"))?;
    let key_file = file(&settings.tlskey, "key.pem");
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|source| TlsError::Pem {
        path: key_file,
        source,
    })?;
    let builder =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?;
    let builder = if verify {
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots(&file(&settings.tlscacert, "ca.pem"))?),
            Arc::new(rustls::crypto::ring::default_provider()),
        );
        builder.with_client_cert_verifier(verifier.build()?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(certificates, key)?;
    // Attach needs to leave HTTP, which HTTP/2 does not allow.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Tls(TlsAcceptor::from(Arc::new(config)))))
}

/// Where dockerd looks for certificates.
fn default_dir() -> PathBuf {
    match std::env::var_os("DOCKER_CERT_PATH") {
        Some(dir) => dir.into(),
        None => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem {
        path: path.to_owned(),
        source,
    };
    CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<Result<_, _>>()
        .map_err(pem)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(TlsError::NoCa(path.to_owned()));
    }
    Ok(store)
}
