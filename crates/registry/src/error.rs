//! Errors as the distribution specification writes them: a code, a sentence, a status.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::http::body::Body;
use crate::storage::StorageError;

/// The codes of distribution-spec, "Error Codes", and the three that Docker's registry adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The blob is not in this repository.
    BlobUnknown,
    /// The upload cannot go on as asked.
    BlobUploadInvalid,
    /// No such upload.
    BlobUploadUnknown,
    /// Bytes and digest differ, or it is none.
    DigestInvalid,
    /// A manifest names what is not here.
    ManifestBlobUnknown,
    /// It makes no sense.
    ManifestInvalid,
    /// Not here.
    ManifestUnknown,
    /// It is no name.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// Wrong or too large.
    SizeInvalid,
    /// It is no tag.
    TagInvalid,
    /// Who are you?
    Unauthorized,
    /// You may not.
    Denied,
    /// The operation does not exist here.
    Unsupported,
    /// Not so fast.
    TooManyRequests,
    /// The range lies outside.
    RangeInvalid,
    /// `n` is no number.
    PaginationNumberInvalid,
    /// The store, or another registry, does not answer.
    Unavailable,
    /// Everything else.
    Unknown,
}

impl Code {
    /// As written in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::TagInvalid => "TAG_INVALID",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Denied => "DENIED",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::RangeInvalid => "RANGE_INVALID",
            Code::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Code::Unavailable => "UNAVAILABLE",
            Code::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BlobUnknown
            | Code::BlobUploadUnknown
            | Code::ManifestUnknown
            | Code::NameUnknown => StatusCode::NOT_FOUND,
            Code::BlobUploadInvalid | Code::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::DigestInvalid
            | Code::ManifestBlobUnknown
            | Code::ManifestInvalid
            | Code::NameInvalid
            | Code::TagInvalid
            | Code::PaginationNumberInvalid => StatusCode::BAD_REQUEST,
            Code::SizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Denied => StatusCode::FORBIDDEN,
            Code::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An answer that says no.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// Code.
    pub code: Code,
    /// Status; usually the code's.
    pub status: StatusCode,
    /// For people.
    pub message: String,
    /// For programs. Boxed, because nearly every function here can answer with one of these.
    pub detail: Option<Box<Value>>,
    /// Headers that go with it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// With the code's own status.
    pub fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            status: code.status(),
            message: message.into(),
            detail: None,
            headers: Vec::new(),
        }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> ApiError {
        self.status = status;
        self
    }

    /// With something for programs.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> ApiError {
        self.detail = Some(Box::new(detail));
        self
    }

    /// With a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> ApiError {
        self.headers.push((name, value));
        self
    }

    /// The answer.
    pub fn into_response(self) -> Response<Body> {
        let mut error = json!({"code": self.code.as_str(), "message": self.message});
        if let Some(detail) = self.detail {
            error["detail"] = *detail;
        }
        let text = json!({"errors": [error]}).to_string();
        let mut response = Response::new(Body::full(Bytes::from(text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> ApiError {
        match error {
            StorageError::NoSpace => ApiError::new(
                Code::Unknown,
                "there is no space left in the registry's store",
            )
            .with_status(StatusCode::INSUFFICIENT_STORAGE),
            StorageError::ReadOnly => ApiError::new(Code::Unsupported, "the registry is read-only"),
            error if error.is_passing() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the store did not answer"
                );
                ApiError::new(
                    Code::Unavailable,
                    "the registry's store does not answer; try again",
                )
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
                ApiError::new(
                    Code::Unknown,
                    "the registry's store failed; its log says more",
                )
            }
        }
    }
}
