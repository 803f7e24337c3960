//! The certificates that are used now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::files::{Files, Stamp, TlsError};

/// A server's certificates. Files that change are read again with the next handshake; as long as they cannot be used (half of them are
/// written, say) the old ones stay.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    files: Files,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// The files that were looked at last, whether or not they could be used: each is complained about once.
    seen: Stamp,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Knows the private key.
        write!(f, "Certificates({})", self.0.files.certificate.display())
    }
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// One is missing or makes no sense.
    pub fn open(files: Files) -> Result<Certificates, TlsError> {
        let current = Mutex::new(Current {
            // Before reading: what is written meanwhile is then read again.
            seen: files.stamp(),
            acceptor: files.acceptor()?,
        });
        Ok(Certificates(Arc::new(Inner { files, current })))
    }

    /// For the next handshake. Looks at the files, which takes microseconds.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let seen = self.0.files.stamp();
        let mut current = self.current();
        if seen != current.seen {
            self.0.renew(&mut current, seen);
        }
        current.acceptor.clone()
    }

    /// Reads the files again although they look the same.
    pub fn renew(&self) {
        let seen = self.0.files.stamp();
        self.0.renew(&mut self.current(), seen);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn renew(&self, current: &mut Current, seen: Stamp) {
        current.seen = seen;
        match self.files.acceptor() {
            Ok(acceptor) => {
                info!(certificate = %self.files.certificate.display(), "certificates were renewed");
                current.acceptor = acceptor;
            }
            Err(error) => warn!(%error, "changed certificates cannot be used, the old ones stay"),
        }
    }
}
