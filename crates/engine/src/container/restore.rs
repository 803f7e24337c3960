//! After a restart of the daemon: which containers still run, which ended meanwhile, which have to be started.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use wharf_runtime::client::{ClientError, ExitStatus, Monitor, MonitorEvent, Target};
use wharf_runtime::monitor::SOCKET_NAME;
use wharf_runtime::plan::ContainerPlan;

use super::exit::UNKNOWN_EXIT;
use super::record::{Record, State};
use super::remove::Removal;
use super::restart_policy;
use super::start::Starter;
use super::status::Status;
use super::{Container, Live};
use crate::state::ContainerRow;
use crate::{Engine, Error, Result, clock};

impl Engine {
    /// Takes over the containers of an earlier engine and clears away what belongs to none.
    pub(crate) async fn restore(&self, rows: Vec<ContainerRow<Record, State>>) -> Result<()> {
        let mut found = Vec::with_capacity(rows.len());
        let driver = self.store.driver().name();
        let mut elsewhere = HashSet::new();
        for ContainerRow { config, state, .. } in rows {
            if config.driver != driver {
                tracing::warn!(
                    container = config.id,
                    driver = config.driver,
                    "container not loaded: its layers belong to another storage driver"
                );
                elsewhere.insert(config.id);
                continue;
            }
            let container = Arc::new(Container::new(config, state));
            self.containers.add(container.clone());
            found.push(container);
        }
        self.clear_leftovers(elsewhere).await?;
        for container in &found {
            self.take_over(container).await;
        }
        let living: Vec<String> = found
            .iter()
            .filter(|container| container.status().is_running())
            .map(|container| container.id.clone())
            .collect();
        self.network.forget_others(&living);
        self.start_those_that_should_run(&found);
        self.remove_those_that_should_be_gone(&found);
        Ok(())
    }

    async fn take_over(&self, container: &Arc<Container>) {
        let outcome = match container.status() {
            Status::Running | Status::Paused => self.find_running(container).await,
            Status::Removing => self.finish_removal(container).await,
            Status::Created | Status::Exited | Status::Restarting | Status::Dead => {
                self.end_unacknowledged(container).await
            }
        };
        if let Err(error) = outcome {
            tracing::error!(container = container.id, %error, "container not restored");
        }
    }

    async fn find_running(&self, container: &Arc<Container>) -> Result<()> {
        let directory = self.config.monitor_dir(&container.id);
        let plan = self.plan_alone(&container.record(), &container.state())?;
        let status = match Monitor::reconnect(&directory).await {
            Ok(Ok((monitor, started, events))) => {
                let (ended, _) = watch::channel(false);
                let live = Arc::new(Live {
                    monitor,
                    pid: started.pid,
                    pidfd: started.pidfd,
                    plan,
                    ended,
                });
                drop(container.set_live(live.clone()));
                self.refresh_names_of(container).await;
                let endpoints = container.state().endpoints;
                if let Err(error) =
                    self.network
                        .watch(&container.id, &endpoints, live.pidfd.as_fd())
                {
                    tracing::warn!(container = container.id, %error, "end of the process is not watched");
                }
                self.watch(container, live, events);
                tracing::info!(container = container.id, pid = started.pid, "found running");
                return Ok(());
            }
            Ok(Err(status)) => status,
            Err(error) => self.end_unwatched(container, &plan, &error).await,
        };
        self.exited_unwatched(container, status).await;
        Ok(())
    }

    /// A daemon killed in the middle of a start leaves a process that nobody was told of and whose addresses are not
    /// reserved. It is ended; the client that asked has seen its request fail.
    async fn end_unacknowledged(&self, container: &Arc<Container>) -> Result<()> {
        let directory = self.config.monitor_dir(&container.id);
        if !directory.join(SOCKET_NAME).exists() {
            return Ok(());
        }
        match Monitor::reconnect(&directory).await {
            Ok(Ok((monitor, _, mut events))) => {
                tracing::warn!(
                    container = container.id,
                    "ending a start that was never acknowledged"
                );
                monitor
                    .signal(Target::Init, rustix::process::Signal::KILL.as_raw())
                    .await
                    .map_err(|error| Error::caused("end an unacknowledged start", error))?;
                while let Some(event) = events.recv().await {
                    if matches!(event, MonitorEvent::Exited(_) | MonitorEvent::Lost) {
                        break;
                    }
                }
            }
            Ok(Err(_)) => {}
            Err(error) => {
                let plan = self.plan_alone(&container.record(), &container.state())?;
                self.end_unwatched(container, &plan, &error).await;
            }
        }
        Ok(())
    }

    /// Its monitor is gone: after a reboot there is nothing left, otherwise what is left is ended.
    async fn end_unwatched(
        &self,
        container: &Container,
        plan: &ContainerPlan,
        error: &ClientError,
    ) -> ExitStatus {
        tracing::warn!(container = container.id, %error, "no monitor; ending what is left of the container");
        let path = plan.cgroup.path.clone();
        let ended = crate::blocking(move || {
            let _ = path.kill_all();
            path.remove()
                .map_err(|error| Error::caused("clean up", error))
        });
        if let Err(error) = ended.await {
            tracing::debug!(container = container.id, %error, "control group not removed");
        }
        ExitStatus {
            code: UNKNOWN_EXIT,
            oom_killed: false,
            exited_at_ns: clock::now_ns(),
        }
    }

    /// Starts what the restart policies ask for, without holding up the daemon.
    fn start_those_that_should_run(&self, found: &[Arc<Container>]) {
        for container in found {
            let (record, state) = (container.record(), container.state());
            let policy = &record.host_config.restart_policy;
            let stopped = matches!(state.status, Status::Created | Status::Exited);
            let wanted = restart_policy::wants_start_with_daemon(policy, &state);
            let waiting = state.status == Status::Restarting;
            let due = waiting || (stopped && wanted);
            if !due {
                continue;
            }
            let starter = if waiting {
                Starter::Policy
            } else {
                Starter::User
            };
            let (Some(engine), container) = (self.handle(), container.clone()) else {
                continue;
            };
            tokio::spawn(async move {
                if let Err(error) = engine.start(&container, starter).await {
                    tracing::error!(container = container.id, %error, "container not started");
                }
            });
        }
    }

    /// Auto-removed containers whose daemon died between their end and their removal.
    fn remove_those_that_should_be_gone(&self, found: &[Arc<Container>]) {
        for container in found {
            let ended = container.status() == Status::Exited;
            if let Some(engine) = self
                .handle()
                .filter(|_| ended && container.record().host_config.auto_remove)
            {
                let id = container.id.clone();
                tokio::spawn(async move { engine.auto_remove(&id).await });
            }
        }
    }

    async fn finish_removal(&self, container: &Arc<Container>) -> Result<()> {
        tracing::info!(container = container.id, "finishing an interrupted removal");
        self.remove_the_rest(
            container,
            Removal {
                force: true,
                volumes: false,
                link: false,
            },
        )
        .await
    }

    /// Directories and layers without a container, containers without layers.
    /// `elsewhere`: containers of other storage drivers, which keep their directories.
    async fn clear_leftovers(&self, elsewhere: HashSet<String>) -> Result<()> {
        let mut known: HashSet<String> = self
            .containers
            .all()
            .iter()
            .map(|container| container.id.clone())
            .collect();
        known.extend(elsewhere);
        let store = self.store.clone();
        let roots = [
            self.config.data_root.join("containers"),
            self.config.exec_root.join("monitor"),
        ];
        let layers: HashSet<String> = store.rw_containers().into_iter().collect();
        for container in self.containers.all() {
            let removing = container.status() == Status::Removing;
            if !layers.contains(&container.id) && !removing {
                tracing::error!(
                    container = container.id,
                    "its layers are gone; forgetting the container"
                );
                self.database.delete_container(&container.id)?;
                self.containers.remove(&container.id);
            }
        }
        crate::blocking(move || {
            // A container's further layers start with its id.
            let owner = |layer: &str| layer.split('-').next().unwrap_or(layer).to_owned();
            for id in layers.iter().filter(|layer| !known.contains(&owner(layer))) {
                tracing::info!(
                    container = id.as_str(),
                    "removing layers without a container"
                );
                store.remove_rw(id)?;
            }
            for root in roots {
                clear_directory(&root, &known)?;
            }
            Ok(())
        })
        .await
    }
}

fn clear_directory(root: &Path, known: &HashSet<String>) -> Result<()> {
    let error = |error| Error::caused(&format!("clear {}", root.display()), error);
    for entry in std::fs::read_dir(root).map_err(error)?.flatten() {
        if !known.contains(entry.file_name().to_string_lossy().as_ref()) {
            std::fs::remove_dir_all(entry.path()).map_err(error)?;
        }
    }
    Ok(())
}
