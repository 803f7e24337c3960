//! `GET /containers/{id}/changes`: what a container has added, changed and deleted.

use wharf_api::container::FilesystemChange;
use wharf_store::changes::Kind;

use crate::{Engine, Result};

impl Engine {
    /// Changes against the image, by path.
    pub async fn container_changes(&self, name: &str) -> Result<Vec<FilesystemChange>> {
        let container = self.containers.get(name)?;
        let (store, id) = (self.store.clone(), container.id.clone());
        crate::blocking(move || {
            let found = store.changes(&id)?;
            let shown = found.into_iter().map(|change| FilesystemChange {
                kind: match change.kind {
                    Kind::Modified => 0,
                    Kind::Added => 1,
                    Kind::Deleted => 2,
                },
                path: String::from_utf8_lossy(&change.path).into_owned(),
            });
            Ok(shown.collect())
        })
        .await
    }
}
