//! The engine's one error: a kind, which decides the HTTP status, and Docker's wording.
//!
//! Messages that clients and scripts match on are all made here (moby 28 `daemon/errors.go` and its neighbours).

use std::fmt;

use wharf_api::error::Kind;

/// Why a request failed.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The engine's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Error {
        Error::new(Kind::Conflict, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Kind::NotFound, message)
    }

    /// 304.
    pub fn not_modified(message: impl Into<String>) -> Error {
        Error::new(Kind::NotModified, message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(Kind::Internal, message)
    }

    /// 501.
    pub fn not_implemented(message: impl Into<String>) -> Error {
        Error::new(Kind::NotImplemented, message)
    }

    /// 500 with a cause, whose chain becomes part of the message as Go's wrapped errors do.
    pub fn caused(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        let message = format!("{what}: {}", chain(&cause));
        Error {
            kind: Kind::Internal,
            message,
            source: Some(Box::new(cause)),
        }
    }

    /// The same kind, with words before the message.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Error {
        Error {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }

    /// What it comes from, if that was a failure of networks.
    pub(crate) fn network(&self) -> Option<&wharf_network::NetworkError> {
        self.source.as_ref()?.downcast_ref()
    }

    /// The same with more at its end.
    #[must_use]
    pub(crate) fn followed_by(self, what: impl fmt::Display) -> Error {
        Error {
            message: format!("{}{what}", self.message),
            ..self
        }
    }

    /// The same message, another kind.
    #[must_use]
    pub fn with_kind(self, kind: Kind) -> Error {
        Error { kind, ..self }
    }

    /// No container of that name or id.
    pub fn no_such_container(name: &str) -> Error {
        Error::not_found(format!("No such container: {name}"))
    }

    /// No exec of that id.
    pub fn no_such_exec(id: &str) -> Error {
        Error::not_found(format!("No such exec instance: {id}"))
    }

    /// The name belongs to another container.
    pub fn name_taken(name: &str, id: &str) -> Error {
        Error::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        ))
    }

    /// The operation needs a running container.
    pub fn not_running(id: &str) -> Error {
        Error::conflict(format!("container {id} is not running"))
    }

    /// The operation has to wait for the next run.
    pub fn restarting(id: &str) -> Error {
        Error::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        ))
    }

    /// An exec in a frozen container.
    pub fn exec_paused(name: &str) -> Error {
        Error::conflict(format!(
            "Container {name} is paused, unpause the container before exec"
        ))
    }

    /// Two deletes at once.
    pub fn removal_in_progress(name: &str) -> Error {
        Error::conflict(format!(
            "removal of container {name} is already in progress"
        ))
    }
}

/// An error and its causes, joined by colons.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // `#[error(transparent)]` repeats its source.
        if next != text && !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message already tells the causes; showing them again would repeat them.
        self.source.as_ref().and_then(|source| source.source())
    }
}

impl From<crate::state::DatabaseError> for Error {
    fn from(error: crate::state::DatabaseError) -> Error {
        Error::caused("state", error)
    }
}

impl From<wharf_network::NetworkError> for Error {
    fn from(error: wharf_network::NetworkError) -> Error {
        use wharf_network::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::Invalid => Kind::Invalid,
            ErrorKind::Forbidden => Kind::Forbidden,
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Conflict => Kind::Conflict,
            ErrorKind::Internal => Kind::Internal,
            ErrorKind::NotImplemented => Kind::NotImplemented,
        };
        Error {
            kind,
            message: chain(&error),
            source: Some(Box::new(error)),
        }
    }
}

impl From<wharf_store::StoreError> for Error {
    fn from(error: wharf_store::StoreError) -> Error {
        use wharf_store::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Invalid => Kind::Invalid,
            ErrorKind::Conflict => Kind::Conflict,
            ErrorKind::Internal => Kind::Internal,
        };
        Error {
            kind,
            message: chain(&error),
            source: Some(Box::new(error)),
        }
    }
}

impl From<wharf_api::filters::FilterError> for Error {
    fn from(error: wharf_api::filters::FilterError) -> Error {
        Error::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_is_dockers() {
        let rows = [
            (
                Error::no_such_container("x"),
                Kind::NotFound,
                "No such container: x",
            ),
            (
                Error::name_taken("x", "1234"),
                Kind::Conflict,
                "Conflict. The container name \"/x\" is already in use by container \"1234\". You have to remove (or rename) that container to be able to reuse that name.",
            ),
            (
                Error::not_running("x"),
                Kind::Conflict,
                "container x is not running",
            ),
            (
                Error::not_running("x").context("cannot kill container: y"),
                Kind::Conflict,
                "cannot kill container: y: container x is not running",
            ),
        ];
        for (error, kind, message) in rows {
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        }
    }

    #[test]
    fn causes_are_told_once() {
        let cause = std::io::Error::other("disk on fire");
        assert_eq!(
            Error::caused("write file", cause).to_string(),
            "write file: disk on fire"
        );
    }
}
