//! Where the daemon is: `unix:///run/wharf/wharf.sock`, `tcp://host:port`, `ssh://user@host`.

use std::path::PathBuf;

use super::ssh::SshTarget;
use super::tls::TlsFiles;

/// The socket a daemon listens on when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/wharf/wharf.sock";
/// The port of `tcp://host` without one.
const DEFAULT_PORT: u16 = 2375;
/// The same with TLS.
const DEFAULT_TLS_PORT: u16 = 2376;

/// A daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// `host:port`, not resolved yet.
    Tcp(String),
    /// `host:port`, spoken to through TLS.
    Tls(String, TlsFiles),
    /// Through a program that the system's `ssh` runs on another machine.
    Ssh(SshTarget),
}

impl Endpoint {
    /// Reads the value of `--host` or `DOCKER_HOST`.
    ///
    /// # Errors
    /// Docker's text for an address that cannot be used.
    pub fn parse(host: &str) -> Result<Endpoint, String> {
        Endpoint::parse_with(host, None)
    }

    /// The same with what TLS needs; sockets and ssh do without.
    ///
    /// # Errors
    /// Docker's text for an address that cannot be used.
    pub fn parse_with(host: &str, tls: Option<TlsFiles>) -> Result<Endpoint, String> {
        // Without a scheme it is a host.
        let (scheme, rest) = host.split_once("://").unwrap_or(("tcp", host));
        match scheme {
            "unix" if rest.is_empty() => Ok(Endpoint::Unix(DEFAULT_SOCKET.into())),
            "unix" => Ok(Endpoint::Unix(rest.into())),
            "tcp" | "http" | "https" => {
                let address = rest.trim_end_matches('/');
                Ok(match tls {
                    Some(tls) => Endpoint::Tls(with_port(address, DEFAULT_TLS_PORT), tls),
                    None if scheme == "https" => {
                        let tls = TlsFiles::default();
                        Endpoint::Tls(with_port(address, DEFAULT_TLS_PORT), tls)
                    }
                    None => Endpoint::Tcp(with_port(address, DEFAULT_PORT)),
                })
            }
            "ssh" => SshTarget::parse(host).map(Endpoint::Ssh),
            _ => Err(format!("invalid bind address format: {host}")),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) | Endpoint::Tls(address, _) => write!(f, "tcp://{address}"),
            // What Docker's client calls the other end of a command.
            Endpoint::Ssh(_) => write!(f, "http://docker.example.com"),
        }
    }
}

fn with_port(address: &str, port: u16) -> String {
    let has_port = match address.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) => !port.is_empty() && (!host.starts_with('[') || host.ends_with(']')),
        None => false,
    };
    let address = if address.is_empty() {
        "localhost"
    } else {
        address
    };
    if has_port {
        address.to_owned()
    } else {
        format!("{}:{port}", address.trim_end_matches(':'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_of_docker_host() {
        for (given, expected) in [
            ("unix:///tmp/x.sock", Some("unix:///tmp/x.sock")),
            ("unix://", Some("unix:///run/wharf/wharf.sock")),
            ("tcp://127.0.0.1:2375", Some("tcp://127.0.0.1:2375")),
            ("tcp://example", Some("tcp://example:2375")),
            ("tcp://[::1]", Some("tcp://[::1]:2375")),
            ("tcp://[::1]:99", Some("tcp://[::1]:99")),
            ("example:99", Some("tcp://example:99")),
            ("ssh://me@there", Some("http://docker.example.com")),
            ("ssh://me:secret@there", None),
            ("ftp://there", None),
        ] {
            assert_eq!(
                Endpoint::parse(given)
                    .ok()
                    .map(|e| e.to_string())
                    .as_deref(),
                expected,
                "{given}"
            );
        }
    }
}
