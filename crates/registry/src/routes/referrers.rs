//! `/v2/<name>/referrers/<digest>`

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use wharf_spec::digest::Digest;

use super::json_response;
use crate::config::Action;
use crate::error::ApiError;
use crate::http::body::Body;
use crate::manifest::OCI_INDEX;
use crate::name::RepoName;
use crate::server::{Asked, Server};

pub(super) async fn list(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    subject: &Digest,
) -> Result<Response<Body>, ApiError> {
    server.require(asked, repo, &[Action::Pull])?;
    let upstream = server.upstreams.of(repo, asked.query("ns").as_deref());
    let mut descriptors: Vec<Value> = match (&server.source, upstream) {
        (Some(_), _) => Vec::new(),
        (None, Some(upstream)) => upstream.referrers(server, subject).await?,
        (None, None) => server.content.referrers(repo, subject).await?,
    };
    let filter = asked.query("artifactType").filter(|kind| !kind.is_empty());
    if let Some(kind) = &filter {
        descriptors.retain(|descriptor| descriptor["artifactType"] == kind.as_str());
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors});
    let mut response = json_response(StatusCode::OK, index.to_string());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if filter.is_some() {
        headers.insert(
            "oci-filters-applied",
            HeaderValue::from_static("artifactType"),
        );
    }
    Ok(response)
}
