//! A stream or datagram connection to a service, plain or with TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::ShipError;
use crate::trust::Known;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where distributions keep the certificates they trust.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An address a service listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// `host:port`.
    Udp(String),
    /// `host:port`.
    Tcp(String),
    /// `host:port`, with TLS.
    Tls(String, Tls),
    /// A path.
    Unix(String),
    /// A path.
    UnixDatagram(String),
}

/// How to trust, and be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// PEM file of trusted certificates instead of the system's.
    pub ca: Option<String>,
    /// PEM files of our own certificate and its key.
    pub identity: Option<(String, String)>,
    /// Trust anybody.
    pub skip_verify: bool,
}

/// A connection.
#[derive(Debug)]
pub enum Connection {
    /// UDP.
    Udp(UdpSocket),
    /// TCP.
    Tcp(TcpStream),
    /// TCP with TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Unix stream.
    Unix(UnixStream),
    /// Unix datagrams.
    UnixDatagram(UnixDatagram),
}

impl Address {
    /// As Go's `net.Dial` names it in errors.
    fn target(&self) -> String {
        match self {
            Address::Udp(host) => format!("udp {host}"),
            Address::Tcp(host) | Address::Tls(host, _) => format!("tcp {host}"),
            Address::Unix(path) => format!("unix {path}"),
            Address::UnixDatagram(path) => format!("unixgram {path}"),
        }
    }

    /// Connects.
    pub fn connect(&self) -> Result<Connection, ShipError> {
        let failed = |source| ShipError::Connect {
            target: self.target(),
            source,
        };
        match self {
            Address::Udp(host) => udp(host).map(Connection::Udp).map_err(failed),
            Address::Tcp(host) => tcp(host).map(Connection::Tcp).map_err(failed),
            Address::Tls(host, tls) => {
                let config = tls.client()?;
                let name = host
                    .rsplit_once(':')
                    .map_or(host.as_str(), |(name, _)| name);
                let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
                    .map_err(|error| ShipError::Tls(error.to_string()))?;
                let session = ClientConnection::new(Arc::new(config), name)
                    .map_err(|error| ShipError::Tls(error.to_string()))?;
                let mut stream = StreamOwned::new(session, tcp(host).map_err(failed)?);
                // So that a certificate nobody trusts is noticed at the start.
                stream
                    .conn
                    .complete_io(&mut stream.sock)
                    .map_err(|error| ShipError::Tls(error.to_string()))?;
                Ok(Connection::Tls(Box::new(stream)))
            }
            Address::Unix(path) => UnixStream::connect(path)
                .map(Connection::Unix)
                .map_err(failed),
            Address::UnixDatagram(path) => UnixDatagram::unbound()
                .and_then(|socket| socket.connect(path).map(|()| socket))
                .map(Connection::UnixDatagram)
                .map_err(failed),
        }
    }
}

fn tcp(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn udp(host: &str) -> io::Result<UdpSocket> {
    let address = host
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket)
}

impl Connection {
    /// Sends one message whole: one datagram, or bytes of the stream.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Connection::Udp(socket) => datagram(|| socket.send(message)),
            Connection::UnixDatagram(socket) => socket.send(message).map(drop),
            Connection::Tcp(stream) => stream.write_all(message),
            Connection::Unix(stream) => stream.write_all(message),
            Connection::Tls(stream) => stream.write_all(message).and_then(|()| stream.flush()),
        }
    }

    /// Reads what the service answers.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Udp(socket) => socket.recv(buffer),
            Connection::UnixDatagram(socket) => socket.recv(buffer),
            Connection::Tcp(stream) => stream.read(buffer),
            Connection::Unix(stream) => stream.read(buffer),
            Connection::Tls(stream) => stream.read(buffer),
        }
    }

    /// How long reads and writes may take; zero is for ever.
    pub fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
        let some = |limit: Duration| (!limit.is_zero()).then_some(limit);
        match self {
            Connection::Tcp(stream) => stream
                .set_read_timeout(some(read))
                .and_then(|()| stream.set_write_timeout(some(write))),
            Connection::Tls(stream) => stream
                .sock
                .set_read_timeout(some(read))
                .and_then(|()| stream.sock.set_write_timeout(some(write))),
            Connection::Unix(stream) => stream
                .set_read_timeout(some(read))
                .and_then(|()| stream.set_write_timeout(some(write))),
            Connection::Udp(_) | Connection::UnixDatagram(_) => Ok(()),
        }
    }
}

fn datagram(send: impl Fn() -> io::Result<usize>) -> io::Result<()> {
    match send() {
        // The answer of a host without a listener to an earlier datagram, given instead of sending this one.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => send().map(drop),
        other => other.map(drop),
    }
}

impl Tls {
    fn client(&self) -> Result<ClientConfig, ShipError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(self.roots()?);
        let verifier: Arc<dyn ServerCertVerifier> = if self.skip_verify {
            Arc::new(wharf_tls::Anybody(provider.clone()))
        } else {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| ShipError::Tls(error.to_string()))?;
            let known = self.ca.as_deref().map(certificates).transpose()?;
            Arc::new(Known {
                verifier,
                certificates: known.unwrap_or_default(),
            })
        };
        let tls = |error: rustls::Error| ShipError::Tls(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    certificates(certificate)?,
                    PrivateKeyDer::from_pem_file(key).map_err(|error| {
                        ShipError::Tls(format!("could not load X509 key pair: {key}: {error}"))
                    })?,
                )
                .map_err(tls),
        }
    }

    fn roots(&self) -> Result<RootCertStore, ShipError> {
        let mut roots = RootCertStore::empty();
        if self.skip_verify {
            return Ok(roots);
        }
        let named = std::env::var("SSL_CERT_FILE").ok();
        let system = || {
            named
                .iter()
                .map(String::as_str)
                .chain(SYSTEM_ROOTS)
                .find(|path| std::path::Path::new(path).exists())
        };
        let Some(path) = self.ca.as_deref().or_else(system) else {
            return Err(ShipError::Tls("no certificate authority is trusted".into()));
        };
        roots.add_parsable_certificates(certificates(path)?);
        Ok(roots)
    }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, ShipError> {
    let failed = |error: rustls::pki_types::pem::Error| {
        ShipError::Tls(format!("could not read certificates: {path}: {error}"))
    };
    CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)
}
