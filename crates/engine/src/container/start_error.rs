//! Why a start failed, as Docker tells it: message, status and exit code (moby `daemon/errors.go`, `setExitCodeFromError`).

use wharf_api::error::Kind;
use wharf_runtime::client::ClientError;
use wharf_runtime::launch::LaunchErrorKind;

use crate::Error;
use crate::error::chain;

/// A failed start.
#[derive(Debug)]
pub struct StartError {
    /// What the client is told.
    pub error: Error,
    /// What `State.ExitCode` becomes.
    pub exit_code: i32,
}

const PERMISSION: i32 = 126;
const NOT_FOUND: i32 = 127;
const UNKNOWN: i32 = 128;

/// What Docker's stack of processes puts before runc's message (runc 1.2, `process_linux.go`, names the init).
const PREFIX: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: ";

/// What it puts after it.
const SUFFIX: &str = ": unknown";

impl StartError {
    /// From a launch that did not reach its `execve`.
    pub fn of_client(error: ClientError) -> StartError {
        match error {
            // Docker resolves users itself, before any runtime: its text stands alone.
            ClientError::Launch(error) if error.kind == LaunchErrorKind::User => {
                StartError::of(Error::internal(error.message))
            }
            // Logs begin before any runtime is asked.
            ClientError::Launch(error) if error.kind == LaunchErrorKind::Log => StartError::of(
                Error::internal(format!("failed to create task for container: {error}")),
            ),
            ClientError::Launch(error) => StartError::of_launch(&error.to_string()),
            other => StartError::of(Error::caused("failed to create task for container", other)),
        }
    }

    /// From a step before the launch.
    pub fn of(error: Error) -> StartError {
        StartError {
            error,
            exit_code: UNKNOWN,
        }
    }

    fn of_launch(message: &str) -> StartError {
        let mut text = format!("{PREFIX}{message}{SUFFIX}");
        let lower = message.to_ascii_lowercase();
        let (kind, exit_code) = if lower.contains("permission denied") {
            (Kind::Invalid, PERMISSION)
        } else if lower.contains("is a directory") {
            // Clients look for these words to exit with 126.
            text.push_str(": permission denied");
            (Kind::Invalid, PERMISSION)
        } else if lower.contains("not a directory") {
            text.push_str(": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type");
            (Kind::Invalid, NOT_FOUND)
        } else if is_invalid_command(&lower) {
            (Kind::Invalid, NOT_FOUND)
        } else {
            (Kind::Internal, UNKNOWN)
        };
        StartError {
            error: Error::new(kind, text),
            exit_code,
        }
    }
}

fn is_invalid_command(lower: &str) -> bool {
    lower.contains("executable file not found") || lower.contains("no such file or directory")
}

/// The message of a failed exec, with Docker's prefix and the exit code it leaves.
pub fn of_exec(error: ClientError) -> StartError {
    match error {
        ClientError::Launch(error) if error.kind == LaunchErrorKind::User => {
            StartError::of(Error::internal(error.message))
        }
        ClientError::Launch(error) => {
            let start = StartError::of_launch(&error.to_string());
            let text = format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {error}{SUFFIX}"
            );
            StartError {
                error: Error::new(start.error.kind(), text),
                ..start
            }
        }
        other => StartError::of(Error::internal(chain(&other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, kind: Kind, exit_code: i32, ending: &str) {
        let start = StartError::of_launch(message);
        assert_eq!(
            (start.error.kind(), start.exit_code),
            (kind, exit_code),
            "{message}"
        );
        assert!(start.error.to_string().ends_with(ending), "{}", start.error);
    }

    #[test]
    fn exit_codes_follow_dockers_reading_of_the_message() {
        check(
            "exec: \"nope\": executable file not found in $PATH",
            Kind::Invalid,
            127,
            "unable to start container process: error during container init: exec: \"nope\": executable file not found in $PATH: unknown",
        );
        check(
            "exec: \"/etc/passwd\": permission denied",
            Kind::Invalid,
            126,
            "permission denied: unknown",
        );
        check(
            "exec: \"/tmp\": is a directory",
            Kind::Invalid,
            126,
            "is a directory: unknown: permission denied",
        );
        check(
            "exec: \"/x\": stat /x: no such file or directory",
            Kind::Invalid,
            127,
            "directory: unknown",
        );
        check(
            "something else",
            Kind::Internal,
            128,
            "something else: unknown",
        );
    }
}
