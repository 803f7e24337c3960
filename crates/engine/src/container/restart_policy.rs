//! Docker's restart policies and their back-off (moby `daemon/internal/restartmanager`).

use std::time::Duration;

use wharf_api::container::RestartPolicy;

use super::record::State;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A run this long makes the next wait the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// What a restart decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Exit code of the run.
    pub exit_code: i32,
    /// A user sent it a signal, or the daemon stops.
    pub manually_stopped: bool,
    /// That signal was meant to end it.
    pub told_to_end: bool,
    /// Restarts so far.
    pub restarts: u32,
}

/// The growing wait between runs.
#[derive(Debug, Default, Clone, Copy)]
pub struct Backoff {
    wait: Option<Duration>,
}

impl Backoff {
    /// The wait before the next run.
    pub fn next(&mut self, lasted: Duration) -> Duration {
        let wait = match self.wait {
            Some(wait) if lasted < GOOD_RUN => (wait * 2).min(LONGEST_WAIT),
            _ => FIRST_WAIT,
        };
        self.wait = Some(wait);
        wait
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.wait = None;
    }
}

/// Whether the policy asks for another run.
pub fn wants_restart(policy: &RestartPolicy, ended: Ended) -> bool {
    !ended.told_to_end
        && decide(
            policy,
            ended.manually_stopped,
            ended.exit_code,
            ended.restarts,
        )
}

/// Whether the policy asks for a run when a daemon starts and finds the container stopped: the rules of the end of a run, without
/// the memory of who ended it. An `on-failure` container that failed, were it by the former daemon's end, runs again (moby
/// `Container.ShouldRestart`; Debian's dockerd 20.10 was seen to do it).
pub fn wants_start_with_daemon(policy: &RestartPolicy, state: &State) -> bool {
    state.started_before
        && decide(
            policy,
            state.manually_stopped,
            state.exit_code,
            state.restart_count,
        )
}

fn decide(policy: &RestartPolicy, manually_stopped: bool, exit_code: i32, restarts: u32) -> bool {
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !manually_stopped,
        "on-failure" => {
            let limit = policy.maximum_retry_count;
            exit_code != 0 && (limit == 0 || i64::from(restarts) < limit)
        }
        _ => false,
    }
}

/// Refuses policies that make no sense, in Docker's words (moby `ValidateRestartPolicy`).
pub fn validate(policy: &RestartPolicy) -> Result<(), String> {
    let count = policy.maximum_retry_count;
    match policy.name.as_str() {
        "" => Ok(()),
        "always" | "unless-stopped" | "no" if count != 0 => {
            let more = if count < 0 {
                " and cannot be negative"
            } else {
                ""
            };
            Err(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{more}"
            ))
        }
        "always" | "unless-stopped" | "no" => Ok(()),
        "on-failure" if count < 0 => {
            Err("invalid restart policy: maximum retry count cannot be negative".into())
        }
        "on-failure" => Ok(()),
        other => Err(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, count: i64) -> RestartPolicy {
        RestartPolicy {
            name: name.into(),
            maximum_retry_count: count,
        }
    }

    #[test]
    fn policies_decide_by_exit_code_and_user() {
        let rows = [
            ("no", 0, 1, false, 0, false),
            ("", 0, 1, false, 0, false),
            ("always", 0, 0, false, 9, true),
            ("always", 0, 0, true, 0, true),
            ("unless-stopped", 0, 0, false, 0, true),
            ("unless-stopped", 0, 0, true, 0, false),
            ("on-failure", 0, 0, false, 0, false),
            ("on-failure", 0, 1, false, 99, true),
            ("on-failure", 0, 137, true, 0, true),
            ("on-failure", 2, 1, false, 1, true),
            ("on-failure", 2, 1, false, 2, false),
        ];
        for (name, count, exit_code, manually_stopped, restarts, expected) in rows {
            let policy = policy(name, count);
            let mut ended = Ended {
                exit_code,
                manually_stopped,
                told_to_end: false,
                restarts,
            };
            let row = format!("{name} {count} {exit_code} {manually_stopped}");
            assert_eq!(wants_restart(&policy, ended), expected, "{row}");
            ended.told_to_end = true;
            assert!(!wants_restart(&policy, ended), "{row}");
            let mut state = State {
                exit_code,
                manually_stopped,
                restart_count: restarts,
                started_before: true,
                ..State::default()
            };
            assert_eq!(wants_start_with_daemon(&policy, &state), expected, "{row}");
            state.started_before = false;
            assert!(!wants_start_with_daemon(&policy, &state), "{row}");
        }
    }

    #[test]
    fn waits_double_until_a_good_run() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<_> = (0..12).map(|_| backoff.next(short).as_millis()).collect();
        assert_eq!(
            waits,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(backoff.next(Duration::from_secs(10)).as_millis(), 100);
    }

    #[test]
    fn senseless_policies_are_refused() {
        assert!(validate(&policy("on-failure", 3)).is_ok());
        assert!(validate(&policy("always", 3)).is_err());
        assert!(validate(&policy("on-failure", -1)).is_err());
        assert!(validate(&policy("sometimes", 0)).is_err());
    }
}
