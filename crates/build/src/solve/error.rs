//! Why a build ends early.

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request or the Dockerfile.
    Invalid,
    /// Something named is not there.
    NotFound,
    /// The engine.
    Internal,
    /// Not offered.
    NotImplemented,
}

/// Why a build ended, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// What to tell.
    pub message: String,
    /// Exit code of a `RUN`, 0 if it is not about one.
    pub code: i64,
    /// Whose fault it is.
    pub fault: Fault,
    /// Another stage's failure ended this one.
    pub(crate) follows: bool,
}

impl BuildError {
    /// The engine's fault.
    pub fn internal(message: impl Into<String>) -> BuildError {
        BuildError::new(Fault::Internal, message)
    }

    /// The Dockerfile's or the request's fault.
    pub fn invalid(message: impl Into<String>) -> BuildError {
        BuildError::new(Fault::Invalid, message)
    }

    /// Any fault.
    pub fn new(fault: Fault, message: impl Into<String>) -> BuildError {
        BuildError {
            message: message.into(),
            code: 0,
            fault,
            follows: false,
        }
    }

    /// A command that failed.
    pub fn exit(command: &str, code: i64) -> BuildError {
        BuildError {
            code,
            ..BuildError::internal(format!(
                "The command '{command}' returned a non-zero code: {code}"
            ))
        }
    }

    pub(crate) fn follow() -> BuildError {
        BuildError {
            follows: true,
            ..BuildError::internal("Build cancelled")
        }
    }

    /// With a text before.
    pub fn context(mut self, text: &str) -> BuildError {
        self.message = format!("{text}: {}", self.message);
        self
    }
}
