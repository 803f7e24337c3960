//! The other end of a connection: a certificate, or the credentials of a local process.

use rustls::pki_types::CertificateDer;
use wharf_sys::fdpass::peer_groups;
use wharf_tls::common_name;

use crate::http::conn::Conn;

/// Who sends the requests of one connection. Read once, when it is accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The subject's common name of the certificate a client proved to own.
    pub certificate: Option<String>,
    /// The certificates themselves, DER, the client's own first.
    pub chain: Vec<Vec<u8>>,
    /// The process at the other end of a Unix socket, when it connected.
    pub process: Option<Process>,
}

/// Credentials of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// User.
    pub uid: u32,
    /// All its groups, the effective one among them; `None` when nobody wanted to know.
    pub gids: Option<Vec<u32>>,
}

impl Peer {
    /// Who is at the other end; `groups`: with all groups of a process.
    #[must_use]
    pub fn of(conn: &Conn, groups: bool) -> Peer {
        match conn {
            Conn::Unix(stream) => Peer {
                process: stream.peer_cred().ok().map(|cred| Process {
                    uid: cred.uid(),
                    gids: groups.then(|| {
                        // Linux before 4.13 does not tell the other groups.
                        let mut gids = peer_groups(stream).unwrap_or_default();
                        gids.push(cred.gid());
                        gids
                    }),
                }),
                ..Peer::default()
            },
            Conn::Tcp(_) => Peer::default(),
            Conn::Tls(stream) => Peer::with_certificates(stream.get_ref().1.peer_certificates()),
        }
    }

    fn with_certificates(chain: Option<&[CertificateDer<'static>]>) -> Peer {
        let chain = chain.unwrap_or_default();
        Peer {
            certificate: chain.first().and_then(|own| common_name(own)),
            chain: chain.iter().map(|c| c.to_vec()).collect(),
            process: None,
        }
    }

    /// For messages: `client "ci"`, `user 1000`.
    #[must_use]
    pub fn described(&self) -> String {
        match (&self.certificate, &self.process) {
            (Some(name), _) => format!("the client with certificate {name:?}"),
            (None, Some(process)) => format!("user {}", process.uid),
            (None, None) => "a client without certificate".into(),
        }
    }
}
