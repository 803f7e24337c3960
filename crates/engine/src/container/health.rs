//! Health checks: a command run in the container from time to time (moby `daemon/health.go`), and what follows when it fails.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use wharf_api::container::{ExecCreateRequest, ExecStartRequest, HealthcheckResult};
use wharf_api::stream;
use wharf_runtime::client::Target;

use super::health_check::{Check, begin, judge};
use super::status::Status;
use super::stop::{SIGKILL, StopOptions};
use super::{Container, Live};
use crate::{Engine, Error, Result, clock};

/// Bytes of output that are kept.
const OUTPUT: usize = 4096;

/// What happens to a container that becomes unhealthy: an extension, `HostConfig.Wharf.HealthOnFailure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// SIGKILL, as if it had died: the restart policy decides what comes next.
    Kill,
    /// As `POST /containers/{id}/restart`.
    Restart,
    /// As `POST /containers/{id}/stop`.
    Stop,
}

impl OnFailure {
    /// Parses the field; empty and `none` ask for nothing.
    pub fn parse(text: &str) -> Result<Option<OnFailure>> {
        match text {
            "" | "none" => Ok(None),
            "kill" => Ok(Some(OnFailure::Kill)),
            "restart" => Ok(Some(OnFailure::Restart)),
            "stop" => Ok(Some(OnFailure::Stop)),
            other => Err(Error::invalid(format!(
                "invalid action on failing health checks: {other:?}; use one of 'none', 'kill', 'restart' or 'stop'"
            ))),
        }
    }
}

impl Engine {
    /// Health at the begin of a run, then checks for as long as it lasts.
    pub(crate) fn begin_health(&self, container: &Arc<Container>, live: &Arc<Live>) {
        let health = check_of(container).map(|_| begin(container.state().health));
        if container.state().health != health
            && let Err(error) = container.edit_state(&self.database, |state| state.health = health)
        {
            tracing::error!(container = container.id, %error, "health not saved");
        }
        self.resume_health_checks(container, live);
    }

    /// Begins checking. A frozen container is not asked.
    pub(crate) fn resume_health_checks(&self, container: &Arc<Container>, live: &Arc<Live>) {
        let (Some(check), Some(engine)) = (check_of(container), self.handle()) else {
            return;
        };
        if container.status() == Status::Paused {
            return;
        }
        let (container, mut ended) = (container.clone(), live.ended.subscribe());
        let mut stopped = container.new_health_checks();
        tokio::spawn(async move {
            tokio::select! {
                () = engine.check_health(&container, &check) => {}
                _ = ended.wait_for(|ended| *ended) => {}
                _ = stopped.changed() => {}
            }
        });
    }

    /// Ends checking. A container that nobody asks is called unhealthy, as in Docker.
    pub(crate) fn end_health_checks(&self, container: &Container) {
        if container.drop_health_checks()
            && let Err(error) = container.edit_state(&self.database, |state| {
                if let Some(health) = &mut state.health {
                    health.status = "unhealthy".into();
                }
            })
        {
            tracing::error!(container = container.id, %error, "health not saved");
        }
    }

    async fn check_health(&self, container: &Arc<Container>, check: &Check) {
        loop {
            let state = container.state();
            let status = state
                .health
                .map_or_else(String::new, |health| health.status);
            let age = age(state.started_ns, clock::now_ns());
            tokio::time::sleep(check.pause(&status, age)).await;
            let begun = clock::now_ns();
            let (exit_code, output) = match self.probe(container, check).await {
                Ok(result) => result,
                Err(error) => (-1, error.to_string()),
            };
            let result = HealthcheckResult {
                start: clock::text(Some(begun)),
                end: clock::text(Some(clock::now_ns())),
                exit_code,
                output,
            };
            self.record_health(container, check, result, begun);
        }
    }

    fn record_health(
        &self,
        container: &Arc<Container>,
        check: &Check,
        result: HealthcheckResult,
        begun: i64,
    ) {
        let mut change = None;
        let saved = container.edit_state(&self.database, |state| {
            let forgiven = age(state.started_ns, begun) < check.start_period;
            let health = state.health.get_or_insert_default();
            let before = health.status.clone();
            judge(health, result, check.retries, forgiven);
            change = (health.status != before).then(|| health.status.clone());
        });
        if let Err(error) = saved {
            tracing::error!(container = container.id, %error, "health not saved");
        }
        if let Some(status) = change {
            self.tell(container, &format!("health_status: {status}"), &[]);
            if status == "unhealthy" {
                self.act_on_failure(container);
            }
        }
    }

    fn act_on_failure(&self, container: &Arc<Container>) {
        let wanted = &container.record().host_config.wharf.health_on_failure;
        let (Ok(Some(action)), Some(engine)) = (OnFailure::parse(wanted), self.handle()) else {
            return;
        };
        let container = container.clone();
        // Apart: what follows ends the run, and with it the checks that this is called from.
        tokio::spawn(async move {
            tracing::info!(container = container.id, ?action, "unhealthy");
            let done = match action {
                OnFailure::Kill => engine.kill_as_if_died(&container).await,
                OnFailure::Restart => engine.restart(&container, &StopOptions::default()).await,
                OnFailure::Stop => engine.stop(&container, &StopOptions::default()).await,
            };
            if let Err(error) = done {
                tracing::error!(container = container.id, %error, ?action, "not done to the unhealthy container");
            }
        });
    }

    async fn kill_as_if_died(&self, container: &Arc<Container>) -> Result<()> {
        let live = container.running()?;
        live.monitor
            .signal(Target::Init, SIGKILL)
            .await
            .map_err(|error| Error::caused("kill the unhealthy container", error))?;
        self.tell(container, "kill", &[("signal", &SIGKILL.to_string())]);
        Ok(())
    }

    /// Runs the command once; gives its exit code and output. One that takes too long is killed.
    async fn probe(&self, container: &Arc<Container>, check: &Check) -> Result<(i64, String)> {
        if check.command.is_empty() {
            return Err(Error::internal(format!(
                "healthcheck for container {} has no command",
                container.id
            )));
        }
        let request = ExecCreateRequest {
            cmd: Some(check.command.clone()),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecCreateRequest::default()
        };
        let id = self.exec_create(&container.id, request).await?;
        let start = self.exec_prepare(&id, &ExecStartRequest::default()).await?;
        let io = |error| Error::caused("health check", error);
        let (ours, theirs) = StdStream::pair().map_err(io)?;
        ours.set_nonblocking(true).map_err(io)?;
        let mut ours = UnixStream::from_std(ours).map_err(io)?;
        self.exec_start(start, Some((OwnedFd::from(theirs), Vec::new())))
            .await?;
        let mut output = Vec::new();
        let run = async {
            read_output(&mut ours, &mut output).await.map_err(io)?;
            Ok::<_, Error>(self.execs.exit_code(&id).await)
        };
        let ended = tokio::time::timeout(check.timeout, run).await;
        let text = String::from_utf8_lossy(&output).into_owned();
        match ended {
            Ok(code) => Ok((i64::from(code?.unwrap_or(-1)), text)),
            Err(_) => {
                if let Some(live) = container.live() {
                    // It may have ended at the last moment.
                    let _ = live.monitor.signal(Target::Exec(id), SIGKILL).await;
                }
                Ok((-1, check.overdue(&text)))
            }
        }
    }
}

fn check_of(container: &Container) -> Option<Check> {
    let record = container.record();
    Check::of(
        record.config.healthcheck.as_ref(),
        record.config.shell.as_ref(),
    )
}

fn age(started_ns: Option<i64>, now_ns: i64) -> Duration {
    let ns = now_ns.saturating_sub(started_ns.unwrap_or(now_ns));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// Takes the frames apart; gives what was read so far also when it is not allowed to finish.
async fn read_output(stream: &mut UnixStream, output: &mut Vec<u8>) -> std::io::Result<()> {
    let mut header = [0; stream::HEADER_LEN];
    while stream.read_exact(&mut header).await.is_ok() {
        let Ok((_, length)) = stream::decode_header(header) else {
            break;
        };
        let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
        stream.read_exact(&mut payload).await?;
        let room = OUTPUT.saturating_sub(output.len());
        output.extend_from_slice(&payload[..payload.len().min(room)]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_have_podmans_names() {
        assert_eq!(OnFailure::parse("none").expect("known"), None);
        assert_eq!(
            OnFailure::parse("kill").expect("known"),
            Some(OnFailure::Kill)
        );
        assert!(OnFailure::parse("explode").is_err());
    }
}
