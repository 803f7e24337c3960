//! A refused request: its kind, which decides the status, and Docker's message.

use http::{Response, StatusCode};
use wharf_api::error::{ErrorResponse, Kind};

use super::body::Body;
use super::respond;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Decides the status.
    pub kind: Kind,
    /// Shown to the user.
    pub message: String,
}

impl ApiError {
    /// An error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError {
            kind,
            message: message.into(),
        }
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Invalid, message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Internal, message)
    }

    /// The answer that carries it.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let status =
            StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::NOT_MODIFIED {
            return respond::empty(status);
        }
        respond::json(
            status,
            &ErrorResponse {
                message: self.message,
            },
        )
    }
}

impl From<wharf_engine::Error> for ApiError {
    fn from(error: wharf_engine::Error) -> ApiError {
        ApiError::new(error.kind(), error.to_string())
    }
}

impl From<wharf_api::filters::FilterError> for ApiError {
    fn from(error: wharf_api::filters::FilterError) -> ApiError {
        ApiError::invalid(error.to_string())
    }
}
