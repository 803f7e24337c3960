//! TLS to a daemon. The connection is a pair of sockets with a thread between them, so that all else (polling, half-closing, taking
//! over) is the same as with any socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, poll};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::socket::Bridge;

/// What is moved at a time.
const BUFFER: usize = 16 * 1024;

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
                .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
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
        if let Err(error) = (Pump {
            tls,
            tcp,
            inner: &inner,
            upward_open: true,
        })
        .run()
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

/// Between the daemon's ciphertext and our plain text.
struct Pump<'a> {
    tls: ClientConnection,
    tcp: TcpStream,
    inner: &'a UnixStream,
    /// We may still say something.
    upward_open: bool,
}

impl Pump<'_> {
    fn run(&mut self) -> io::Result<()> {
        // Plain text that our side has not taken yet.
        let mut pending = Vec::new();
        loop {
            let mut ended = false;
            if pending.is_empty() {
                let mut buffer = [0; BUFFER];
                match self.tls.reader().read(&mut buffer) {
                    Ok(0) => ended = true,
                    Ok(n) => pending.extend_from_slice(&buffer[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // Cut off without a goodbye: the length of an answer is known otherwise.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => ended = true,
                    Err(error) => return Err(error),
                }
            }
            if ended {
                return Ok(());
            }
            self.write_down(&mut pending)?;
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.tcp) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            self.wait(pending.is_empty())?;
            if pending.is_empty() {
                self.read_daemon()?;
            }
            // What is not sent yet is enough to go on with.
            if self.upward_open && !self.tls.wants_write() {
                self.read_ours()?;
            }
        }
    }

    fn write_down(&mut self, pending: &mut Vec<u8>) -> io::Result<()> {
        while !pending.is_empty() {
            match (&mut &*self.inner).write(pending) {
                Ok(n) => drop(pending.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self, room: bool) -> io::Result<()> {
        let mut daemon = PollFlags::empty();
        let mut ours = PollFlags::empty();
        daemon.set(PollFlags::IN, room);
        daemon.set(PollFlags::OUT, self.tls.wants_write());
        ours.set(PollFlags::IN, self.upward_open && !self.tls.wants_write());
        ours.set(PollFlags::OUT, !room);
        let mut fds = Vec::with_capacity(2);
        if !daemon.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.tcp.as_fd(), daemon));
        }
        if !ours.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.inner.as_fd(), ours));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_daemon(&mut self) -> io::Result<()> {
        match self.tls.read_tls(&mut self.tcp) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        self.tls.process_new_packets().map(drop).map_err(|error| {
            // Tells the daemon why.
            let _ = self.tls.write_tls(&mut self.tcp);
            io::Error::other(error)
        })
    }

    fn read_ours(&mut self) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        match (&mut &*self.inner).read(&mut buffer) {
            Ok(0) => {
                self.upward_open = false;
                self.tls.send_close_notify();
            }
            Ok(n) => self.tls.writer().write_all(&buffer[..n])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Our side is gone.
            Err(_) => self.upward_open = false,
        }
        Ok(())
    }
}

/// `--tls` without `--tlsverify`: encrypted, with anybody.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
