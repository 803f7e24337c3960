//! The few shapes an answer has.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;
use wharf_api::gojson;

use super::body::{Body, Chunk};

/// Content type of nearly everything.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A status and nothing else.
#[must_use]
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// 204.
#[must_use]
pub fn no_content() -> Response<Body> {
    empty(StatusCode::NO_CONTENT)
}

/// A value as JSON.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    bytes(status, JSON, gojson::to_body(value).into())
}

/// A value as JSON, status 200.
pub fn ok<T: Serialize>(value: &T) -> Response<Body> {
    json(StatusCode::OK, value)
}

/// Bytes of a given type.
#[must_use]
pub fn bytes(status: StatusCode, content_type: HeaderValue, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Status 200 now, bytes as the channel brings them.
#[must_use]
pub fn stream(content_type: &'static str, chunks: mpsc::Receiver<Chunk>) -> Response<Body> {
    let mut response = Response::new(Body::Stream(chunks));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
