//! PEM files and what becomes of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file.
    #[error("could not read {}: {source}", path.display())]
    Pem {
        /// File.
        path: PathBuf,
        /// Cause.
        source: PemError,
    },
    /// A file without certificates.
    #[error("failed to append certificates from PEM file: {}", .0.display())]
    Empty(PathBuf),
    /// Certificate and key do not fit, or cannot be used.
    #[error("invalid TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority's certificates cannot check clients.
    #[error("invalid client verification: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The files that a server's TLS is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Its certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Who signs clients' certificates, where clients are to show one.
    pub authority: Option<PathBuf>,
    /// Whether a client may come without a certificate all the same.
    pub optional: bool,
    /// What is spoken inside, most wanted first (RFC 7301): `h2`, `http/1.1`.
    pub protocols: &'static [&'static str],
}

/// Which files they were: when each was written, how long it is, and its inode.
pub(crate) type Stamp = Vec<Option<(SystemTime, u64, u64)>>;

impl Files {
    pub(crate) fn stamp(&self) -> Stamp {
        let written = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len(), found.ino()))
        };
        let all = [
            Some(&self.certificate),
            Some(&self.key),
            self.authority.as_ref(),
        ];
        all.into_iter().flatten().map(written).collect()
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::Pem {
            path: self.key.clone(),
            source,
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match &self.authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(roots(authority)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match self.optional {
                    true => verifier.allow_unauthenticated(),
                    false => verifier,
                };
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let mut config = builder.with_single_cert(chain, key)?;
        let protocols = self.protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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
