//! Room that is kept for removals: on a full disk they need a little before they give back much.
//!
//! ```text
//! <data-root>/reserve     bytes that mean nothing
//! ```

use std::fs::File;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::error::StoreError;
use crate::store::Store;

/// A few pages of the database's log for each row.
const SIZE: u64 = 512 << 10;

/// Keeps the room, if there is any.
pub(crate) fn ensure(path: &Path) {
    if path.metadata().is_ok_and(|file| file.len() == SIZE) {
        return;
    }
    let made =
        File::create(path).and_then(|file| Ok(fallocate(file, FallocateFlags::empty(), 0, SIZE)?));
    if let Err(error) = made {
        tracing::warn!(path = %path.display(), %error, "no room is kept for removals on a full disk");
        // A part of it may be there and is of no use.
        let _ = std::fs::remove_file(path);
    }
}

impl Store {
    /// Does something that takes little room and gives back more. When there is none at all, it gets what is kept for that, and the compressed layers go.
    pub(crate) fn with_reserve<T>(
        &self,
        work: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match work() {
            Err(error) if error.is_out_of_space() => {}
            outcome => return outcome,
        }
        tracing::warn!("the disk is full: compressed layers go");
        self.kept().iter().for_each(|blob| self.drop_kept(blob));
        let _ = std::fs::remove_file(&*self.reserve);
        let outcome = work();
        ensure(&self.reserve);
        outcome
    }
}
