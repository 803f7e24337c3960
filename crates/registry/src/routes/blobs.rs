//! `/v2/<name>/blobs/<digest>`

use std::io;

use futures_util::TryStreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use wharf_spec::digest::Digest;

use super::manifests::{DIGEST, is_known};
use super::{empty, value};
use crate::config::Action;
use crate::error::{ApiError, Code};
use crate::events::Event;
use crate::http::body::Body;
use crate::http::range::{Wanted, wanted};
use crate::metrics::Metrics;
use crate::name::RepoName;
use crate::server::{Asked, Server};
use crate::storage::{Blob, BlobSource};
use crate::upstream::cache::Found;

pub(super) async fn get(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<Response<Body>, ApiError> {
    server.require(asked, repo, &[Action::Pull])?;
    let etag = format!("\"{digest}\"");
    if is_known(asked, &etag) && exists(server, asked, repo, digest).await?.is_some() {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        response.headers_mut().insert(header::ETAG, value(&etag));
        return Ok(response);
    }
    if asked.is_head() {
        let size = exists(server, asked, repo, digest)
            .await?
            .ok_or_else(unknown)?;
        let mut response = empty(StatusCode::OK);
        describe(&mut response, digest);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, size.into());
        return Ok(response);
    }
    let response = content(server, asked, repo, digest).await?;
    server.tell(
        asked,
        &Event {
            action: "pull",
            repository: repo.clone(),
            digest: Some(digest.to_string()),
            media_type: "application/octet-stream".to_owned(),
            size: http_body::Body::size_hint(response.body()).lower(),
            tag: None,
            from: None,
        },
    );
    Ok(response)
}

fn unknown() -> ApiError {
    ApiError::new(Code::BlobUnknown, "blob unknown to registry")
}

/// The size of a blob; whoever asks may name it in a manifest next.
async fn exists(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<Option<u64>, ApiError> {
    if let Some(source) = &server.source {
        return source
            .blob_size(repo, digest)
            .await
            .map_err(|text| ApiError::new(Code::Unknown, text));
    }
    if let Some(upstream) = server.upstreams.of(repo, asked.query("ns").as_deref()) {
        return upstream.blob_size(server, digest).await;
    }
    if server.config.storage.read_only {
        return Ok(server
            .content
            .blob(repo, digest)
            .await
            .ok()
            .map(|blob| blob.size));
    }
    Ok(server.content.promise_blob(repo, digest).await?)
}

async fn content(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<Response<Body>, ApiError> {
    if let Some(source) = &server.source {
        let size = source
            .blob_size(repo, digest)
            .await
            .map_err(|text| ApiError::new(Code::Unknown, text))?;
        let (mut response, range) = head(asked, digest, size.ok_or_else(unknown)?)?;
        let layer = source
            .blob(repo, digest, range.start)
            .await
            .map_err(|text| ApiError::new(Code::Unknown, text))?;
        let layer = layer.ok_or_else(unknown)?;
        *response.body_mut() = Body::stream(
            range.end - range.start,
            cut(layer.bytes, range.end - range.start),
        );
        return Ok(response);
    }
    if let Some(upstream) = server.upstreams.of(repo, asked.query("ns").as_deref()) {
        return match upstream.blob(server, digest).await? {
            Found::Here(blob) => send(server, asked, digest, blob).await,
            Found::Coming(size, stream) => {
                let mut response = empty(StatusCode::OK);
                describe(&mut response, digest);
                *response.body_mut() = Body::stream(size, stream);
                Ok(response)
            }
        };
    }
    let blob = server.content.blob(repo, digest).await?;
    if let Some(url) = redirect(&blob, server, digest).await {
        let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
        response.headers_mut().insert(header::LOCATION, value(&url));
        response
            .headers_mut()
            .insert(DIGEST, value(digest.as_str()));
        return Ok(response);
    }
    send(server, asked, digest, blob).await
}

/// Stops after so many bytes.
fn cut(
    bytes: std::pin::Pin<Box<dyn futures_util::Stream<Item = io::Result<bytes::Bytes>> + Send>>,
    length: u64,
) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> + Send {
    futures_util::stream::try_unfold((bytes, length), |(mut bytes, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(mut chunk) = bytes.try_next().await? else {
            return Ok(None);
        };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - chunk.len() as u64;
        Ok(Some((chunk, (bytes, left))))
    })
}

async fn redirect(blob: &Blob, server: &Server, digest: &Digest) -> Option<String> {
    match blob.source {
        BlobSource::File(_) => None,
        BlobSource::Object(..) => server.content.storage().redirect(digest).await,
    }
}

fn describe(response: &mut Response<Body>, digest: &Digest) {
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=31536000"),
    );
    headers.insert(header::ETAG, value(&format!("\"{digest}\"")));
    headers.insert(DIGEST, value(digest.as_str()));
}

/// Status and headers, and which bytes are wanted.
fn head(
    asked: &Asked<'_>,
    digest: &Digest,
    size: u64,
) -> Result<(Response<Body>, std::ops::Range<u64>), ApiError> {
    let etag = format!("\"{digest}\"");
    // A part of something else is of no use: then everything.
    let same = asked
        .header(header::IF_RANGE)
        .is_none_or(|known| known.trim() == etag);
    let range = asked.header(header::RANGE).filter(|_| same);
    let mut response = empty(StatusCode::OK);
    describe(&mut response, digest);
    match wanted(range, size) {
        Wanted::All => Ok((response, 0..size)),
        Wanted::Part(part) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, value(&text));
            Ok((response, part))
        }
        Wanted::Nothing => Err(ApiError::new(
            Code::RangeInvalid,
            "the range lies outside of the blob",
        )
        .with_header(header::CONTENT_RANGE, value(&format!("bytes */{size}")))),
    }
}

async fn send(
    server: &Server,
    asked: &Asked<'_>,
    digest: &Digest,
    blob: Blob,
) -> Result<Response<Body>, ApiError> {
    let (mut response, range) = head(asked, digest, blob.size)?;
    Metrics::count(&server.metrics.bytes, "sent", range.end - range.start);
    *response.body_mut() = match blob.source {
        BlobSource::File(file) => Body::file(file, range, asked.peer.queue.clone()),
        BlobSource::Object(cloud, key) => {
            let length = range.end - range.start;
            Body::stream(length, cloud.stream(key, range).map_err(io::Error::other))
        }
    };
    Ok(response)
}

pub(super) async fn delete(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    digest: &Digest,
) -> Result<Response<Body>, ApiError> {
    server.require(asked, repo, &[Action::Delete])?;
    server.require_writable()?;
    if !server.config.storage.delete {
        return Err(ApiError::new(
            Code::Unsupported,
            "deleting is disabled (storage.delete)",
        ));
    }
    if server.content.links_blob(repo, digest).await? {
        server.content.unlink_blob(repo, digest).await?;
    } else {
        return Err(unknown());
    }
    server.tell(
        asked,
        &Event {
            action: "delete",
            repository: repo.clone(),
            digest: Some(digest.to_string()),
            media_type: "application/octet-stream".to_owned(),
            size: 0,
            tag: None,
            from: None,
        },
    );
    Ok(empty(StatusCode::ACCEPTED))
}
