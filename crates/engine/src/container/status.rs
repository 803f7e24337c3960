//! A container's status: one enum, changed by one function.
//!
//! Docker's booleans follow from it: `Running` is true while running, paused or waiting for a restart.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a container is in its life. The names are Docker's `State.Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    Created,
    /// Its init runs.
    Running,
    /// Its init is frozen.
    Paused,
    /// Its init ended, the restart policy will start it again.
    Restarting,
    /// It is being deleted.
    Removing,
    /// Its init ended.
    Exited,
    /// Deleting it failed half-way; only another delete is possible.
    Dead,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Init reached its `execve`.
    Started,
    /// Init did not reach its `execve`.
    StartFailed,
    /// Init ended for good.
    Exited,
    /// Init ended and the restart policy asks for another run.
    WillRestart,
    /// The wait for the next run was called off.
    RestartCanceled,
    /// The cgroup was frozen.
    Paused,
    /// The cgroup was thawed.
    Unpaused,
    /// A delete begins.
    RemoveBegun,
    /// The delete failed.
    RemoveFailed,
}

/// A change that the present status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {from} cannot take the change {change:?}")]
pub struct TransitionError {
    /// Present status.
    pub from: Status,
    /// Refused change.
    pub change: Change,
}

impl Status {
    /// The status after `change`.
    pub fn after(self, change: Change) -> Result<Status, TransitionError> {
        use Status::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
        match (self, change) {
            (Created | Exited | Restarting, Change::Started) => Ok(Running),
            // A failed first start leaves `created`, as Docker does.
            (Created, Change::StartFailed) => Ok(Created),
            (Exited | Restarting, Change::StartFailed) => Ok(Exited),
            (Running | Paused, Change::Exited) => Ok(Exited),
            (Running | Paused, Change::WillRestart) => Ok(Restarting),
            (Restarting, Change::RestartCanceled) => Ok(Exited),
            (Running, Change::Paused) => Ok(Paused),
            (Paused, Change::Unpaused) => Ok(Running),
            (Created | Exited | Dead, Change::RemoveBegun) => Ok(Removing),
            (Removing, Change::RemoveFailed) => Ok(Dead),
            (from, change) => Err(TransitionError { from, change }),
        }
    }

    /// Docker's `State.Running`.
    pub fn is_running(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }

    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// Parses Docker's word.
    pub fn parse(text: &str) -> Option<Status> {
        ALL.into_iter().find(|status| status.as_str() == text)
    }
}

const ALL: [Status; 7] = [
    Status::Created,
    Status::Running,
    Status::Paused,
    Status::Restarting,
    Status::Removing,
    Status::Exited,
    Status::Dead,
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [Change; 9] = [
        Change::Started,
        Change::StartFailed,
        Change::Exited,
        Change::WillRestart,
        Change::RestartCanceled,
        Change::Paused,
        Change::Unpaused,
        Change::RemoveBegun,
        Change::RemoveFailed,
    ];

    /// Rows in the order of [`ALL`], columns in the order of [`CHANGES`]; `-` is a refusal.
    const TABLE: [[&str; 9]; 7] = [
        [
            "running", "created", "-", "-", "-", "-", "-", "removing", "-",
        ],
        [
            "-",
            "-",
            "exited",
            "restarting",
            "-",
            "paused",
            "-",
            "-",
            "-",
        ],
        [
            "-",
            "-",
            "exited",
            "restarting",
            "-",
            "-",
            "running",
            "-",
            "-",
        ],
        ["running", "exited", "-", "-", "exited", "-", "-", "-", "-"],
        ["-", "-", "-", "-", "-", "-", "-", "-", "dead"],
        [
            "running", "exited", "-", "-", "-", "-", "-", "removing", "-",
        ],
        ["-", "-", "-", "-", "-", "-", "-", "removing", "-"],
    ];

    #[test]
    fn every_pair_of_status_and_change_has_its_answer() {
        for (row, from) in TABLE.iter().zip(ALL) {
            for (expected, change) in row.iter().zip(CHANGES) {
                let got = from.after(change);
                let text = got.map_or("-", Status::as_str);
                assert_eq!(text, *expected, "{from} {change:?}");
            }
        }
    }

    #[test]
    fn words_survive_a_round_trip() {
        for status in ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Status::parse("stopped"), None);
    }
}
