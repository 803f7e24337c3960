//! The registry as a whole: what answers a request is put together here.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};

use crate::auth::{Auth, Identity};
use crate::config::{Action, Config};
use crate::content::Content;
use crate::error::{ApiError, Code};
use crate::events::{Event, Events, Origin};
use crate::http::body::Body;
use crate::http::limit::{Left, Limits};
use crate::http::serve::{Face, Peer};
use crate::metrics::Metrics;
use crate::name::RepoName;
use crate::routes::{self, Route};
use crate::source::Source;
use crate::upstream::Upstreams;

/// Everything that requests need.
#[derive(Debug)]
pub struct Server {
    /// Configuration.
    pub config: Config,
    /// Repositories.
    pub content: Content,
    /// An engine's images instead, for `--from-engine`.
    pub source: Option<Arc<dyn Source>>,
    /// Who may.
    pub auth: Auth,
    /// How often.
    pub limits: Limits,
    /// Who is told.
    pub events: Events,
    /// Other registries.
    pub upstreams: Upstreams,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A request with what was found out about it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Head.
    pub parts: &'a http::request::Parts,
    /// Connection.
    pub peer: &'a Peer,
    /// Who.
    pub who: Identity,
    /// `https://host`, as the client sees us.
    pub base: String,
}

impl Asked<'_> {
    /// A header as text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    }

    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        self.queries(name).next()
    }

    /// All values of a parameter of the query.
    pub fn queries<'q>(&'q self, name: &'q str) -> impl Iterator<Item = String> + 'q {
        let query = self.parts.uri.query().unwrap_or("").as_bytes();
        form_urlencoded::parse(query)
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Whether only the head is wanted.
    pub fn is_head(&self) -> bool {
        self.parts.method == http::Method::HEAD
    }
}

impl Server {
    /// Answers one request: what it is about, who asks, whether they may, how often; and writes the line in the log.
    pub async fn answer(
        &self,
        face: Face,
        peer: &Peer,
        request: Request<hyper::body::Incoming>,
    ) -> Response<Body> {
        let began = Instant::now();
        self.metrics.in_flight.inc();
        let (parts, body) = request.into_parts();
        let elsewhere = face == Face::Registry && self.config.metrics.listen.is_some();
        let route = match routes::parse(parts.uri.path(), face) {
            Ok(Route::Metrics) if elsewhere => Err(routes::not_found()),
            parsed => parsed,
        };
        let handler = route.as_ref().map_or("other", Route::name);
        let mut actor = String::new();
        let outcome = match route {
            Ok(route) => {
                self.identified(&route, peer, &parts, body, &mut actor)
                    .await
            }
            Err(error) => Err(error),
        };
        let mut response = outcome.unwrap_or_else(ApiError::into_response);
        finish(&parts, &mut response);
        let took = began.elapsed();
        self.metrics.in_flight.dec();
        self.metrics
            .answered(handler, &parts.method, response.status().as_u16(), took);
        if self.config.log.access && tracing::enabled!(tracing::Level::INFO) {
            self.log(&parts, peer, &actor, &response, took);
        }
        response
    }

    async fn identified(
        &self,
        route: &Route,
        peer: &Peer,
        parts: &http::request::Parts,
        body: hyper::body::Incoming,
        actor: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        if route.is_public() {
            let asked = self.asked(parts, peer, Identity::Anonymous);
            return routes::answer(self, route, &asked, body).await;
        }
        let address = self.client(peer, &parts.headers);
        let who = match self.auth.identify(&parts.headers, peer).await {
            Ok(who) => who,
            Err(error) => {
                // Guessing passwords counts too.
                self.limited(&address)?;
                let base = self.base(peer, parts);
                return Err(match error.code {
                    Code::Unauthorized => {
                        let mut challenge = self.auth.challenge(&base, None, false);
                        challenge.message = error.message;
                        challenge
                    }
                    _ => error,
                });
            }
        };
        actor.push_str(who.name());
        self.limited(if actor.is_empty() { &address } else { actor })?;
        let asked = self.asked(parts, peer, who);
        routes::answer(self, route, &asked, body).await
    }

    fn asked<'a>(
        &self,
        parts: &'a http::request::Parts,
        peer: &'a Peer,
        who: Identity,
    ) -> Asked<'a> {
        Asked {
            base: self.base(peer, parts),
            parts,
            peer,
            who,
        }
    }

    /// How the client sees us.
    fn base(&self, peer: &Peer, parts: &http::request::Parts) -> String {
        let headers = &parts.headers;
        if let Some(url) = &self.config.http.external_url {
            return url.trim_end_matches('/').to_owned();
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // HTTP/2 has it in the target.
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let host = text("host").or(authority).filter(|host| {
            host.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        });
        let host = host.map_or_else(
            || self.config.listen.first().cloned().unwrap_or_default(),
            str::to_owned,
        );
        let tls = peer.tls || text("x-forwarded-proto") == Some("https");
        format!("{}://{host}", if tls { "https" } else { "http" })
    }

    /// The client's address; behind a proxy of ours, what the proxy says.
    fn client(&self, peer: &Peer, headers: &HeaderMap) -> String {
        let said = headers
            .get("x-forwarded-for")
            .filter(|_| self.config.http.external_url.is_some());
        let last = said
            .and_then(|value| value.to_str().ok())
            .and_then(|list| list.rsplit(',').next());
        match last {
            Some(address) => address.trim().to_owned(),
            None => peer.address.ip().to_string(),
        }
    }

    fn limited(&self, client: &str) -> Result<(), ApiError> {
        self.limits.request(client).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            ApiError::new(Code::TooManyRequests, "too many requests")
                .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
        })
    }

    /// Counts a manifest that somebody pulls.
    pub fn limit_pull(&self, asked: &Asked<'_>) -> Result<Option<Left>, ApiError> {
        let name = asked.who.name();
        let client = match name {
            "" => self.client(asked.peer, &asked.parts.headers),
            name => name.to_owned(),
        };
        self.limits.pull(&client).map_err(|left| {
            let message = "You have reached your pull rate limit.";
            let mut error = ApiError::new(Code::TooManyRequests, message).with_header(
                header::RETRY_AFTER,
                HeaderValue::from(left.reset.as_secs() + 1),
            );
            for (name, value) in left_headers(&left) {
                error = error.with_header(name, value);
            }
            error
        })
    }

    /// Fails unless the one who asks may do this.
    pub fn require(
        &self,
        asked: &Asked<'_>,
        repo: &RepoName,
        actions: &[Action],
    ) -> Result<(), ApiError> {
        self.auth.require(&asked.who, repo, actions, &asked.base)
    }

    /// Fails where nothing may change.
    pub fn require_writable(&self) -> Result<(), ApiError> {
        if self.config.storage.read_only || self.source.is_some() {
            let allowed = HeaderValue::from_static("GET, HEAD");
            return Err(
                ApiError::new(Code::Unsupported, "the registry is read-only")
                    .with_header(header::ALLOW, allowed),
            );
        }
        Ok(())
    }

    /// Tells receivers what happened.
    pub fn tell(&self, asked: &Asked<'_>, event: &Event) {
        if self.events.is_empty() {
            return Metrics::count(&self.metrics.events, event.action, 1);
        }
        let origin = Origin {
            id: crate::random::id(),
            address: asked.peer.address.to_string(),
            host: asked.header(header::HOST).unwrap_or_default().to_owned(),
            base: asked.base.clone(),
            method: asked.parts.method.to_string(),
            user_agent: asked
                .header(header::USER_AGENT)
                .unwrap_or_default()
                .to_owned(),
            actor: asked.who.name().to_owned(),
        };
        self.events.tell(event, &origin, &self.metrics);
    }

    fn log(
        &self,
        parts: &http::request::Parts,
        peer: &Peer,
        user: &str,
        response: &Response<Body>,
        took: std::time::Duration,
    ) {
        let agent = parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|value| value.to_str().ok());
        let size = http_body::Body::size_hint(response.body()).lower();
        tracing::info!(
            target: "wharf_registry::access",
            client = %self.client(peer, &parts.headers),
            user,
            method = %parts.method,
            path = parts.uri.path(),
            query = parts.uri.query().unwrap_or(""),
            status = response.status().as_u16(),
            bytes = size,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            agent = agent.unwrap_or(""),
            "request"
        );
    }
}

/// What is left of a client's pulls, as Docker's hub says it.
pub fn left_headers(left: &Left) -> [(header::HeaderName, HeaderValue); 2] {
    let value = |count: u32| {
        let text = format!("{count};w={}", left.window.as_secs());
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
    };
    [
        (
            header::HeaderName::from_static("ratelimit-limit"),
            value(left.limit),
        ),
        (
            header::HeaderName::from_static("ratelimit-remaining"),
            value(left.remaining),
        ),
    ]
}

/// Headers that every answer has.
fn finish(parts: &http::request::Parts, response: &mut Response<Body>) {
    let size = http_body::Body::size_hint(response.body()).lower();
    let status = response.status();
    let headers = response.headers_mut();
    if parts.uri.path().starts_with("/v2") {
        headers.insert(
            "docker-distribution-api-version",
            HeaderValue::from_static("registry/2.0"),
        );
    }
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if !bodiless && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    if parts.method == http::Method::HEAD {
        *response.body_mut() = Body::empty();
    }
}
