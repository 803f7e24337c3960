//! A health check as configured, and what its results make of a container's health. Pure.

use std::time::Duration;

use wharf_api::container::{Health, HealthConfig, HealthcheckResult};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Results that are kept.
const RESULTS: usize = 5;

/// A health check with Docker's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is run in the container.
    pub command: Vec<String>,
    /// From the end of one run to the next.
    pub interval: Duration,
    /// Longest run.
    pub timeout: Duration,
    /// How long failures of a starting container do not count.
    pub start_period: Duration,
    /// As `interval`, of a starting container in its start period.
    pub start_interval: Duration,
    /// Failures in a row that make unhealthy.
    pub retries: i64,
}

impl Check {
    /// `None`: no check is configured.
    pub fn of(config: Option<&HealthConfig>, shell: Option<&Vec<String>>) -> Option<Check> {
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
        Some(Check {
            command,
            interval: or(config.interval, INTERVAL),
            timeout: or(config.timeout, TIMEOUT),
            start_period: or(config.start_period, Duration::ZERO),
            start_interval: or(config.start_interval, START_INTERVAL),
            retries: if config.retries <= 0 {
                RETRIES
            } else {
                config.retries
            },
        })
    }

    /// The wait before the next run, `age` after the container's start.
    pub fn pause(&self, status: &str, age: Duration) -> Duration {
        if age < self.start_period && status == "starting" {
            self.start_interval
        } else {
            self.interval
        }
    }

    /// What is kept of a run that took too long.
    pub fn overdue(&self, output: &str) -> String {
        let text = format!(
            "Health check exceeded timeout ({})",
            go_duration(self.timeout)
        );
        if output.is_empty() {
            text
        } else {
            format!("{text}: {output}")
        }
    }
}

/// Health at the begin of a run: the log of earlier runs stays.
pub fn begin(earlier: Option<Health>) -> Health {
    Health {
        status: "starting".into(),
        failing_streak: 0,
        log: earlier.and_then(|health| health.log).or(Some(Vec::new())),
    }
}

/// Takes one result into account. `forgiven`: the run began in the start period.
pub fn judge(health: &mut Health, result: HealthcheckResult, retries: i64, forgiven: bool) {
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

/// Go's `time.Duration.String`.
fn go_duration(duration: Duration) -> String {
    let fraction = |ns: u128, unit: u128| {
        let (whole, rest) = (ns / unit, ns % unit);
        if rest == 0 {
            return whole.to_string();
        }
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    };
    let ns = duration.as_nanos();
    match ns {
        0 => "0s".into(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(ns, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(ns, 1_000_000)),
        _ => {
            let minutes = duration.as_secs() / 60;
            let seconds = fraction(ns - u128::from(minutes) * 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
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
    fn a_starting_container_is_asked_more_often() {
        let check = Check::of(
            Some(&HealthConfig {
                test: vec!["CMD".into(), "x".into()],
                start_period: 10_000_000_000,
                start_interval: 1_000_000_000,
                ..HealthConfig::default()
            }),
            None,
        )
        .expect("a check");
        let seconds = Duration::from_secs;
        assert_eq!(check.pause("starting", seconds(9)), seconds(1));
        assert_eq!(check.pause("healthy", seconds(9)), seconds(30));
        assert_eq!(check.pause("starting", seconds(10)), seconds(30));
        assert_eq!(
            check.overdue("so far"),
            "Health check exceeded timeout (30s): so far"
        );
    }

    #[test]
    fn a_streak_of_failures_makes_unhealthy() {
        let mut health = begin(None);
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
        let again = begin(Some(health));
        assert_eq!(again.status, "starting");
        assert_eq!(again.log.expect("log").len(), RESULTS);
    }

    #[test]
    fn durations_read_as_gos() {
        let rows = [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (ns, text) in rows {
            assert_eq!(go_duration(Duration::from_nanos(ns)), text);
        }
    }
}
