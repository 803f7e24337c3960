//! `/v2/<name>/blobs/uploads/…`

use http::{Response, StatusCode, header};
use http_body::Body as _;
use wharf_spec::digest::Digest;

use super::manifests::DIGEST;
use super::{empty, value};
use crate::config::Action;
use crate::content::uploads::nothing;
use crate::error::{ApiError, Code};
use crate::events::Event;
use crate::http::body::{Body, incoming};
use crate::http::range::chunk;
use crate::metrics::Metrics;
use crate::name::RepoName;
use crate::server::{Asked, Server};
use crate::storage::Storage;

/// May this one push here at all?
fn check(server: &Server, asked: &Asked<'_>, repo: &RepoName) -> Result<(), ApiError> {
    server.require(asked, repo, &[Action::Pull, Action::Push])?;
    server.require_writable()?;
    server.upstreams.refuse_push(repo)
}

pub(super) async fn begin(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    check(server, asked, repo)?;
    if let Some(mount) = asked.query("mount") {
        let digest = super::digest(&mount)?;
        if let Some(response) = try_mount(server, asked, repo, &digest).await? {
            return Ok(response);
        }
    }
    if let Some(algorithm) = asked.query("digest-algorithm")
        && !matches!(algorithm.as_str(), "sha256" | "sha512")
    {
        return Err(ApiError::new(
            Code::DigestInvalid,
            "unsupported digest algorithm",
        ));
    }
    let digest = asked
        .query("digest")
        .map(|text| super::digest(&text))
        .transpose()?;
    let Some(digest) = digest else {
        let id = server.content.begin_upload(repo).await?;
        return Ok(progress(StatusCode::ACCEPTED, repo, &id, 0));
    };
    room(server, repo, &body).await?;
    let id = server.content.begin_upload(repo).await?;
    let finished = finish_with(server, asked, repo, &id, None, &digest, body).await;
    if finished.is_err() {
        // In one piece or not at all: nobody knows this upload's address.
        server.content.remove_upload(&id).await?;
    }
    finished
}

async fn try_mount(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<Option<Response<Body>>, ApiError> {
    let from = match asked.query("from") {
        // A name that is none has no blobs.
        Some(text) => match RepoName::parse(&text) {
            Some(from) => Some(from),
            None => return Ok(None),
        },
        None => None,
    };
    let may_read = |repo: &RepoName| server.auth.allows(&asked.who, repo, Action::Pull);
    if !server
        .content
        .mount(repo, digest, from.as_ref(), may_read)
        .await?
    {
        return Ok(None);
    }
    server.tell(
        asked,
        &event("mount", repo, digest, 0, from.map(|from| from.to_string())),
    );
    Ok(Some(created(repo, digest)))
}

fn event(
    action: &'static str,
    repo: &RepoName,
    digest: &Digest,
    size: u64,
    from: Option<String>,
) -> Event {
    Event {
        action,
        repository: repo.clone(),
        digest: Some(digest.to_string()),
        media_type: "application/octet-stream".to_owned(),
        size,
        tag: None,
        from,
    }
}

/// Says no before gigabytes come for which there is no room.
async fn room(
    server: &Server,
    repo: &RepoName,
    body: &hyper::body::Incoming,
) -> Result<(), ApiError> {
    let declared = body.size_hint().lower();
    let max = server.config.http.max_blob_size;
    if max > 0 && declared > max {
        return Err(ApiError::new(
            Code::SizeInvalid,
            format!("the blob is larger than {max} bytes"),
        ));
    }
    if let Storage::Local(local) = server.content.storage()
        && declared > (64 << 20)
        && declared > local.free_space()
    {
        return Err(crate::storage::StorageError::NoSpace.into());
    }
    if declared > 0 {
        // The blob may be here already, and then takes no room; that shows at the end.
        match server.content.check_quota(repo, 0).await {
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(()),
        }
    }
    Ok(())
}

fn progress(status: StatusCode, repo: &RepoName, id: &str, offset: u64) -> Response<Body> {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(
        header::LOCATION,
        value(&format!("/v2/{repo}/blobs/uploads/{id}")),
    );
    headers.insert(
        header::RANGE,
        value(&format!("0-{}", offset.saturating_sub(1))),
    );
    headers.insert("docker-upload-uuid", value(id));
    response
}

fn created(repo: &RepoName, digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(
        header::LOCATION,
        value(&format!("/v2/{repo}/blobs/{digest}")),
    );
    headers.insert(DIGEST, value(digest.as_str()));
    response
}

pub(super) async fn status(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    check(server, asked, repo)?;
    let offset = server.content.upload_offset(repo, id).await?;
    Ok(progress(StatusCode::NO_CONTENT, repo, id, offset))
}

/// Where a chunk begins, if the client says so. What it says must fit what it sends.
fn start(asked: &Asked<'_>, body: &hyper::body::Incoming) -> Result<Option<u64>, ApiError> {
    let Some(range) = asked.header(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let bad = || {
        ApiError::new(
            Code::BlobUploadInvalid,
            "the Content-Range header does not fit the chunk",
        )
    };
    let (first, last) = chunk(range).ok_or_else(|| bad().with_status(StatusCode::BAD_REQUEST))?;
    match body.size_hint().exact() {
        Some(length) if length != last - first + 1 => Err(bad()),
        _ => Ok(Some(first)),
    }
}

/// Tells a client that is out of step where the upload is.
fn in_step(error: crate::content::ContentError, repo: &RepoName, id: &str) -> ApiError {
    if let crate::content::ContentError::OutOfOrder { offset, .. } = error {
        return ApiError::from(error)
            .with_header(
                header::LOCATION,
                value(&format!("/v2/{repo}/blobs/uploads/{id}")),
            )
            .with_header(
                header::RANGE,
                value(&format!("0-{}", offset.saturating_sub(1))),
            );
    }
    error.into()
}

pub(super) async fn append(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    id: &str,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    check(server, asked, repo)?;
    let start = start(asked, &body)?;
    room(server, repo, &body).await?;
    let body = incoming(body, server.config.http.body_timeout);
    let offset = server
        .content
        .append_upload(repo, id, start, body)
        .await
        .map_err(|error| in_step(error, repo, id))?;
    Ok(progress(StatusCode::ACCEPTED, repo, id, offset))
}

pub(super) async fn finish(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    id: &str,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    check(server, asked, repo)?;
    let text = asked
        .query("digest")
        .ok_or_else(|| ApiError::new(Code::DigestInvalid, "the digest parameter is missing"))?;
    let digest = super::digest(&text)?;
    let start = if body.is_end_stream() {
        None
    } else {
        start(asked, &body)?
    };
    room(server, repo, &body).await?;
    finish_with(server, asked, repo, id, start, &digest, body).await
}

async fn finish_with(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    id: &str,
    start: Option<u64>,
    digest: &Digest,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    let body = if body.is_end_stream() {
        nothing()
    } else {
        incoming(body, server.config.http.body_timeout)
    };
    let size = server
        .content
        .finish_upload(repo, id, start, digest, body)
        .await
        .map_err(|error| in_step(error, repo, id))?;
    Metrics::count(&server.metrics.bytes, "received", size);
    server.tell(asked, &event("push", repo, digest, size, None));
    Ok(created(repo, digest))
}

pub(super) async fn cancel(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    check(server, asked, repo)?;
    server.content.upload_offset(repo, id).await?;
    server.content.remove_upload(id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
