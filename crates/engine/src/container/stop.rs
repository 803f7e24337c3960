//! Signals, stop and restart (moby `daemon/kill.go`, `stop.go`, `restart.go`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wharf_api::error::Kind;
use wharf_runtime::client::Target;

use super::disposition::Disposition;
use super::record::Record;
use super::start::{Starter, is_gone};
use super::status::Status;
use super::wait::{Condition, Wait};
use super::{Container, Live, signals};
use crate::{Engine, Error, Result};

pub(crate) const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// How long a killed container may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// How to stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Instead of the container's own stop signal.
    pub signal: Option<String>,
    /// Seconds until SIGKILL, instead of the container's own; negative waits for ever.
    pub timeout: Option<i64>,
}

impl Engine {
    /// `POST /containers/{id}/kill`. Empty `signal` is SIGKILL.
    pub async fn container_kill(&self, name: &str, signal: &str) -> Result<()> {
        let signal = match signal {
            "" => SIGKILL,
            text => signals::parse(text).map_err(|error| Error::invalid(error.to_string()))?,
        };
        let container = self.containers.get(name)?;
        let result = if signal == SIGKILL {
            self.kill(&container).await
        } else {
            self.signal(&container, signal).await
        };
        result.map_err(|error| error.context(format!("cannot kill container: {name}")))
    }

    /// `POST /containers/{id}/stop`.
    pub async fn container_stop(&self, name: &str, options: StopOptions) -> Result<()> {
        let container = self.containers.get(name)?;
        if !container.status().is_running() {
            return Err(Error::not_modified("container is already stopped"));
        }
        let name = name.to_owned();
        self.finish(move |engine| async move {
            engine.stop(&container, &options).await.map_err(|error| {
                error
                    .context(format!("cannot stop container: {name}"))
                    .with_kind(Kind::Internal)
            })
        })
        .await
    }

    /// `POST /containers/{id}/restart`.
    pub async fn container_restart(&self, name: &str, options: StopOptions) -> Result<()> {
        let container = self.containers.get(name)?;
        let name = name.to_owned();
        self.finish(move |engine| async move {
            engine.restart(&container, &options).await.map_err(|error| {
                error
                    .context(format!("Cannot restart container {name}"))
                    .with_kind(Kind::Internal)
            })
        })
        .await
    }

    pub(crate) async fn restart(
        &self,
        container: &Arc<Container>,
        options: &StopOptions,
    ) -> Result<()> {
        if container.status().is_running() {
            container.set_manually_restarted(true);
            let stopped = self.stop(container, options).await;
            if stopped.is_err() {
                container.set_manually_restarted(false);
            }
            stopped?;
        }
        self.start(container, Starter::User).await?;
        self.tell(container, "restart", &[]);
        Ok(())
    }

    /// Stop signal, wait, SIGKILL. A container that does not run is no error.
    pub(crate) async fn stop(
        &self,
        container: &Arc<Container>,
        options: &StopOptions,
    ) -> Result<()> {
        if !container.status().is_running() {
            return Ok(());
        }
        let record = container.record();
        let signal = stop_signal(&record, options)?;
        let seconds = options
            .timeout
            .or(record.config.stop_timeout)
            .unwrap_or(self.settings().stop_timeout);
        let gone = self
            .container_wait(&container.id, Condition::NotRunning)
            .await?;
        let mut patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        let before = init_disposition(container, &record);
        if self.signal(container, signal).await.is_err() {
            // It is probably gone already.
            patience = Some(Duration::from_secs(2));
        } else if patience.is_some()
            && was_dropped(before, init_disposition(container, &record), signal)
        {
            // Nobody got the signal, so there is nothing to be patient for.
            patience = Some(Duration::ZERO);
        }
        if !is_over(gone, patience).await {
            tracing::info!(
                container = container.id,
                signal,
                "container did not exit in time; killing it"
            );
            self.kill(container)
                .await
                .or_else(|error| match error.kind() {
                    Kind::Conflict => Ok(()),
                    _ => Err(error),
                })?;
        }
        self.tell(container, "stop", &[]);
        Ok(())
    }

    /// SIGKILL, and waits until the container is gone.
    pub(crate) async fn kill(&self, container: &Arc<Container>) -> Result<()> {
        if !container.status().is_running() {
            return Err(Error::not_running(&container.id));
        }
        let gone = self
            .container_wait(&container.id, Condition::NotRunning)
            .await?;
        self.signal(container, SIGKILL).await?;
        if is_over(gone, Some(KILL_WAIT)).await {
            return Ok(());
        }
        let again = self
            .container_wait(&container.id, Condition::NotRunning)
            .await?;
        if let Some(live) = container.live() {
            self.kill_cgroup(&live).await?;
        }
        if is_over(again, Some(Duration::from_secs(2))).await {
            return Ok(());
        }
        Err(Error::internal(
            "tried to kill container, but did not receive an exit event",
        ))
    }

    /// Stops every container, each in its own time, because the daemon stops and was not told to leave them running.
    /// Restart policies and what users asked for stay as they are: the next daemon starts again what should run.
    /// What has not ended when all patience is over is killed.
    pub async fn shutdown(&self) {
        self.shutting_down.store(true, Ordering::Release);
        let stops = self.stop_all();
        match self.shutdown_patience() {
            None => stops.await,
            Some(patience) => {
                if tokio::time::timeout(patience, stops).await.is_err() {
                    tracing::warn!(?patience, "containers did not stop in time; killing them");
                    self.kill_all().await;
                }
            }
        }
        let store = self.store.clone();
        let closed = crate::blocking(move || {
            store.close();
            Ok(())
        });
        // It has nothing to tell: what stays mounted is in the log.
        let _ = closed.await;
    }

    /// The configured time, or five seconds more than the most patient container's (moby `Daemon.ShutdownTimeout`). `None`: for ever.
    fn shutdown_patience(&self) -> Option<Duration> {
        const GRACE: i64 = 5;
        let settings = self.settings();
        let mut longest = settings.shutdown_timeout;
        for container in self.containers.all() {
            let own = container.record().config.stop_timeout;
            let own = own.unwrap_or(settings.stop_timeout);
            if own < 0 || longest < 0 {
                return None;
            }
            longest = longest.max(own + GRACE);
        }
        u64::try_from(longest).ok().map(Duration::from_secs)
    }

    async fn kill_all(&self) {
        for container in self.containers.all() {
            if let Some(live) = container.live()
                && let Err(error) = live.monitor.signal(Target::Init, SIGKILL).await
            {
                tracing::warn!(container = container.id, %error, "not killed");
            }
        }
    }

    async fn stop_all(&self) {
        let mut stops = tokio::task::JoinSet::new();
        for container in self.containers.all() {
            let Some(engine) = self.handle() else { return };
            if container.status().is_running() {
                stops.spawn(async move {
                    if let Err(error) = engine.stop(&container, &StopOptions::default()).await {
                        tracing::warn!(container = container.id, %error, "not stopped");
                    }
                });
            }
        }
        while stops.join_next().await.is_some() {}
    }

    async fn kill_cgroup(&self, live: &Live) -> Result<()> {
        let path = live.plan.cgroup.path.clone();
        crate::blocking(move || {
            path.kill_all()
                .map_err(|error| Error::caused("kill cgroup", error))
        })
        .await
    }

    /// Sends a signal to a container's init, with what Docker makes of it for the restart policy.
    async fn signal(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        if self.cancel_restart(container) {
            return Ok(());
        }
        let status = container.status();
        let live = container.running()?;
        let record = container.record();
        let final_signal = is_final(&record, signal);
        if final_signal {
            container.set_exit_on_next();
        }
        if !container.is_manually_restarted() && !self.is_shutting_down() {
            container.edit_state(&self.database, |state| state.manually_stopped = true)?;
        }
        match live.monitor.signal(Target::Init, signal).await {
            Err(error) if !is_gone(&error) => {
                return Err(Error::caused(
                    &format!("Cannot kill container {}", container.id),
                    error,
                ));
            }
            _ => {}
        }
        if final_signal && status == Status::Paused {
            // A frozen process only takes the signal once thawed.
            self.thaw(container, &live).await?;
        }
        self.tell(container, "kill", &[("signal", &signal.to_string())]);
        Ok(())
    }
}

/// What the container's first process does with signals; `None` where the kernel treats it like any other process, because
/// the pid namespace is not its own.
fn init_disposition(container: &Container, record: &Record) -> Option<Disposition> {
    if !record.host_config.pid_mode.is_empty() {
        return None;
    }
    Disposition::of(container.live()?.pid)
}

/// Whether a signal came to nothing. Asked before and after it was sent: a handler that was only just set got it perhaps, one
/// that removed itself got it surely.
fn was_dropped(before: Option<Disposition>, after: Option<Disposition>, signal: i32) -> bool {
    let dropped = |disposition: Option<Disposition>| {
        disposition.is_some_and(|disposition| disposition.drops(signal))
    };
    dropped(before) && dropped(after)
}

/// Whether a signal is meant to end the container.
fn is_final(record: &Record, signal: i32) -> bool {
    match record.config.stop_signal.as_str() {
        "" => true,
        _ if signal == SIGKILL => true,
        own => signals::parse(own) == Ok(signal),
    }
}

fn stop_signal(record: &Record, options: &StopOptions) -> Result<i32> {
    let text = match &options.signal {
        Some(signal) if !signal.is_empty() => signal,
        _ if record.config.stop_signal.is_empty() => return Ok(SIGTERM),
        _ => &record.config.stop_signal,
    };
    signals::parse(text).map_err(|error| Error::invalid(error.to_string()))
}

/// Waits for the end, at most so long. `None`: for ever.
async fn is_over(gone: Wait, patience: Option<Duration>) -> bool {
    match patience {
        Some(patience) => tokio::time::timeout(patience, gone.finish()).await.is_ok(),
        None => {
            gone.finish().await;
            true
        }
    }
}
