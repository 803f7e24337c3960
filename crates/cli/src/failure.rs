//! How a command ends when it does not end well: an exit code and what is printed on standard error.

use crate::client::ClientError;

/// The end of a command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// Printed on standard error; empty means nothing is.
    pub message: String,
}

impl Failure {
    /// Ordinary failure: exit code 1 and a message.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            code: 1,
            message: message.into(),
        }
    }

    /// Ends with this code and says nothing, as after a container that ended with it.
    pub fn exit(code: u8) -> Failure {
        Failure {
            code,
            message: String::new(),
        }
    }

    /// A message and the code it ends with.
    pub fn with_code(code: u8, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

/// What the operating system says about an error, in the lower case that Go's messages have.
pub fn errno_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().collect::<String>() + chars.as_str(),
        None => String::new(),
    }
}
