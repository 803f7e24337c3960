//! Error kinds, their HTTP statuses, and the body of an error answer.

use serde::{Deserialize, Serialize};

/// What sort of failure it is: decides the HTTP status and what a caller may do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The object's state, or another object, is in the way.
    Conflict,
    /// The request makes no sense.
    Invalid,
    /// Nothing to do: it is so already.
    NotModified,
    /// Never allowed.
    Forbidden,
    /// Not allowed without other credentials.
    Unauthorized,
    /// Not now, or not in this setup (swarm).
    Unavailable,
    /// This engine does not do it.
    NotImplemented,
    /// Our fault, or the host's.
    Internal,
}

impl Kind {
    /// The HTTP status (moby `daemon/server/httpstatus`).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Kind::NotModified => 304,
            Kind::Invalid => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::Internal => 500,
            Kind::NotImplemented => 501,
            Kind::Unavailable => 503,
        }
    }

    /// The kind a client may conclude from a status.
    #[must_use]
    pub fn from_status(status: u16) -> Kind {
        match status {
            304 => Kind::NotModified,
            401 => Kind::Unauthorized,
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            501 => Kind::NotImplemented,
            503 => Kind::Unavailable,
            400..=499 => Kind::Invalid,
            _ => Kind::Internal,
        }
    }
}

/// The body of every error answer: `{"message":"…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// Docker's wording.
    pub message: String,
}
