//! `--host`: from addresses to bound sockets.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode};
use socket2::{Domain, SockAddr, Socket, Type};
use tracing::warn;
use wharf_tls::Certificates;

use super::group::gid_of;
use super::tls;
use crate::config::Settings;
use crate::http::serve::Listener;

/// The group that sockets belong to without a word about it; it may be missing.
const DEFAULT_GROUP: &str = "docker";

/// The longest queue the kernel gives by default (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not an address this daemon can listen on.
    #[error("invalid bind address format: {0}")]
    Address(String),
    /// The system refused.
    #[error("can't create {what} socket {address}: {source}")]
    Bind {
        /// `unix` or `tcp`.
        what: &'static str,
        /// As given.
        address: String,
        /// Cause.
        source: io::Error,
    },
    /// `--group` names no group.
    #[error("group {0} not found")]
    Group(String),
    /// `fd://` without sockets from the service manager.
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NoActivation,
    /// TLS.
    #[error("{0}")]
    Tls(#[from] wharf_tls::TlsError),
}

/// A bound address. Its socket file, if it has one, goes with it.
#[derive(Debug)]
pub struct Bound {
    /// As shown in the log.
    pub address: String,
    /// The socket.
    pub listener: Listener,
    /// Removes the file.
    pub file: Option<SocketFile>,
}

/// A socket file that is ours; gone when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that stays is replaced by the next daemon.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An address as `--host` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
    },
    /// All sockets that the service manager passed.
    Activation,
}

/// Binds everything that `--host` asks for.
pub fn bind_all(settings: &Settings) -> Result<Vec<Bound>, ListenError> {
    let tls = tls::tls(settings)?;
    let mut bound = Vec::new();
    for text in &settings.hosts {
        match parse(text, tls.is_some())? {
            Host::Unix(path) => bound.push(bind_unix_host(path, group(settings)?)?),
            Host::Tcp { host, port } => bound.extend(bind_tcp_host(&host, port, tls.as_ref())?),
            Host::Activation => bound.extend(activated(tls.as_ref())?),
        }
    }
    Ok(bound)
}

fn bind_unix_host(path: PathBuf, group: Option<u32>) -> Result<Bound, ListenError> {
    let address = path.display().to_string();
    match bind_unix(&path, group) {
        Ok(listener) => Ok(Bound {
            address,
            listener,
            file: Some(SocketFile(path)),
        }),
        Err(source) => Err(ListenError::Bind {
            what: "unix",
            address,
            source,
        }),
    }
}

/// One socket per address that the name has.
fn bind_tcp_host(
    host: &str,
    port: u16,
    tls: Option<&Certificates>,
) -> Result<Vec<Bound>, ListenError> {
    let failed = |source| ListenError::Bind {
        what: "tcp",
        address: format!("{host}:{port}"),
        source,
    };
    if tls.is_none() {
        warn!(
            host,
            port, "binding to an IP address without TLS gives root to everyone who can reach it"
        );
    }
    let addresses = (host, port).to_socket_addrs().map_err(failed)?;
    let bind = |address| -> io::Result<Bound> {
        let listener = bind_tcp(address, tls.cloned())?;
        Ok(Bound {
            address: address.to_string(),
            listener,
            file: None,
        })
    };
    addresses
        .map(bind)
        .collect::<io::Result<_>>()
        .map_err(failed)
}

/// Reads one `--host` (docker/cli `opts.ParseHost`).
fn parse(text: &str, tls: bool) -> Result<Host, ListenError> {
    let invalid = || ListenError::Address(text.to_owned());
    let text = text.trim();
    if let Some(path) = text.strip_prefix("unix://") {
        let path = if path.is_empty() {
            "/var/run/docker.sock"
        } else {
            path
        };
        return if path.starts_with('/') {
            Ok(Host::Unix(path.into()))
        } else {
            Err(invalid())
        };
    }
    if text.starts_with("fd://") {
        return Ok(Host::Activation);
    }
    let default_port = if tls { 2376 } else { 2375 };
    let address = text
        .strip_prefix("tcp://")
        .unwrap_or(text)
        .trim_end_matches('/');
    if address.contains("://") || address.contains('/') {
        return Err(invalid());
    }
    if address.is_empty() {
        return Ok(Host::Tcp {
            host: "127.0.0.1".into(),
            port: default_port,
        });
    }
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return Ok(Host::Tcp {
            host: socket.ip().to_string(),
            port: socket.port(),
        });
    }
    let (host, port) = match address.rsplit_once(':') {
        // An IPv6 address without a port is all colons.
        Some((host, port)) if !host.ends_with(':') && !address.ends_with(']') => {
            (host, port.parse().map_err(|_| invalid())?)
        }
        _ => (address, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Host::Tcp {
        host: if host.is_empty() { "127.0.0.1" } else { host }.to_owned(),
        port,
    })
}

fn group(settings: &Settings) -> Result<Option<u32>, ListenError> {
    match gid_of(&settings.group) {
        Ok(Some(gid)) => Ok(Some(gid)),
        Ok(None) | Err(_) if settings.group == DEFAULT_GROUP || settings.group.is_empty() => {
            Ok(None)
        }
        _ => Err(ListenError::Group(settings.group.clone())),
    }
}

/// A socket file that only root can open until its group is set.
fn bind_unix(path: &Path, group: Option<u32>) -> io::Result<Listener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the new file the socket's own mode: there is no moment in which others could connect.
    rustix::fs::fchmod(socket.as_fd(), Mode::from_raw_mode(0o600))?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(gid) = group {
        rustix::fs::chown(path, None, Some(Gid::from_raw(gid)))?;
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(0o660))?;
    socket.listen(BACKLOG)?;
    unix_listener(socket)
}

/// Takes the socket of an earlier daemon away (the pid file says that none lives), and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "exists and is not a socket",
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn bind_tcp(address: SocketAddr, tls: Option<Certificates>) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    tcp_listener(socket, tls)
}

fn unix_listener(socket: Socket) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    Ok(Listener::Unix(tokio::net::UnixListener::from_std(
        OwnedFd::from(socket).into(),
    )?))
}

fn tcp_listener(socket: Socket, tls: Option<Certificates>) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    Ok(Listener::Tcp(
        tokio::net::TcpListener::from_std(socket.into())?,
        tls,
    ))
}

fn activated(tls: Option<&Certificates>) -> Result<Vec<Bound>, ListenError> {
    let failed = |source| ListenError::Bind {
        what: "inherited",
        address: "fd://".into(),
        source,
    };
    let sockets = wharf_sys::activation::listen_fds();
    if sockets.is_empty() {
        return Err(ListenError::NoActivation);
    }
    sockets
        .into_iter()
        .map(|fd| {
            let socket = Socket::from(fd);
            let is_unix = socket.domain().map_err(failed)? == Domain::UNIX;
            let listener = if is_unix {
                unix_listener(socket)
            } else {
                tcp_listener(socket, tls.cloned())
            };
            Ok(Bound {
                address: "fd://".to_owned(),
                listener: listener.map_err(failed)?,
                file: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_parse() {
        let tcp = |host: &str, port| {
            Some(Host::Tcp {
                host: host.into(),
                port,
            })
        };
        for (text, tls, expected) in [
            (
                "unix:///run/a.sock",
                false,
                Some(Host::Unix("/run/a.sock".into())),
            ),
            (
                "unix://",
                false,
                Some(Host::Unix("/var/run/docker.sock".into())),
            ),
            ("unix://relative", false, None),
            ("fd://", false, Some(Host::Activation)),
            ("tcp://1.2.3.4:5", false, tcp("1.2.3.4", 5)),
            ("tcp://1.2.3.4", false, tcp("1.2.3.4", 2375)),
            ("tcp://1.2.3.4", true, tcp("1.2.3.4", 2376)),
            ("tcp://:8080", false, tcp("127.0.0.1", 8080)),
            ("tcp://[::1]:5", false, tcp("::1", 5)),
            ("tcp://[::1]", false, tcp("::1", 2375)),
            ("localhost:5", false, tcp("localhost", 5)),
            ("tcp://", false, tcp("127.0.0.1", 2375)),
            ("http://x", false, None),
            ("tcp://x:port", false, None),
        ] {
            assert_eq!(parse(text, tls).ok(), expected, "{text}");
        }
    }

    #[test]
    fn socket_file_is_private_and_replaces_only_sockets() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("wharf-listen-{}", std::process::id()));
        let path = dir.join("api.sock");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        let _guard = runtime.enter();
        bind_unix(&path, None).expect("first");
        bind_unix(&path, None).expect("stale socket is replaced");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("there")
                .permissions()
                .mode()
                & 0o777,
            0o660
        );
        std::fs::remove_file(&path).expect("ours");
        std::fs::write(&path, "precious").expect("scratch");
        assert!(bind_unix(&path, None).is_err());
        assert_eq!(std::fs::read(&path).expect("untouched"), b"precious");
        std::fs::remove_dir_all(&dir).expect("ours");
    }
}
