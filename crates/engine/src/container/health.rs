//! Health checks: a command run in the container from time to time (moby `daemon/health.go`).

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use wharf_api::container::{
    ExecCreateRequest, ExecStartRequest, Health, HealthConfig, HealthcheckResult,
};
use wharf_api::stream;

use super::{Container, Live};
use crate::{Engine, Error, Result, clock};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Bytes of output that are kept.
const OUTPUT: usize = 4096;
/// Results that are kept.
const RESULTS: usize = 5;

/// A health check with Docker's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

impl Check {
    /// `None`: no check is configured.
    fn of(config: Option<&HealthConfig>, shell: Option<&Vec<String>>) -> Option<Check> {
        let config = config?;
        let (kind, rest) = config.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => rest.to_vec(),
            "CMD-SHELL" => {
                let mut words = shell
                    .filter(|shell| !shell.is_empty())
                    .cloned()
                    .unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
                words.extend(rest.iter().cloned());
                words
            }
            _ => return None,
        };
        let or = |ns: i64, default: Duration| match u64::try_from(ns) {
            Ok(0) | Err(_) => default,
            Ok(ns) => Duration::from_nanos(ns),
        };
        (!command.is_empty()).then(|| Check {
            command,
            interval: or(config.interval, INTERVAL),
            timeout: or(config.timeout, TIMEOUT),
            start_period: or(config.start_period, Duration::ZERO),
            start_interval: or(config.start_interval, START_INTERVAL),
            retries: if config.retries == 0 {
                RETRIES
            } else {
                config.retries
            },
        })
    }
}

impl Engine {
    /// Begins checking, for as long as this run lasts.
    pub(crate) fn start_health_checks(&self, container: &Arc<Container>, live: &Arc<Live>) {
        let record = container.record();
        let check = Check::of(
            record.config.healthcheck.as_ref(),
            record.config.shell.as_ref(),
        );
        let health = check.as_ref().map(|_| Health {
            status: "starting".into(),
            failing_streak: 0,
            log: Some(Vec::new()),
        });
        if container.state().health != health
            && let Err(error) = container.edit_state(&self.database, |state| state.health = health)
        {
            tracing::error!(container = container.id, %error, "health not saved");
        }
        let (Some(check), Some(engine)) = (check, self.handle()) else {
            return;
        };
        let (container, mut ended) = (container.clone(), live.ended.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = engine.check_health(&container, &check) => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
    }

    async fn check_health(&self, container: &Arc<Container>, check: &Check) {
        let begun = tokio::time::Instant::now();
        loop {
            let starting = container
                .state()
                .health
                .is_some_and(|health| health.status == "starting");
            let in_start_period = starting && begun.elapsed() < check.start_period;
            tokio::time::sleep(if in_start_period {
                check.start_interval
            } else {
                check.interval
            })
            .await;
            let started = clock::now_ns();
            let (exit_code, output) =
                match tokio::time::timeout(check.timeout, self.probe(container, check)).await {
                    Ok(Ok(result)) => result,
                    Ok(Err(error)) => (-1, error.to_string()),
                    Err(_) => (
                        -1,
                        format!(
                            "Health check exceeded timeout ({})",
                            go_duration(check.timeout)
                        ),
                    ),
                };
            let result = HealthcheckResult {
                start: clock::text(Some(started)),
                end: clock::text(Some(clock::now_ns())),
                exit_code,
                output,
            };
            let forgiven = begun.elapsed() < check.start_period;
            self.record_health(container, check, result, forgiven);
        }
    }

    fn record_health(
        &self,
        container: &Arc<Container>,
        check: &Check,
        result: HealthcheckResult,
        forgiven: bool,
    ) {
        let mut change = None;
        let saved = container.edit_state(&self.database, |state| {
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
        }
    }

    /// Runs the command once; gives its exit code and output.
    async fn probe(&self, container: &Arc<Container>, check: &Check) -> Result<(i64, String)> {
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
        let ours = UnixStream::from_std(ours).map_err(io)?;
        self.exec_start(start, Some((OwnedFd::from(theirs), Vec::new())))
            .await?;
        let output = read_output(ours).await.map_err(io)?;
        let code = self.execs.exit_code(&id).await;
        Ok((i64::from(code.unwrap_or(-1)), output))
    }
}

/// Takes one result into account.
fn judge(health: &mut Health, result: HealthcheckResult, retries: i64, forgiven: bool) {
    if result.exit_code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else if !(forgiven && health.status == "starting") {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = "unhealthy".into();
        }
    }
    let log = health.log.get_or_insert_default();
    log.push(result);
    let surplus = log.len().saturating_sub(RESULTS);
    log.drain(..surplus);
}

async fn read_output(mut stream: UnixStream) -> std::io::Result<String> {
    let mut output = Vec::new();
    let mut header = [0; stream::HEADER_LEN];
    while stream.read_exact(&mut header).await.is_ok() {
        let Ok((_, length)) = stream::decode_header(header) else {
            break;
        };
        let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
        stream.read_exact(&mut payload).await?;
        output
            .extend_from_slice(&payload[..payload.len().min(OUTPUT.saturating_sub(output.len()))]);
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// Whole seconds as Go prints them, fractions where there are.
fn go_duration(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{:?}", duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let config = |words: &[&str]| HealthConfig {
            test: words.iter().map(|word| (*word).to_owned()).collect(),
            ..HealthConfig::default()
        };
        let command = |words: &[&str]| {
            Check::of(Some(&config(words)), None).map(|check| check.command.join(" "))
        };
        assert_eq!(command(&["CMD", "a", "b"]).as_deref(), Some("a b"));
        assert_eq!(
            command(&["CMD-SHELL", "a b"]).as_deref(),
            Some("/bin/sh -c a b")
        );
        assert_eq!(command(&["NONE"]), None);
        assert_eq!(command(&[]), None);
    }

    #[test]
    fn a_streak_of_failures_makes_unhealthy() {
        let mut health = Health {
            status: "starting".into(),
            ..Health::default()
        };
        let result = |exit_code| HealthcheckResult {
            exit_code,
            ..HealthcheckResult::default()
        };
        judge(&mut health, result(1), 2, true);
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            ("starting", 0)
        );
        judge(&mut health, result(1), 2, false);
        judge(&mut health, result(1), 2, false);
        assert_eq!(health.status, "unhealthy");
        for _ in 0..9 {
            judge(&mut health, result(0), 2, false);
        }
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            ("healthy", 0)
        );
        assert_eq!(health.log.expect("log").len(), RESULTS);
    }
}
