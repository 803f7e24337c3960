//! For those who watch: health, readiness, metrics.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::json_response;
use crate::error::{ApiError, Code};
use crate::http::body::Body;
use crate::server::Server;

/// The process answers.
pub(super) fn alive() -> Response<Body> {
    json_response(StatusCode::OK, json!({"status": "ok"}).to_string())
}

/// The store answers too.
pub(super) async fn ready(server: &Server) -> Result<Response<Body>, ApiError> {
    if server.source.is_none() {
        let look = server.content.storage().stat("oci-layout");
        match tokio::time::timeout(std::time::Duration::from_secs(5), look).await {
            Ok(looked) => {
                looked?;
            }
            Err(_) => {
                return Err(ApiError::new(
                    Code::Unavailable,
                    "the registry's store does not answer",
                ));
            }
        }
    }
    Ok(json_response(
        StatusCode::OK,
        json!({"status": "ok", "store": "ok", "readOnly": server.config.storage.read_only || server.source.is_some()}).to_string(),
    ))
}

pub(super) fn metrics(server: &Server) -> Result<Response<Body>, ApiError> {
    if !server.config.metrics.enabled {
        return Err(super::not_found());
    }
    let mut response = Response::new(Body::full(server.metrics.text()));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
