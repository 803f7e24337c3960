//! After the start: what the monitor reports, and what an ended run leads to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use wharf_runtime::client::{ExitStatus, MonitorEvent};

use super::remove::Removal;
use super::restart_policy::{self, Ended};
use super::start::Starter;
use super::status::{Change, Status};
use super::{Container, Live};
use crate::{Engine, clock};

/// Exit code of a run whose end nobody saw.
pub(crate) const UNKNOWN_EXIT: i32 = 255;

impl Engine {
    /// Follows a run to its end.
    pub(crate) fn watch(
        &self,
        container: &Arc<Container>,
        live: Arc<Live>,
        mut events: UnboundedReceiver<MonitorEvent>,
    ) {
        let Some(engine) = self.handle() else { return };
        self.begin_health(container, &live);
        let container = container.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let status = match event {
                    MonitorEvent::Exited(status) => status,
                    MonitorEvent::Lost => engine.bury(&container, &live).await,
                    MonitorEvent::ExecExited { exec_id, code } => {
                        engine.exec_exited(&container, &exec_id, code);
                        // The client's connection ends only now: what it asks next finds the exit code.
                        let _ = live.monitor.exec_recorded(exec_id).await;
                        continue;
                    }
                    other => {
                        engine.note(&container, other);
                        continue;
                    }
                };
                engine.exited(&container, &live, status).await;
                return;
            }
        });
    }

    fn note(&self, container: &Arc<Container>, event: MonitorEvent) {
        match event {
            MonitorEvent::Detached { exec_id: None } => self.tell(container, "detach", &[]),
            MonitorEvent::Detached { exec_id: Some(id) } => {
                self.tell(container, "exec_detach", &[("execID", &id)])
            }
            MonitorEvent::Oom => {
                if let Err(error) =
                    container.edit_state(&self.database, |state| state.oom_killed = true)
                {
                    tracing::error!(container = container.id, %error, "state not saved");
                }
                self.tell(container, "oom", &[]);
            }
            MonitorEvent::ExecExited { .. } | MonitorEvent::Exited(_) | MonitorEvent::Lost => {}
        }
    }

    /// Ends what a killed monitor left behind.
    async fn bury(&self, container: &Arc<Container>, live: &Arc<Live>) -> ExitStatus {
        tracing::warn!(
            container = container.id,
            "the monitor was killed; ending what is left of the container"
        );
        let (path, scope) = (
            live.plan.cgroup.path.clone(),
            live.plan.cgroup.scope.clone(),
        );
        let ended = crate::blocking(move || {
            let removed = path.kill_all().and_then(|()| path.remove());
            if let Some(scope) = scope {
                let _ = wharf_runtime::systemd::stop(&scope);
            }
            removed.map_err(|error| crate::Error::caused("clean up", error))
        });
        if let Err(error) = ended.await {
            tracing::warn!(container = container.id, %error, "left-overs of the container");
        }
        ExitStatus {
            code: UNKNOWN_EXIT,
            oom_killed: false,
            exited_at_ns: clock::now_ns(),
        }
    }

    /// A run is over: give back what it held, then either stop or wait for the next run.
    async fn exited(&self, container: &Arc<Container>, live: &Arc<Live>, status: ExitStatus) {
        live.ended.send_replace(true);
        self.exited_unwatched(container, status).await;
    }

    /// See [`Engine::exited`]; also for runs that ended while no daemon was there.
    pub(crate) async fn exited_unwatched(&self, container: &Arc<Container>, status: ExitStatus) {
        self.end_health_checks(container);
        let before = container.state();
        self.end_execs(container);
        self.release_network(&container.id, &before.endpoints);
        let record = container.record();
        self.unmount_shared_memory(&record);
        if let Err(error) = self.store.release_rootfs(&container.id) {
            tracing::warn!(container = container.id, %error, "root not released");
        }
        self.tell_mounts("unmount", &record);
        self.release_volumes(&record);
        let lasted = lasted(before.started_ns, status.exited_at_ns);
        let manually_restarted = container.is_manually_restarted();
        let ended = Ended {
            exit_code: status.code,
            manually_stopped: before.manually_stopped || self.is_shutting_down(),
            told_to_end: container.exits_on_next() || self.is_shutting_down(),
            restarts: before.restart_count,
        };
        let again = !manually_restarted
            && restart_policy::wants_restart(&record.host_config.restart_policy, ended);
        let change = if again {
            Change::WillRestart
        } else {
            Change::Exited
        };
        let mut joined_late = Vec::new();
        let taken = container.take(&self.database, change, |state| {
            state.exit_code = status.code;
            state.finished_ns = Some(status.exited_at_ns);
            state.oom_killed |= status.oom_killed;
            joined_late = std::mem::take(&mut state.endpoints);
            state.sandbox_id.clear();
            state.restart_count += u32::from(again);
        });
        if let Err(error) = taken {
            tracing::error!(container = container.id, %error, "exit not recorded");
        }
        // Networks that it joined while it was ending; the others have been given back.
        joined_late
            .iter()
            .for_each(|endpoint| self.network.release(endpoint));
        let code = status.code.to_string();
        self.tell(
            container,
            "die",
            &[
                ("execDuration", &lasted.as_secs().to_string()),
                ("exitCode", &code),
            ],
        );
        if again {
            self.restart_later(container, lasted);
        } else if record.host_config.auto_remove && !manually_restarted {
            self.auto_remove(&container.id).await;
        }
    }

    fn restart_later(&self, container: &Arc<Container>, lasted: Duration) {
        let Some(engine) = self.handle() else { return };
        let container = container.clone();
        let wait = container.with_backoff(|backoff| backoff.next(lasted));
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = container.restart_canceled.notified() => return,
            }
            if let Err(error) = engine.start(&container, Starter::Policy).await {
                tracing::warn!(container = container.id, %error, "restart failed");
            }
        });
    }

    /// Calls a waiting restart off. False: none was waiting.
    pub(crate) fn cancel_restart(&self, container: &Container) -> bool {
        if container.status() != Status::Restarting {
            return false;
        }
        container.restart_canceled.notify_waiters();
        container
            .take(&self.database, Change::RestartCanceled, |state| {
                state.manually_stopped = true
            })
            .is_ok()
    }

    /// Deletes a container that was created to be.
    pub(crate) async fn auto_remove(&self, id: &str) {
        let removal = Removal {
            force: true,
            volumes: true,
            link: false,
        };
        if let Err(error) = self.remove_by_id(id, removal).await {
            // Somebody else may have been faster.
            if self.containers.by_id(id).is_some() {
                tracing::error!(container = id, %error, "auto-remove failed");
            }
        }
    }
}

fn lasted(started_ns: Option<i64>, exited_ns: i64) -> Duration {
    let ns = exited_ns.saturating_sub(started_ns.unwrap_or(exited_ns));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}
