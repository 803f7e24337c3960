//! Certificates: ours, read again when their files change, and clients'.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);

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
    /// A file without certificates.
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    /// Certificate and key do not fit, or cannot be used.
    #[error("certificate and key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// Clients cannot be checked with what is in the file.
    #[error("tls.client_ca: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The current certificates.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    config: TlsConfig,
    current: RwLock<(TlsAcceptor, Vec<Option<SystemTime>>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Holds the private key.
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files; `None` when TLS is off.
    ///
    /// # Errors
    /// A file is missing or makes no sense.
    pub fn open(config: &TlsConfig) -> Result<Option<Tls>, TlsError> {
        if config.certificate.is_none() {
            return Ok(None);
        }
        let times = times(config);
        let acceptor = acceptor(config)?;
        Ok(Some(Tls(Arc::new(Inner {
            config: config.clone(),
            current: RwLock::new((acceptor, times)),
        }))))
    }

    /// For the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.0.current.read().0.clone()
    }

    /// Reads the files again, if they changed or `anyway`. What cannot be used is reported and the old certificate stays.
    pub fn reload(&self, anyway: bool) {
        let now = times(&self.0.config);
        if !anyway && self.0.current.read().1 == now {
            return;
        }
        match acceptor(&self.0.config) {
            Ok(acceptor) => {
                *self.0.current.write() = (acceptor, now);
                tracing::info!("the certificate was read again");
            }
            Err(error) => {
                // Not again for the same files.
                self.0.current.write().1 = now;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the new certificate cannot be used; the old one stays"
                );
            }
        }
    }

    /// Looks at the files for ever.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let tls = self.clone();
            let _ = tokio::task::spawn_blocking(move || tls.reload(false)).await;
        }
    }
}

fn times(config: &TlsConfig) -> Vec<Option<SystemTime>> {
    [&config.certificate, &config.key, &config.client_ca]
        .into_iter()
        .flatten()
        .map(|path| {
            std::fs::metadata(path)
                .and_then(|meta| meta.modified())
                .ok()
        })
        .collect()
}

fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let empty = PathBuf::new();
    let certificates = certificates(config.certificate.as_ref().unwrap_or(&empty))?;
    let key_file = config.key.as_ref().unwrap_or(&empty);
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|source| TlsError::Pem {
        path: key_file.clone(),
        source,
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
            let verifier = if config.client_optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut server = builder.with_single_cert(certificates, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// All certificates of a PEM file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem {
        path: path.to_owned(),
        source,
    };
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<Result<_, _>>()
        .map_err(pem)?;
    if all.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(all)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(store)
}

/// The common name of a certificate's subject: the last value with the attribute type 2.5.4.3 before the key, which follows the subject
/// (RFC 5280, section 4.1).
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let tbs = element(element(certificate)?.0)?.0;
    // [0] version, serial, signature, issuer, validity, subject
    let mut rest = tbs;
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.1;
    }
    for _ in 0..4 {
        rest = element(rest)?.1;
    }
    let mut names = element(rest)?.0;
    let mut found = None;
    while !names.is_empty() {
        let (set, after) = element(names)?;
        let (attribute, _) = element(set)?;
        let (kind, value) = element(attribute)?;
        if kind == [0x55, 0x04, 0x03] {
            found = String::from_utf8(element(value)?.0.to_vec()).ok();
        }
        names = after;
    }
    found
}

/// The content of the first DER element, and what follows it.
pub(crate) fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let n = usize::from(first & 0x7f);
            let bytes = rest.get(..n)?;
            let length = bytes
                .iter()
                .fold(0usize, |sum, &b| sum << 8 | usize::from(b));
            (length, &rest[n..])
        }
        _ => return None,
    };
    (length <= rest.len()).then(|| rest.split_at(length))
}
