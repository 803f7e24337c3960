//! TLS to a daemon. The connection is a pair of sockets with a thread between them, so that all else (polling, half-closing, taking
//! over) is the same as with any socket.

mod pump;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use self::pump::Pump;
use super::socket::Bridge;

/// The texts of the PEM files of `--tlscacert`, `--tlscert` and `--tlskey` or of a context.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the daemon's certificate; the system's authorities if nothing is said.
    pub ca: Option<Vec<u8>>,
    /// Our certificate.
    pub cert: Option<Vec<u8>>,
    /// Its private key.
    pub key: Option<Vec<u8>>,
    /// Any daemon will do.
    pub skip_verify: bool,
}

impl std::fmt::Debug for TlsFiles {
    // A private key belongs in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFiles")
            .field("ca", &self.ca.is_some())
            .field("cert", &self.cert.is_some())
            .field("key", &self.key.is_some())
            .field("skip_verify", &self.skip_verify)
            .finish()
    }
}

impl TlsFiles {
    /// Whether they can be used; a context is not made with files that cannot.
    ///
    /// # Errors
    /// Docker's text for a file that is none of its kind.
    pub fn check(&self) -> Result<(), String> {
        self.config().map(drop)
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if self.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(wharf_tls::Anybody(provider)))
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(self.roots()?.into(), provider)
                    .build()
                    .map_err(|error| error.to_string())?;
            builder.with_webpki_verifier(verifier)
        };
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("failed to retrieve context tls info: cert.pem: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| "no valid private key found".to_owned())?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("failed to retrieve context tls info: {error}"))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        let (added, _) =
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca).flatten());
        if added == 0 {
            return Err("failed to retrieve context tls info: ca.pem seems invalid".to_owned());
        }
        Ok(roots)
    }
}

/// Shakes hands over a connection and moves bytes from then on.
///
/// # Errors
/// The other side is not who it should be, or does not speak TLS.
pub fn connect(tcp: TcpStream, host: &str, files: &TlsFiles) -> io::Result<Bridge> {
    let config = files.config().map_err(io::Error::other)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut tcp = tcp;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)
            .map_err(|error| io::Error::other(format!("tls: {error}")))?;
    }
    tcp.set_nonblocking(true)?;
    let (ours, inner) = UnixStream::pair()?;
    inner.set_nonblocking(true)?;
    let failure = Arc::new(Mutex::new(None));
    let told = Arc::clone(&failure);
    std::thread::spawn(move || {
        if let Err(error) = Pump::new(tls, tcp, &inner).run()
            && let Ok(mut failure) = told.lock()
        {
            *failure = Some(format!("tls: {error}"));
        }
        // Whoever reads sees the end only after the reason is there.
        let _ = inner.shutdown(Shutdown::Both);
    });
    let tell = move || failure.lock().ok().and_then(|failure| failure.clone());
    Ok(Bridge::new(ours, Arc::new(tell)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_none() {
        let files = |ca: &str| TlsFiles {
            ca: Some(ca.as_bytes().to_vec()),
            ..TlsFiles::default()
        };
        assert_eq!(
            files("nope").check(),
            Err("failed to retrieve context tls info: ca.pem seems invalid".to_owned())
        );
        let key = TlsFiles {
            cert: Some(Vec::new()),
            key: Some(b"nope".to_vec()),
            skip_verify: true,
            ca: None,
        };
        assert_eq!(key.check(), Err("no valid private key found".to_owned()));
        assert!(!format!("{key:?}").contains("nope"));
    }
}
