//! Paths and methods to handlers. Repositories' names have slashes, so paths are read from their end.

mod blobs;
mod catalog;
mod manifests;
mod referrers;
mod status;
mod token;
mod uploads;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::json;
use wharf_spec::digest::Digest;

use crate::content::ContentError;
use crate::error::{ApiError, Code};
use crate::http::body::Body;
use crate::http::serve::Face;
use crate::name::{RepoName, Tag, Target};
use crate::server::{Asked, Server};
use crate::web;

/// What a path is about. Texts are checked where they are used, so that errors can have their code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepoName),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepoName, String),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepoName, String),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepoName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepoName, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepoName, String),
    /// `/auth/token`
    Token,
    /// `/auth/jwks`
    Keys,
    /// `/health`, `/healthz`, `/livez`
    Health,
    /// `/readyz`
    Ready,
    /// `/metrics`
    Metrics,
    /// Pages for people.
    Page(web::Page),
}

impl Route {
    /// As a label.
    pub fn name(&self) -> &'static str {
        match self {
            Route::Base => "base",
            Route::Catalog => "catalog",
            Route::Tags(_) => "tags",
            Route::Manifest(..) => "manifest",
            Route::Blob(..) => "blob",
            Route::Uploads(_) | Route::Upload(..) => "upload",
            Route::Referrers(..) => "referrers",
            Route::Token | Route::Keys => "token",
            Route::Health | Route::Ready | Route::Metrics => "status",
            Route::Page(_) => "page",
        }
    }

    /// Whether nobody is asked who they are.
    pub fn is_public(&self) -> bool {
        matches!(
            self,
            Route::Token | Route::Keys | Route::Health | Route::Ready | Route::Metrics
        )
    }
}

/// Understands a path.
///
/// # Errors
/// 404 for one that is none of ours, or the specification's code for a name that is none.
pub fn parse(path: &str, face: Face) -> Result<Route, ApiError> {
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| ApiError::new(Code::NameInvalid, "the path is not UTF-8"))?;
    match path.as_ref() {
        "/health" | "/healthz" | "/livez" => return Ok(Route::Health),
        "/ready" | "/readyz" => return Ok(Route::Ready),
        "/metrics" => return Ok(Route::Metrics),
        _ if face == Face::Metrics => return Err(not_found()),
        "/v2" | "/v2/" => return Ok(Route::Base),
        "/v2/_catalog" => return Ok(Route::Catalog),
        "/auth/token" => return Ok(Route::Token),
        "/auth/jwks" => return Ok(Route::Keys),
        _ => {}
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return web::Page::parse(&path)
            .map(Route::Page)
            .ok_or_else(not_found);
    };
    parse_repository(rest)
}

fn parse_repository(rest: &str) -> Result<Route, ApiError> {
    let parts: Vec<&str> = rest.split('/').collect();
    match parts.as_slice() {
        [name @ .., "tags", "list"] if !name.is_empty() => Ok(Route::Tags(repo(name)?)),
        [name @ .., "manifests", reference] if !name.is_empty() => {
            Ok(Route::Manifest(repo(name)?, (*reference).to_owned()))
        }
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""]
            if !name.is_empty() =>
        {
            Ok(Route::Uploads(repo(name)?))
        }
        [name @ .., "blobs", "uploads", id] if !name.is_empty() => {
            Ok(Route::Upload(repo(name)?, (*id).to_owned()))
        }
        [name @ .., "blobs", digest] if !name.is_empty() => {
            Ok(Route::Blob(repo(name)?, (*digest).to_owned()))
        }
        [name @ .., "referrers", digest] if !name.is_empty() => {
            Ok(Route::Referrers(repo(name)?, (*digest).to_owned()))
        }
        _ => Err(not_found()),
    }
}

fn repo(parts: &[&str]) -> Result<RepoName, ApiError> {
    let name = parts.join("/");
    RepoName::parse(&name).ok_or_else(|| {
        ApiError::new(Code::NameInvalid, "invalid repository name")
            .with_detail(json!({"name": name}))
    })
}

pub(crate) fn not_found() -> ApiError {
    ApiError::new(Code::Unsupported, "page not found").with_status(StatusCode::NOT_FOUND)
}

/// Carries a request out.
pub async fn answer(
    server: &Server,
    route: &Route,
    asked: &Asked<'_>,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    let method = &asked.parts.method;
    match (route, method.as_str()) {
        (Route::Base, "GET" | "HEAD") => base(server, asked),
        (Route::Catalog, "GET" | "HEAD") => catalog::repositories(server, asked).await,
        (Route::Tags(repo), "GET" | "HEAD") => catalog::tags(server, asked, repo).await,
        (Route::Manifest(repo, text), "GET" | "HEAD") => {
            manifests::get(server, asked, repo, &target(text)?).await
        }
        (Route::Manifest(repo, text), "PUT") => {
            manifests::put(server, asked, repo, &target(text)?, body).await
        }
        (Route::Manifest(repo, text), "DELETE") => {
            manifests::delete(server, asked, repo, &target(text)?).await
        }
        (Route::Blob(repo, text), "GET" | "HEAD") => {
            blobs::get(server, asked, repo, &digest(text)?).await
        }
        (Route::Blob(repo, text), "DELETE") => {
            blobs::delete(server, asked, repo, &digest(text)?).await
        }
        (Route::Uploads(repo), "POST") => uploads::begin(server, asked, repo, body).await,
        (Route::Upload(repo, id), "GET" | "HEAD") => uploads::status(server, asked, repo, id).await,
        (Route::Upload(repo, id), "PATCH") => uploads::append(server, asked, repo, id, body).await,
        (Route::Upload(repo, id), "PUT") => uploads::finish(server, asked, repo, id, body).await,
        (Route::Upload(repo, id), "DELETE") => uploads::cancel(server, asked, repo, id).await,
        (Route::Referrers(repo, text), "GET" | "HEAD") => {
            referrers::list(server, asked, repo, &digest(text)?).await
        }
        (Route::Token, "GET" | "POST") => token::give(server, asked, body).await,
        (Route::Keys, "GET") => token::keys(server),
        (Route::Health, "GET" | "HEAD") => Ok(status::alive()),
        (Route::Ready, "GET" | "HEAD") => status::ready(server).await,
        (Route::Metrics, "GET" | "HEAD") => status::metrics(server),
        (Route::Page(page), "GET" | "HEAD") => web::answer(server, asked, page).await,
        _ => Err(wrong_method(route, method)),
    }
}

fn wrong_method(route: &Route, method: &Method) -> ApiError {
    let allowed = match route {
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, PATCH, PUT, DELETE",
        Route::Token => "GET, POST",
        _ => "GET, HEAD",
    };
    ApiError::new(Code::Unsupported, format!("{method} is not supported here"))
        .with_header(header::ALLOW, HeaderValue::from_static(allowed))
}

/// `/v2/`: whoever could log in is asked to, because clients learn here how.
fn base(server: &Server, asked: &Asked<'_>) -> Result<Response<Body>, ApiError> {
    let nobody = asked.who == crate::auth::Identity::Anonymous;
    if nobody && !server.auth.is_open() {
        return Err(server.auth.challenge(&asked.base, None, false));
    }
    Ok(json_response(StatusCode::OK, "{}"))
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    Digest::parse(text).map_err(|error| ApiError::new(Code::DigestInvalid, error.to_string()))
}

fn target(text: &str) -> Result<Target, ApiError> {
    if text.contains(':') {
        return digest(text).map(Target::Digest);
    }
    Tag::parse(text).map(Target::Tag).ok_or_else(|| {
        ApiError::new(Code::TagInvalid, "invalid tag").with_detail(json!({"tag": text}))
    })
}

/// An answer in JSON.
pub(crate) fn json_response(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A header's value of text that was checked before.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl From<ContentError> for ApiError {
    fn from(error: ContentError) -> ApiError {
        let text = error.to_string();
        match error {
            ContentError::Storage(crate::storage::StorageError::CutOff(_)) => {
                ApiError::new(Code::BlobUploadInvalid, "the upload was cut off")
                    .with_status(StatusCode::BAD_REQUEST)
            }
            ContentError::Storage(error) => error.into(),
            ContentError::NameUnknown => ApiError::new(Code::NameUnknown, text),
            ContentError::ManifestUnknown => ApiError::new(Code::ManifestUnknown, text),
            ContentError::BlobUnknown => ApiError::new(Code::BlobUnknown, text),
            ContentError::UploadUnknown => ApiError::new(Code::BlobUploadUnknown, text),
            ContentError::UploadBusy => {
                ApiError::new(Code::BlobUploadInvalid, text).with_status(StatusCode::CONFLICT)
            }
            ContentError::OutOfOrder { .. } => ApiError::new(Code::BlobUploadInvalid, text),
            ContentError::DigestMismatch => ApiError::new(Code::DigestInvalid, text),
            ContentError::TooLarge(_) => ApiError::new(Code::SizeInvalid, text),
            ContentError::References(missing) => ApiError::new(Code::ManifestBlobUnknown, text)
                .with_detail(json!({"digests": missing})),
            ContentError::Manifest(_) => ApiError::new(Code::ManifestInvalid, text),
            ContentError::Quota { .. } => ApiError::new(Code::Denied, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let repo = |name: &str| RepoName::parse(name).expect("a name");
        for (path, expected) in [
            ("/v2/", Route::Base),
            ("/v2", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags(repo("a/b"))),
            ("/v2/tags/list/tags/list", Route::Tags(repo("tags/list"))),
            (
                "/v2/a/manifests/latest",
                Route::Manifest(repo("a"), "latest".into()),
            ),
            (
                "/v2/blobs/uploads/blobs/uploads/",
                Route::Uploads(repo("blobs/uploads")),
            ),
            ("/v2/a/blobs/uploads", Route::Uploads(repo("a"))),
            (
                "/v2/a/blobs/uploads/x",
                Route::Upload(repo("a"), "x".into()),
            ),
            (
                "/v2/a/blobs/sha256%3Aabc",
                Route::Blob(repo("a"), "sha256:abc".into()),
            ),
            ("/v2/a/referrers/x", Route::Referrers(repo("a"), "x".into())),
            ("/metrics", Route::Metrics),
        ] {
            assert_eq!(parse(path, Face::Registry).expect(path), expected, "{path}");
        }
        for (path, code) in [
            ("/v2/../manifests/x", Code::NameInvalid),
            ("/v2/a/../b/manifests/x", Code::NameInvalid),
            ("/v2/a/%2e%2e/b/tags/list", Code::NameInvalid),
            ("/v2/A/tags/list", Code::NameInvalid),
            ("/v2/a//b/tags/list", Code::NameInvalid),
            ("/v2/a%00/tags/list", Code::NameInvalid),
            ("/v2/tags/list", Code::Unsupported),
            ("/v2/a", Code::Unsupported),
        ] {
            assert_eq!(
                parse(path, Face::Registry).expect_err(path).code,
                code,
                "{path}"
            );
        }
        assert!(parse("/v2/", Face::Metrics).is_err());
        for bad in [
            "sha256:../../etc/passwd",
            "sha256:",
            "md5:abc",
            "sha256:%2e",
        ] {
            assert!(target(bad).is_err() && digest(bad).is_err(), "{bad}");
        }
        assert!(target("..").is_err() && target("a/b").is_err());
    }
}
