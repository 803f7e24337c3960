//! Deleting a container: everything of it is gone when this returns (moby `daemon/delete.go`).

use std::io;
use std::sync::Arc;

use super::record::Record;
use super::status::{Change, Status};
use super::stop::StopOptions;
use super::{Container, wait};
use crate::{Engine, Error, Result};

/// How to delete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removal {
    /// Kill it first when it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// Only the link of that name.
    pub link: bool,
}

impl Engine {
    /// `DELETE /containers/{id}`.
    pub async fn container_remove(&self, name: &str, removal: Removal) -> Result<()> {
        if removal.link {
            return self.remove_link(name);
        }
        let container = self.containers.get(name)?;
        let name = name.to_owned();
        self.finish(move |engine| async move { engine.remove(&container, &name, removal).await })
            .await
    }

    pub(crate) async fn remove_by_id(&self, id: &str, removal: Removal) -> Result<()> {
        let container = self
            .containers
            .by_id(id)
            .ok_or_else(|| Error::no_such_container(id))?;
        self.remove(&container, id, removal).await
    }

    async fn remove(&self, container: &Arc<Container>, name: &str, removal: Removal) -> Result<()> {
        if container.status() == Status::Removing {
            return Err(Error::removal_in_progress(name));
        }
        let context = |error: Error| error.context(format!("cannot remove container {name:?}"));
        let _lifecycle = loop {
            self.stop_for_removal(container, removal)
                .await
                .map_err(context)?;
            let lifecycle = container.lifecycle.lock().await;
            // A start may have come first.
            if !(removal.force && container.status().is_running()) {
                break lifecycle;
            }
        };
        // Killed, a container that removes itself may be gone by now.
        if self.containers.by_id(&container.id).is_none() {
            return Ok(());
        }
        if container.status() == Status::Removing {
            return Err(Error::removal_in_progress(name));
        }
        container
            .take(&self.database, Change::RemoveBegun, |_| {})
            .map_err(|_| context(still_running(container.status())))?;
        self.remove_the_rest(container, removal)
            .await
            .map_err(context)
    }

    /// What follows once the row says `removing`; also for a removal that an earlier daemon did not finish.
    pub(crate) async fn remove_the_rest(
        &self,
        container: &Arc<Container>,
        removal: Removal,
    ) -> Result<()> {
        if let Err(error) = self.delete_files(container).await {
            container.take(&self.database, Change::RemoveFailed, |state| {
                state.removal_error = error.to_string()
            })?;
            return Err(error);
        }
        self.forget(container)?;
        self.drop_volumes(&container.record(), removal).await;
        self.tell(container, "destroy", &[]);
        Ok(())
    }

    async fn stop_for_removal(&self, container: &Arc<Container>, removal: Removal) -> Result<()> {
        let status = container.status();
        if status.is_running() {
            if !removal.force {
                return Err(still_running(status));
            }
            match self.kill(container).await {
                Err(error) if container.status().is_running() => {
                    return Err(error.context("could not kill container"));
                }
                _ => {}
            }
        }
        self.stop(
            container,
            &StopOptions {
                signal: None,
                timeout: Some(3),
            },
        )
        .await
    }

    /// Layers and directories. The row says `removing` by now, so that a restart finishes what is interrupted.
    async fn delete_files(&self, container: &Arc<Container>) -> Result<()> {
        let (store, id) = (self.store.clone(), container.id.clone());
        let (files, monitor) = (self.config.container_dir(&id), self.config.monitor_dir(&id));
        let record = container.record();
        crate::blocking(move || {
            let failed = |error| Error::caused("unable to remove filesystem", error);
            store.remove_rw(&id)?;
            let layers = record.mounts.iter().map(|mount| mount.image_layer.as_str());
            for layer in layers.filter(|layer| !layer.is_empty()) {
                store.remove_rw(layer)?;
            }
            store.discard(&files).map_err(failed)?;
            match std::fs::remove_dir_all(&monitor) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            }
        })
        .await
    }

    fn forget(&self, container: &Arc<Container>) -> Result<()> {
        self.database.delete_container(&container.id)?;
        self.containers.remove(&container.id);
        self.execs.forget_container(&container.id);
        drop(container.take_pending());
        container.with_waiters(|state, waiters| wait::tell_removed(waiters, state));
        Ok(())
    }

    /// Removes anonymous volumes nobody else uses. Failures are logged: the container is gone already.
    async fn drop_volumes(&self, record: &Record, removal: Removal) {
        for mount in record.mounts.iter().filter(|mount| mount.kind == "volume") {
            if !removal.volumes || !mount.anonymous || !self.volume_users(&mount.name).is_empty() {
                continue;
            }
            if let Err(error) = self.delete_volume(&mount.name, false).await {
                tracing::warn!(volume = mount.name, %error, "anonymous volume not removed");
            }
        }
    }
}

fn still_running(status: Status) -> Error {
    match status {
        Status::Paused => Error::conflict("container is paused and must be unpaused first"),
        other => Error::conflict(format!(
            "container is {other}: stop the container before removing or force remove"
        )),
    }
}
