//! `/v2/<name>/manifests/<reference>`

use bytes::BytesMut;
use futures_util::StreamExt;
use http::{HeaderName, Response, StatusCode, header};
use serde_json::json;
use wharf_spec::digest::Digest;

use super::{empty, value};
use crate::config::Action;
use crate::content::manifests::Stored;
use crate::error::{ApiError, Code};
use crate::events::Event;
use crate::http::body::{Body, incoming};
use crate::name::{RepoName, Tag, Target};
use crate::server::{Asked, Server, left_headers};

/// A body that is refused is read to its end if it is no longer than this.
const DRAINED: u64 = 64 << 20;

pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

pub(super) async fn get(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    target: &Target,
) -> Result<Response<Body>, ApiError> {
    server.require(asked, repo, &[Action::Pull])?;
    let left = if asked.is_head() {
        None
    } else {
        server.limit_pull(asked)?
    };
    let stored = find(server, asked, repo, target).await?;
    let etag = format!("\"{}\"", stored.digest);
    let mut response = if is_known(asked, &etag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = Response::new(Body::full(stored.bytes.clone()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, value(&stored.media_type));
        response
    };
    let headers = response.headers_mut();
    headers.insert(DIGEST, value(stored.digest.as_str()));
    headers.insert(header::ETAG, value(&etag));
    // HEAD answers have the length of what GET would give.
    if asked.is_head()
        && !headers.contains_key(header::CONTENT_LENGTH)
        && headers.contains_key(header::CONTENT_TYPE)
    {
        headers.insert(header::CONTENT_LENGTH, stored.bytes.len().into());
    }
    for (name, value) in left.iter().flat_map(left_headers) {
        headers.insert(name, value);
    }
    if !asked.is_head() {
        crate::metrics::Metrics::count(&server.metrics.bytes, "sent", stored.bytes.len() as u64);
        server.tell(asked, &event("pull", repo, &stored, target));
    }
    Ok(response)
}

async fn find(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    target: &Target,
) -> Result<Stored, ApiError> {
    if let Some(source) = &server.source {
        let found = source
            .manifest(repo, target)
            .await
            .map_err(|text| ApiError::new(Code::Unknown, text))?;
        return found.ok_or_else(|| unknown(target));
    }
    if let Some(upstream) = server.upstreams.of(repo, asked.query("ns").as_deref()) {
        return upstream.manifest(server, target).await;
    }
    match server.content.manifest(repo, target).await {
        Err(crate::content::ContentError::ManifestUnknown) => Err(unknown(target)),
        other => Ok(other?),
    }
}

fn unknown(target: &Target) -> ApiError {
    let detail = match target {
        Target::Tag(tag) => json!({"Tag": tag.as_str()}),
        Target::Digest(digest) => json!({"Digest": digest}),
    };
    ApiError::new(Code::ManifestUnknown, "manifest unknown").with_detail(detail)
}

/// Whether the client has this content already (`If-None-Match`).
pub(super) fn is_known(asked: &Asked<'_>, etag: &str) -> bool {
    let Some(list) = asked.header(header::IF_NONE_MATCH) else {
        return false;
    };
    let bare = etag.trim_matches('"');
    list.split(',')
        .map(|known| known.trim().trim_start_matches("W/").trim_matches('"'))
        .any(|known| known == bare || known == "*")
}

fn event(action: &'static str, repo: &RepoName, stored: &Stored, target: &Target) -> Event {
    Event {
        action,
        repository: repo.clone(),
        digest: Some(stored.digest.to_string()),
        media_type: stored.media_type.clone(),
        size: stored.bytes.len() as u64,
        tag: match target {
            Target::Tag(tag) => Some(tag.to_string()),
            Target::Digest(_) => None,
        },
        from: None,
    }
}

pub(super) async fn put(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    target: &Target,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    server.require(asked, repo, &[Action::Pull, Action::Push])?;
    server.require_writable()?;
    server.upstreams.refuse_push(repo)?;
    let bytes = read(server, body).await?;
    let (digest, tags) = match target {
        // Another algorithm than sha256 can be asked for.
        Target::Tag(tag) => {
            let digest = match asked.query("digest") {
                Some(text) => super::digest(&text)?,
                None => Digest::of(&bytes),
            };
            (digest, vec![tag.clone()])
        }
        Target::Digest(digest) => (digest.clone(), tags(asked)?),
    };
    let content_type = asked
        .header(header::CONTENT_TYPE)
        .unwrap_or_default()
        .to_owned();
    let pushed = server
        .content
        .put_manifest(repo, digest, &content_type, bytes.clone(), &tags)
        .await?;
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(
        header::LOCATION,
        value(&format!("/v2/{repo}/manifests/{}", pushed.digest)),
    );
    headers.insert(DIGEST, value(pushed.digest.as_str()));
    if let Some(subject) = &pushed.subject {
        headers.insert("oci-subject", value(subject.as_str()));
    }
    for tag in tags.iter().filter(|_| matches!(target, Target::Digest(_))) {
        headers.append("oci-tag", value(tag.as_str()));
    }
    crate::metrics::Metrics::count(&server.metrics.bytes, "received", bytes.len() as u64);
    let stored = Stored {
        digest: pushed.digest,
        media_type: pushed.manifest.media_type,
        bytes,
    };
    let mut told = event("push", repo, &stored, target);
    for tag in &tags {
        told.tag = Some(tag.to_string());
        server.tell(asked, &told);
    }
    if tags.is_empty() {
        server.tell(asked, &told);
    }
    Ok(response)
}

/// `?tag=…`, any number.
fn tags(asked: &Asked<'_>) -> Result<Vec<Tag>, ApiError> {
    asked
        .queries("tag")
        .map(|text| {
            Tag::parse(&text).ok_or_else(|| {
                ApiError::new(Code::TagInvalid, "invalid tag").with_detail(json!({"tag": text}))
            })
        })
        .collect()
}

async fn read(server: &Server, body: hyper::body::Incoming) -> Result<bytes::Bytes, ApiError> {
    let limit = server.config.http.max_manifest_size;
    let too_large = || {
        ApiError::new(
            Code::ManifestInvalid,
            format!("the manifest is larger than {limit} bytes"),
        )
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let declared = http_body::Body::size_hint(&body).lower();
    let mut body = incoming(body, server.config.http.body_timeout);
    if declared > limit {
        if declared < DRAINED {
            // Many clients read no answer before they have sent everything.
            while body.next().await.is_some_and(|frame| frame.is_ok()) {}
        }
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.next().await {
        let frame = frame.map_err(|_| {
            ApiError::new(Code::ManifestInvalid, "the manifest was cut off")
                .with_status(StatusCode::BAD_REQUEST)
        })?;
        if (bytes.len() + frame.len()) as u64 > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes.freeze())
}

pub(super) async fn delete(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    target: &Target,
) -> Result<Response<Body>, ApiError> {
    server.require(asked, repo, &[Action::Delete])?;
    server.require_writable()?;
    if !server.config.storage.delete {
        return Err(ApiError::new(
            Code::Unsupported,
            "deleting is disabled (storage.delete)",
        ));
    }
    server.content.require_repository(repo).await?;
    match target {
        Target::Tag(tag) => server.content.remove_tag(repo, tag).await?,
        Target::Digest(digest) => server.content.remove_manifest(repo, digest).await?,
    }
    let (digest, tag) = match target {
        Target::Tag(tag) => (None, Some(tag.to_string())),
        Target::Digest(digest) => (Some(digest.to_string()), None),
    };
    let told = Event {
        action: "delete",
        repository: repo.clone(),
        digest,
        media_type: String::new(),
        size: 0,
        tag,
        from: None,
    };
    server.tell(asked, &told);
    Ok(empty(StatusCode::ACCEPTED))
}
