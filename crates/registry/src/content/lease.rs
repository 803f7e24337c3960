//! Promises to clients. Whoever is told that a blob is here (a `HEAD` before a push, a finished upload, a mount) may name it in a manifest
//! later: garbage collection leaves it alone for one lease.
//!
//! Collector and promise meet as in Dekker's algorithm, so that no lock is needed between replicas: a promise renews the lease and then looks for
//! the collector's mark; the collector writes its mark and then looks at the lease. At least one of them sees the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wharf_spec::digest::Digest;

use super::Content;
use crate::storage::{StorageError, keys};

/// A collector acts on its mark within this time, or not at all.
pub const MARK_GOOD_FOR: Duration = Duration::from_secs(60);

/// A mark this old belongs to a collector that died.
pub const MARK_STALE: Duration = Duration::from_secs(300);

/// Between two looks at a mark.
const PAUSE: Duration = Duration::from_millis(50);

/// How many leases are remembered.
const REMEMBERED: usize = 50_000;

/// Leases this process knows to be young; saves a call to the store for each of them.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<Digest, Instant>>);

impl Known {
    fn is_young(&self, digest: &Digest, lease: Duration) -> bool {
        self.0
            .lock()
            .get(digest)
            .is_some_and(|renewed| renewed.elapsed() < lease / 4)
    }

    fn note(&self, digest: &Digest) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest.clone(), Instant::now());
    }

    fn forget(&self, digest: &Digest) {
        self.0.lock().remove(digest);
    }
}

impl Content {
    /// Promises a blob, which need not be here (look after this, not before): what is here now stays for one lease.
    pub async fn promise(&self, digest: &Digest) -> Result<(), StorageError> {
        let (storage, known) = (self.storage(), &self.0.leases);
        if known.is_young(digest, self.settings().lease) {
            return Ok(());
        }
        storage.renew_lease(digest).await?;
        let mark = keys::condemned(digest);
        while let Some(stat) = storage.stat(&mark).await? {
            if stat.age() > MARK_STALE {
                storage.delete(&mark).await?;
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        known.note(digest);
        Ok(())
    }

    /// Called when a blob has gone.
    pub(crate) fn forget_lease(&self, digest: &Digest) {
        self.0.leases.forget(digest);
    }
}
