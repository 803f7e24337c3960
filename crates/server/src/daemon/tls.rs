//! TLS on TCP listeners: our certificate, and with `--tlsverify` the clients' too.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

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

/// The files that TLS is made of.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Who signs clients, when they must show a certificate.
    authority: Option<PathBuf>,
}

/// When the files were last written, and how long they are.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// TLS as configured; `None` when it is off. Files that change are read again with the next handshake; as long as they
/// cannot be used (half of them are written, say) the old ones stay.
pub fn tls(settings: &Settings) -> Result<Option<Tls>, TlsError> {
    let Some(verify) = settings.tls_mode() else {
        return Ok(None);
    };
    let file = |given: &Option<PathBuf>, name: &str| {
        given.clone().unwrap_or_else(|| default_dir().join(name))
    };
    let files = Files {
        certificate: file(&settings.tlscert, "cert.pem"),
        key: file(&settings.tlskey, "key.pem"),
        authority: verify.then(|| file(&settings.tlscacert, "ca.pem")),
    };
    let current = Mutex::new((files.stamp(), files.acceptor()?));
    Ok(Some(Tls(Arc::new(move || files.renewed(&current)))))
}

impl Files {
    fn stamp(&self) -> Stamp {
        let all = [
            Some(&self.certificate),
            Some(&self.key),
            self.authority.as_ref(),
        ];
        let written = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        all.into_iter().flatten().map(written).collect()
    }

    fn renewed(&self, current: &Mutex<(Stamp, TlsAcceptor)>) -> TlsAcceptor {
        let stamp = self.stamp();
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp != current.0 {
            match self.acceptor() {
                Ok(acceptor) => {
                    info!(certificate = %self.certificate.display(), "certificates were renewed");
                    *current = (stamp, acceptor);
                }
                Err(error) => {
                    warn!(%error, "changed certificates cannot be used, the old ones stay")
                }
            }
        }
        current.1.clone()
    }

    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        server_config(self).map(|config| TlsAcceptor::from(Arc::new(config)))
    }
}

fn server_config(files: &Files) -> Result<ServerConfig, TlsError> {
    let certificates = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Pem {
        path: files.key.clone(),
        source,
    })?;
    let builder =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?;
    let builder = match &files.authority {
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots(authority)?),
                Arc::new(rustls::crypto::ring::default_provider()),
            );
            builder.with_client_cert_verifier(verifier.build()?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key)?;
    // Attach needs to leave HTTP, which HTTP/2 does not allow.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
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
