//! Carries out a [`ContainerPlan`]: clones the container's init, builds its world from inside, executes the user's program.

use std::os::fd::OwnedFd;

use crate::plan::{ContainerPlan, ExecPlan};

/// Standard streams of a new process.
#[derive(Debug)]
pub enum LaunchStdio {
    /// Three descriptors that become 0, 1 and 2.
    Pipes {
        /// Becomes descriptor 0.
        stdin: OwnedFd,
        /// Becomes descriptor 1.
        stdout: OwnedFd,
        /// Becomes descriptor 2.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal from the container's own devpts.
    Tty {
        /// Initial height in characters, 0 when unknown.
        rows: u16,
        /// Initial width in characters, 0 when unknown.
        cols: u16,
    },
}

/// A process that has reached its `execve`.
#[derive(Debug)]
pub struct Launched {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Master side of its terminal, with [`LaunchStdio::Tty`].
    pub console: Option<OwnedFd>,
}

/// Why a process did not reach its `execve`.
#[derive(Debug, Clone, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{message}")]
pub struct LaunchError {
    /// Text in runc's wording, without the "OCI runtime create failed" prefixes.
    pub message: String,
}

/// Starts the container's init. Blocking; the caller must be single-threaded. Returns once `execve` succeeded.
pub fn launch(
    _plan: &ContainerPlan,
    _stdio: LaunchStdio,
    _netns: Option<OwnedFd>,
) -> Result<Launched, LaunchError> {
    Err(LaunchError {
        message: "not built yet".into(),
    })
}

/// Starts a further process in the container whose init is `init`. Blocking; single-threaded callers only.
pub fn launch_exec(
    _plan: &ExecPlan,
    _init: &OwnedFd,
    _stdio: LaunchStdio,
) -> Result<Launched, LaunchError> {
    Err(LaunchError {
        message: "not built yet".into(),
    })
}
