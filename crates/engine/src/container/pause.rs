//! Freezing and thawing (moby `daemon/pause.go`, `unpause.go`).

use std::sync::Arc;

use super::status::{Change, Status};
use super::{Container, Live};
use crate::{Engine, Error, Result};

impl Engine {
    /// `POST /containers/{id}/pause`.
    pub async fn container_pause(&self, name: &str) -> Result<()> {
        let container = self.containers.get(name)?;
        let live = container.running()?;
        if container.status() == Status::Paused {
            return Err(Error::conflict(format!(
                "container {} is already paused",
                container.id
            )));
        }
        let path = live.plan.cgroup.path.clone();
        let id = container.id.clone();
        crate::blocking(move || {
            path.freeze()
                .map_err(|error| Error::caused(&format!("cannot pause container {id}"), error))
        })
        .await?;
        container.take(&self.database, Change::Paused, |_| {})?;
        self.end_health_checks(&container);
        self.tell(&container, "pause", &[]);
        Ok(())
    }

    /// `POST /containers/{id}/unpause`.
    pub async fn container_unpause(&self, name: &str) -> Result<()> {
        let container = self.containers.get(name)?;
        if container.status() != Status::Paused {
            return Err(Error::conflict(format!(
                "Container {} is not paused",
                container.id
            )));
        }
        let live = container.running()?;
        self.thaw(&container, &live).await
    }

    pub(crate) async fn thaw(&self, container: &Arc<Container>, live: &Arc<Live>) -> Result<()> {
        let path = live.plan.cgroup.path.clone();
        let id = container.id.clone();
        crate::blocking(move || {
            path.thaw()
                .map_err(|error| Error::caused(&format!("Cannot unpause container {id}"), error))
        })
        .await?;
        // A process that a signal was waiting for may have ended by now.
        if container.status() == Status::Paused {
            container.take(&self.database, Change::Unpaused, |_| {})?;
            self.resume_health_checks(container, live);
        }
        self.tell(container, "unpause", &[]);
        Ok(())
    }
}
