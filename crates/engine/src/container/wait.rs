//! Waiting for a container: registered at once, answered later, so that nothing is missed in between.

use tokio::sync::oneshot;
use wharf_api::container::{WaitError, WaitResponse};

use super::record::State;
use super::status::{Change, Status};
use crate::{Engine, Error, Result};

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Not running, or no longer; the present state counts.
    #[default]
    NotRunning,
    /// The end of the present or next run.
    NextExit,
    /// The container is deleted.
    Removed,
}

impl Condition {
    /// Parses the query value; empty is `not-running`.
    pub fn parse(text: &str) -> Result<Condition> {
        match text {
            "" | "not-running" => Ok(Condition::NotRunning),
            "next-exit" => Ok(Condition::NextExit),
            "removed" => Ok(Condition::Removed),
            _ => Err(Error::invalid(format!("invalid condition: {text:?}"))),
        }
    }
}

/// Somebody who waits.
#[derive(Debug)]
pub struct Waiter {
    condition: Condition,
    sender: oneshot::Sender<WaitResponse>,
}

/// A registered wait.
#[derive(Debug)]
pub struct Wait {
    receiver: oneshot::Receiver<WaitResponse>,
}

impl Wait {
    /// The answer, when it comes.
    pub async fn finish(self) -> WaitResponse {
        // The sender lives as long as the container; it only goes without an answer when the daemon stops.
        self.receiver.await.unwrap_or_else(|_| WaitResponse {
            error: Some(WaitError {
                message: "context canceled".into(),
            }),
            status_code: -1,
        })
    }
}

impl Engine {
    /// Registers a wait. The answer comes from [`Wait::finish`].
    pub async fn container_wait(&self, name: &str, condition: Condition) -> Result<Wait> {
        let container = self.containers.get(name)?;
        let (sender, receiver) = oneshot::channel();
        container.with_waiters(|state, waiters| {
            if condition == Condition::NotRunning && !state.status.is_running() {
                // The receiver is in our hands.
                let _ = sender.send(answer(state));
            } else {
                waiters.retain(|waiter| !waiter.sender.is_closed());
                waiters.push(Waiter { condition, sender });
            }
        });
        Ok(Wait { receiver })
    }
}

/// Tells those whose condition `change` fulfils.
pub(crate) fn tell(waiters: &mut Vec<Waiter>, change: Change, state: &State) {
    let stopped = matches!(
        change,
        Change::Exited | Change::WillRestart | Change::RestartCanceled
    );
    let failed_removal = change == Change::RemoveFailed;
    for waiter in std::mem::take(waiters) {
        let told = match waiter.condition {
            Condition::NotRunning | Condition::NextExit => stopped,
            Condition::Removed => failed_removal,
        };
        if told {
            let _ = waiter.sender.send(answer(state));
        } else {
            waiters.push(waiter);
        }
    }
}

/// Tells everybody: the container is gone. A removal that succeeded clears an earlier start's error (moby
/// `SetRemovalError`), so that `docker run --rm` reports a failed start once.
pub(crate) fn tell_removed(waiters: &mut Vec<Waiter>, state: &State) {
    for waiter in waiters.drain(..) {
        let _ = waiter.sender.send(WaitResponse {
            error: None,
            status_code: i64::from(state.exit_code),
        });
    }
}

fn answer(state: &State) -> WaitResponse {
    let removal_failed = state.status == Status::Dead && !state.removal_error.is_empty();
    let message = if removal_failed {
        &state.removal_error
    } else {
        &state.error
    };
    WaitResponse {
        error: (!message.is_empty()).then(|| WaitError {
            message: message.clone(),
        }),
        status_code: i64::from(state.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: Condition, change: Change, told: bool) {
        let (sender, mut receiver) = oneshot::channel();
        let mut waiters = vec![Waiter { condition, sender }];
        tell(
            &mut waiters,
            change,
            &State {
                exit_code: 7,
                ..State::default()
            },
        );
        let answer = receiver.try_recv();
        assert_eq!(
            answer.is_ok_and(|answer| answer.status_code == 7),
            told,
            "{condition:?} {change:?}"
        );
        assert_eq!(waiters.is_empty(), told);
    }

    #[test]
    fn conditions_are_met_by_their_changes_only() {
        for condition in [Condition::NotRunning, Condition::NextExit] {
            check(condition, Change::Exited, true);
            check(condition, Change::WillRestart, true);
            check(condition, Change::Started, false);
            check(condition, Change::Paused, false);
            check(condition, Change::RemoveFailed, false);
        }
        check(Condition::Removed, Change::Exited, false);
        check(Condition::Removed, Change::RemoveFailed, true);
    }
}
