//! `GET /containers/{id}/logs`.

use wharf_runtime::client::LogPlan;

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

    /// Where a container's log is, if it is readable.
    pub(crate) fn log_source(&self, container: &Container) -> Result<logs::Source> {
        let record = container.record();
        match log_plan::plan(&record, &self.config.container_dir(&record.id))? {
            LogPlan::JsonFile { path, .. } => Ok(logs::Source {
                path,
                raw: record.config.tty,
            }),
            LogPlan::None => Err(Error::not_implemented(
                "configured logging driver does not support reading",
            )),
        }
    }
}
