//! `GET` and `DELETE /containers/{id}/logs`.

use super::{Container, log_plan};
use crate::{Engine, Error, Result, logs};

/// A log being read.
#[derive(Debug)]
pub struct LogStream {
    /// Raw bytes instead of frames.
    pub raw: bool,
    /// Output, in batches ready for the wire.
    pub batches: logs::Batches,
}

impl Engine {
    /// Reads a container's log.
    pub async fn container_logs(&self, name: &str, request: logs::Request) -> Result<LogStream> {
        if !request.stdout && !request.stderr {
            return Err(Error::invalid(
                "Bad parameters: you must choose at least one stream",
            ));
        }
        let container = self.containers.get(name)?;
        let source = self.log_source(&container)?;
        let raw = source.raw;
        let ended = match container.live() {
            Some(live) if request.follow => Some(live.ended.subscribe()),
            _ => None,
        };
        let batches = logs::read(source, request, ended);
        Ok(LogStream { raw, batches })
    }

    /// Empties a container's log: an extension. What is written while it happens may be lost or kept.
    pub async fn container_clear_logs(&self, name: &str) -> Result<()> {
        let container = self.containers.get(name)?;
        // Nobody starts it meanwhile, and no other clears.
        let _lifecycle = container.lifecycle.lock().await;
        let path = self.log_source(&container)?.path;
        let failed = |error| Error::caused("clear log", error);
        match container.live() {
            // Only the one who writes can start over without losing lines.
            Some(live) => live
                .monitor
                .clear_log()
                .await
                .map_err(|error| Error::caused("clear log", error)),
            None => {
                crate::blocking(move || wharf_runtime::logfile::remove_all(&path).map_err(failed))
                    .await
            }
        }
    }

    /// Where a container's log is, if it is readable.
    pub(crate) fn log_source(&self, container: &Container) -> Result<logs::Source> {
        let record = container.record();
        let file = log_plan::readable(&record, &self.config.container_dir(&record.id))?;
        match file {
            Some(file) => Ok(logs::Source {
                path: file.path,
                raw: record.config.tty,
            }),
            None => Err(Error::not_implemented(
                "configured logging driver does not support reading",
            )),
        }
    }
}
