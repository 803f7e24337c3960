//! Why a command failed, and how callers are told: on standard error and in the log file they name.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use serde_json::json;
use wharf_runtime::launch::LaunchError;

/// A failed command.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to say. Callers match on runc's words.
    pub message: String,
    /// What to end with.
    pub code: u8,
}

impl Failure {
    /// Something could not be done.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            code: 1,
        }
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(message)
    }

    /// There is no such container. containerd and CRI-O look for these words.
    pub fn no_container() -> Failure {
        Failure::new("container does not exist")
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Failure {
        Failure::new(error.message)
    }
}

impl From<wharf_runtime::cgroup::CgroupError> for Failure {
    fn from(error: wharf_runtime::cgroup::CgroupError) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<wharf_runtime::plan::PlanError> for Failure {
    fn from(error: wharf_runtime::plan::PlanError) -> Failure {
        Failure::new(error.to_string())
    }
}

/// Names what was being done, in front of the reason.
pub trait Context<T> {
    /// `what: reason`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|e| Failure::new(format!("{}: {e}", what())))
    }
}

/// Where complaints go besides standard error.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// `--log`.
    pub file: Option<PathBuf>,
    /// `--log-format json`.
    pub json: bool,
    /// `--debug`.
    pub debug: bool,
}

impl Log {
    /// Something went wrong and the command ends.
    pub fn error(&self, message: &str) {
        self.write("error", message);
        eprintln!("{message}");
    }

    /// Something went wrong that stops nothing.
    pub fn warn(&self, message: &str) {
        self.write("warning", message);
        if self.file.is_none() {
            eprintln!("warning: {message}");
        }
    }

    /// A log that cannot be written must not be what a container fails of.
    fn write(&self, level: &str, message: &str) {
        let Some(file) = &self.file else { return };
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let line = if self.json {
            json!({"level": level, "msg": message, "time": time.to_string()}).to_string()
        } else {
            format!("time=\"{time}\" level={level} msg={message:?}")
        };
        let open = OpenOptions::new().append(true).create(true).open(file);
        if let Ok(mut file) = open {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}
