//! The daemon's end: starts the spawner, asks it for monitors, talks to monitors. Async (tokio).

mod monitor;
mod spawner;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_logship::Destination;

use crate::launch::LaunchError;
use crate::plan::{ContainerPlan, ExecPlan};

pub use monitor::Monitor;
pub use spawner::Spawner;

/// How a client's socket is joined to a process's streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Forward the client's bytes to the process.
    pub stdin: bool,
    /// Send the process's stdout.
    pub stdout: bool,
    /// Send the process's stderr.
    pub stderr: bool,
    /// Raw bytes (terminal) instead of 8-byte-header frames.
    pub raw: bool,
    /// Key sequence that detaches, already decoded to bytes; empty means none. Only watched for with a terminal.
    pub detach_keys: Vec<u8>,
    /// Bytes the client had sent before the hand-over.
    pub early_input: Vec<u8>,
}

/// Where container output is kept.
#[allow(clippy::large_enum_variant)] // one per container start
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LogPlan {
    /// Nowhere (`--log-driver none`).
    None,
    /// In files.
    File(FilePlan),
    /// With a log service.
    Shipped {
        /// Where and how.
        destination: Destination,
        /// Non-blocking: most bytes waiting. `None`: the container waits.
        limit: Option<u64>,
        /// A local copy for `logs`.
        cache: Option<FilePlan>,
    },
}

/// A log in files, in Docker's json-file format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlan {
    /// The current file; rotated ones get `.1`, `.2`, … (`.gz` when compressed).
    pub path: PathBuf,
    /// Rotate when the file grows past this many bytes.
    pub max_size: Option<u64>,
    /// Keep this many files in all, at least 1.
    pub max_file: u32,
    /// gzip rotated files.
    pub compress: bool,
    /// Constant `attrs` of every line (labels, env, tag), empty means none.
    pub attrs: Vec<(String, String)>,
}

/// One message that carries all a monitor needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Full container id.
    pub container_id: String,
    /// The container.
    pub plan: ContainerPlan,
    /// Allocate a terminal.
    pub tty: bool,
    /// Keep stdin open for attaching clients.
    pub open_stdin: bool,
    /// Close stdin when the first attached client leaves.
    pub stdin_once: bool,
    /// (rows, columns) of the terminal.
    pub console_size: (u16, u16),
    /// Container log.
    pub log: LogPlan,
    /// Directory below the exec root that the monitor owns: its socket and, at the end, the exit record.
    pub state_dir: PathBuf,
}

/// A started process.
#[derive(Debug)]
pub struct Started {
    /// Pid on the host.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Nanoseconds since the epoch, taken right after `execve`.
    pub started_at_ns: i64,
}

/// How a container's init ended. Also the exit record on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub exited_at_ns: i64,
}

/// What a monitor reports on its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MonitorEvent {
    /// Init is gone, all output is in the log and with attached clients.
    Exited(ExitStatus),
    /// An exec ended.
    ExecExited {
        /// Exec id.
        exec_id: String,
        /// Exit code, or 128 + signal.
        code: i32,
    },
    /// A client used its detach keys.
    Detached {
        /// `None`: from the container's own streams.
        exec_id: Option<String>,
    },
    /// The kernel killed a process of the container for memory.
    Oom,
    /// The monitor is gone without an exit record (it was killed).
    Lost,
}

/// Which terminal or stream a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The container's init.
    Init,
    /// An exec, by id.
    Exec(String),
}

/// Why talking to a spawner or monitor failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The process did not reach its `execve`; the container is cleaned up.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No monitor answers for this container.
    #[error("no monitor answers")]
    Gone,
    /// Anything else.
    #[error("{what}")]
    Io {
        /// Attempted step.
        what: &'static str,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// A new exec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Exec id (64 hex).
    pub exec_id: String,
    /// The process.
    pub plan: ExecPlan,
    /// Allocate a terminal.
    pub tty: bool,
    /// Keep a stdin pipe for the attached client (else /dev/null).
    pub open_stdin: bool,
    /// (rows, columns).
    pub console_size: (u16, u16),
}

/// What a monitor reports, in order. Ends when the last [`Monitor`] handle is dropped or the monitor is gone.
pub type Events = tokio::sync::mpsc::UnboundedReceiver<MonitorEvent>;

fn io_error(what: &'static str) -> impl FnOnce(std::io::Error) -> ClientError {
    move |source| ClientError::Io { what, source }
}
