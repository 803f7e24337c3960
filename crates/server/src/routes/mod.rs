//! The route table, and the way of a request through it.
//!
//! Every path works bare and under `/v<major>.<minor>`. The first matching row wins, as in moby's router.

pub mod pattern;
pub mod refused;

pub mod archive;
pub mod attach;
pub mod attach_ws;
pub mod build;
pub mod commit;
pub mod container_create;
pub mod containers;
pub mod events;
pub mod exec;
pub mod image_transfer;
pub mod images;
pub mod networks;
pub mod registry;
pub mod system;
pub mod volumes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderMap, HeaderValue, SERVER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tracing::{debug, error};
use wharf_api::error::Kind;
use wharf_api::version::{self, ApiVersion};

use crate::Server;
use crate::authz::peer::Peer;
use crate::http::body::{Body, RequestBody};
use crate::http::error::ApiError;
use crate::http::request::{Call, Query};
use crate::http::respond;
use pattern::match_path;
pub use refused::{NOT_IMPLEMENTED, SWARM};

/// What a handler comes to.
pub type Outcome = Result<Response<Body>, ApiError>;

type Handler = Box<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// One row of the table.
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path without version; see [`pattern`].
    pub pattern: &'static str,
    handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.pattern)
    }
}

/// All endpoints that are served.
#[must_use]
pub fn table() -> Vec<Route> {
    use Method as M;
    vec![
        route(M::GET, "/_ping", system::ping),
        route(M::HEAD, "/_ping", system::ping),
        route(M::GET, "/version", system::version),
        route(M::GET, "/info", system::info),
        route(M::GET, "/plugins", system::plugins),
        route(M::GET, "/events", events::events),
        route(M::GET, "/system/df", system::disk_usage),
        route(M::GET, "/containers/json", containers::list),
        route(M::POST, "/commit", commit::commit),
        route(M::POST, "/containers/create", container_create::create),
        route(M::POST, "/containers/prune", containers::prune),
        route(M::GET, "/containers/{name}/json", containers::inspect),
        route(M::GET, "/containers/{name}/top", containers::top),
        route(M::GET, "/containers/{name}/changes", containers::changes),
        route(M::GET, "/containers/{name}/export", containers::export),
        route(M::HEAD, "/containers/{name}/archive", archive::stat),
        route(M::GET, "/containers/{name}/archive", archive::get),
        route(M::PUT, "/containers/{name}/archive", archive::put),
        route(M::GET, "/containers/{name}/logs", containers::logs),
        route(M::DELETE, "/containers/{name}/logs", containers::clear_logs),
        route(M::GET, "/containers/{name}/stats", containers::stats),
        route(M::GET, "/containers/{name}/attach/ws", attach_ws::attach),
        route(M::POST, "/containers/{name}/attach", attach::attach),
        route(M::POST, "/containers/{name}/start", containers::start),
        route(M::POST, "/containers/{name}/stop", containers::stop),
        route(M::POST, "/containers/{name}/restart", containers::restart),
        route(M::POST, "/containers/{name}/kill", containers::kill),
        route(M::POST, "/containers/{name}/pause", containers::pause),
        route(M::POST, "/containers/{name}/unpause", containers::unpause),
        route(M::POST, "/containers/{name}/wait", containers::wait),
        route(M::POST, "/containers/{name}/resize", containers::resize),
        route(M::POST, "/containers/{name}/rename", containers::rename),
        route(M::POST, "/containers/{name}/update", containers::update),
        route(M::DELETE, "/containers/{name:.*}", containers::remove),
        route(M::POST, "/containers/{name}/exec", exec::create),
        route(M::POST, "/exec/{id}/start", exec::start),
        route(M::POST, "/exec/{id}/resize", exec::resize),
        route(M::GET, "/exec/{id}/json", exec::inspect),
        route(M::POST, "/auth", registry::login),
        route(M::POST, "/wharf/system/check", system::check),
        route(M::GET, "/distribution/{name:.*}/json", registry::inspect),
        route(M::GET, "/images/search", registry::search),
        route(M::POST, "/images/{name:.*}/push", registry::push),
        route(M::GET, "/images/json", images::list),
        route(M::GET, "/images/get", image_transfer::save_many),
        route(M::POST, "/build", build::build),
        route(M::POST, "/build/cancel", build::cancel),
        route(M::POST, "/build/prune", build::prune),
        route(M::POST, "/wharf/build/uploads", build::upload),
        route(M::POST, "/wharf/build/agents/{token}", build::agent),
        route(M::GET, "/wharf/build/caches", build::caches),
        route(M::GET, "/wharf/build/caches/archive", build::export_cache),
        route(M::PUT, "/wharf/build/caches/archive", build::import_cache),
        route(M::POST, "/wharf/build/caches/push", registry::push_cache),
        route(M::GET, "/wharf/images/{name:.*}/files", build::files),
        route(M::POST, "/wharf/images/{name:.*}/layout", build::layout),
        route(M::GET, "/wharf/images/{name:.*}/sbom", build::sbom),
        route(M::POST, "/images/load", image_transfer::load),
        route(M::POST, "/images/create", image_transfer::create),
        route(M::POST, "/images/prune", images::prune),
        route(M::GET, "/images/{name:.*}/get", image_transfer::save_one),
        route(M::GET, "/images/{name:.*}/history", images::history),
        route(M::GET, "/images/{name:.*}/json", images::inspect),
        route(M::POST, "/images/{name:.*}/tag", images::tag),
        route(M::DELETE, "/images/{name:.*}", images::remove),
        route(M::GET, "/networks", networks::list),
        route(M::GET, "/networks/", networks::list),
        route(M::POST, "/networks/create", networks::create),
        route(M::POST, "/networks/prune", networks::prune),
        route(M::GET, "/networks/{id}", networks::inspect),
        route(M::POST, "/networks/{id}/connect", networks::connect),
        route(M::POST, "/networks/{id}/disconnect", networks::disconnect),
        route(M::DELETE, "/networks/{id}", networks::remove),
        route(M::GET, "/volumes", volumes::list),
        route(M::POST, "/volumes/create", volumes::create),
        route(M::POST, "/volumes/prune", volumes::prune),
        route(M::POST, "/wharf/volumes/{name}/rename", volumes::rename),
        route(M::POST, "/wharf/volumes/{name}/clone", volumes::clone),
        route(M::POST, "/wharf/volumes/{name}/snapshot", volumes::snapshot),
        route(M::GET, "/wharf/volumes/{name}/archive", volumes::export),
        route(M::PUT, "/wharf/volumes/{name}/archive", volumes::import),
        route(M::GET, "/volumes/{name}", volumes::inspect),
        route(M::DELETE, "/volumes/{name}", volumes::remove),
    ]
}

fn route<F, Fut>(method: Method, pattern: &'static str, handler: F) -> Route
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    Route {
        method,
        pattern,
        handler: Box::new(move |call| Box::pin(handler(call))),
    }
}

/// Answers one request.
pub async fn dispatch(
    server: Arc<Server>,
    peer: &Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let experimental = server.experimental();
    let mut response = match handle(server, peer, request).await {
        Ok(response) => response,
        Err(refusal) => refused(&method, &path, refusal),
    };
    add_headers(response.headers_mut(), experimental);
    debug!(%method, path, status = response.status().as_u16(), elapsed_us = began.elapsed().as_micros(), "request");
    response
}

async fn handle(server: Arc<Server>, peer: &Peer, request: Request<Incoming>) -> Outcome {
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::from(body);
    if parts.method == Method::OPTIONS {
        return Ok(respond::empty(StatusCode::OK));
    }
    let path = percent_encoding::percent_decode_str(parts.uri.path())
        .decode_utf8_lossy()
        .into_owned();
    let (asked, bare) = split_version(&path);
    let found = server.routes.iter().find_map(|route| {
        (route.method == parts.method)
            .then(|| match_path(route.pattern, bare))
            .flatten()
            .map(|params| (route, params))
    });
    let Some((route, params)) = found else {
        swallow(body).await;
        // moby checks the version behind the router: an unknown path is not found in any version.
        let refusal = refuse(&parts.method, bare);
        return Err(if refusal.kind == Kind::NotFound {
            refusal
        } else {
            negotiate(asked).err().unwrap_or(refusal)
        });
    };
    let version = match negotiate(asked) {
        Ok(version) => version,
        Err(refusal) => {
            swallow(body).await;
            return Err(refusal);
        }
    };
    let judged = server
        .authorizer()
        .judge(peer, bare, &parts, &mut body)
        .await;
    let allowed = match judged {
        Ok(allowed) => allowed,
        Err(denied) => {
            swallow(body).await;
            return Err(denied);
        }
    };
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let began = Instant::now();
    let outcome = (route.handler)(Call {
        server: server.clone(),
        version,
        params,
        query,
        parts,
        body,
    })
    .await;
    if outcome.is_ok() {
        server
            .metrics
            .observe(route.method.as_str(), route.pattern, began.elapsed());
    }
    match allowed {
        Some(allowed) => {
            let answer = outcome.unwrap_or_else(ApiError::into_response);
            allowed.judge_answer(bare, &answer).await.map(|()| answer)
        }
        None => outcome,
    }
}

/// Reads a small body that nobody wants, as Go's server does: a client that is still sending it would report the broken
/// connection instead of the answer.
async fn swallow(mut body: RequestBody) {
    const LIMIT: usize = 256 * 1024;
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, |data| data.len());
        if taken > LIMIT {
            return;
        }
    }
}

/// The error for a path that no handler serves.
fn refuse(method: &Method, path: &str) -> ApiError {
    let listed = |list: &[(&str, &str)]| {
        list.iter()
            .any(|(m, pattern)| *m == method.as_str() && match_path(pattern, path).is_some())
    };
    if listed(SWARM) {
        ApiError::new(Kind::Unavailable, refused::NOT_A_MANAGER)
    } else if listed(NOT_IMPLEMENTED) {
        ApiError::new(
            Kind::NotImplemented,
            format!("{method} {path} is not supported by this engine yet"),
        )
    } else {
        ApiError::new(Kind::NotFound, "page not found")
    }
}

/// `/v1.41/info` → (`1.41`, `/info`); `/info` → (none, `/info`).
fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let is_version = end > 0 && rest[..end].bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_version {
        (Some(&rest[..end]), &rest[end..])
    } else {
        (None, path)
    }
}

/// Docker's words for versions out of range (moby `daemon/server/middleware/version.go`).
fn negotiate(asked: Option<&str>) -> Result<ApiVersion, ApiError> {
    let Some(text) = asked else {
        return Ok(version::MAX);
    };
    let too_old = || {
        ApiError::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            version::MIN
        ))
    };
    let asked: ApiVersion = text.parse().map_err(|_| too_old())?;
    if asked < version::MIN {
        return Err(too_old());
    }
    if asked > version::MAX {
        return Err(ApiError::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {}",
            version::MAX
        )));
    }
    Ok(asked)
}

fn refused(method: &Method, path: &str, refusal: ApiError) -> Response<Body> {
    match refusal.kind {
        Kind::Internal => error!(%method, path, error = refusal.message, "request failed"),
        _ => debug!(%method, path, error = refusal.message, "request refused"),
    }
    refusal.into_response()
}

fn add_headers(headers: &mut HeaderMap, experimental: bool) {
    headers.insert("api-version", HeaderValue::from_static(API_VERSION));
    headers.insert(
        "docker-experimental",
        HeaderValue::from_static(if experimental { "true" } else { "false" }),
    );
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
}

/// [`version::MAX`] as header text.
const API_VERSION: &str = "1.51";
/// [`version::ENGINE`] as clients parse it.
const SERVER_NAME: &str = "Docker/28.2.2 (linux)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_constants_are_the_versions() {
        assert_eq!(API_VERSION, version::MAX.to_string());
        assert_eq!(SERVER_NAME, format!("Docker/{} (linux)", version::ENGINE));
    }

    #[test]
    fn versions_are_split_and_negotiated() {
        assert_eq!(split_version("/v1.41/info"), (Some("1.41"), "/info"));
        assert_eq!(split_version("/volumes"), (None, "/volumes"));
        assert_eq!(split_version("/version"), (None, "/version"));
        assert_eq!(negotiate(None), Ok(version::MAX));
        assert_eq!(negotiate(Some("1.24")), Ok(version::MIN));
        let message = |text| negotiate(Some(text)).expect_err("out of range").message;
        assert_eq!(
            message("1.99"),
            "client version 1.99 is too new. Maximum supported API version is 1.51"
        );
        assert_eq!(
            message("1.12"),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
    }

    #[test]
    fn refusals_say_why() {
        assert_eq!(refuse(&Method::GET, "/swarm").kind, Kind::Unavailable);
        assert_eq!(
            refuse(&Method::POST, "/plugins/a/b:c/upgrade").kind,
            Kind::NotImplemented
        );
        let missing = refuse(&Method::GET, "/nothing");
        assert_eq!(
            (missing.kind, missing.message.as_str()),
            (Kind::NotFound, "page not found")
        );
        // A wrong method is "not found" too, as in moby.
        assert_eq!(refuse(&Method::PUT, "/info").kind, Kind::NotFound);
    }

    #[test]
    fn refused_endpoints_are_not_served() {
        for (method, pattern) in NOT_IMPLEMENTED.iter().chain(SWARM) {
            let served = table()
                .iter()
                .any(|r| r.method.as_str() == *method && r.pattern == *pattern);
            assert!(!served, "{method} {pattern}");
        }
    }
}
