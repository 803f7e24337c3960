//! Who may do what: authorization plugins in Docker's protocol, and a policy file of our own.
//!
//! A request is shown to each before its handler runs, its answer to each plugin before it goes out. The first "no" ends it
//! with 403. Without plugins and policy nothing is looked at and nothing is copied.

pub mod peer;
mod plugin;
mod policy;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Response};
use tracing::warn;
use wharf_api::error::Kind;

use crate::http::body::{Body, RequestBody};
use crate::http::error::ApiError;
use peer::Peer;
use plugin::{Plugin, Question};
use policy::Policy;

/// Larger bodies are judged without being seen (moby `pkg/authorization`, `maxBodySize`).
const MAX_BODY: u64 = 1 << 20;

/// The policy must see what a container asks for: a larger request to create one is refused.
const MAX_JUDGED: u64 = 16 << 20;

/// Why no authorizer could be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthzError {
    /// `--authorization-plugin` names nothing that answers.
    #[error("failed to validate authorization plugin: {0}")]
    Plugin(String),
    /// `--authorization-policy` cannot be used.
    #[error("authorization policy {file}: {reason}")]
    Policy {
        /// As given.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// All that have a say.
#[derive(Debug, Default)]
pub struct Authorizer {
    plugins: Vec<Plugin>,
    policy: Option<Policy>,
}

/// One request that was allowed, for the judgement of its answer.
#[derive(Debug)]
pub struct Allowed {
    authorizer: Arc<Authorizer>,
    question: Question,
}

impl Authorizer {
    /// Loads what `--authorization-plugin` and `--authorization-policy` name. Blocking.
    pub fn load(plugins: &[String], policy: &str) -> Result<Authorizer, AuthzError> {
        let find = |name: &String| Plugin::find(name).map_err(AuthzError::Plugin);
        let mut seen = std::collections::BTreeSet::new();
        let names = plugins.iter().filter(|name| seen.insert(*name));
        let read = |file: &str| {
            Policy::read(Path::new(file)).map_err(|reason| AuthzError::Policy {
                file: file.to_owned(),
                reason,
            })
        };
        Ok(Authorizer {
            plugins: names.map(find).collect::<Result<_, _>>()?,
            policy: (!policy.is_empty()).then(|| read(policy)).transpose()?,
        })
    }

    /// The plugins' names, for `info`.
    #[must_use]
    pub fn plugin_names(&self) -> Vec<String> {
        self.plugins.iter().map(|p| p.name().to_owned()).collect()
    }

    /// Nobody has a say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty() && self.policy.is_none()
    }

    /// Whether the groups of local clients matter.
    #[must_use]
    pub fn asks_groups(&self) -> bool {
        self.policy.is_some()
    }

    /// Judges a request for `path` (without version). What is read of its body is put back.
    pub async fn judge(
        self: Arc<Self>,
        peer: &Peer,
        path: &str,
        parts: &Parts,
        body: &mut RequestBody,
    ) -> Result<Option<Allowed>, ApiError> {
        if self.is_empty() {
            return Ok(None);
        }
        if let Some(policy) = &self.policy {
            // Rules may name groups, and those of this client were not asked for.
            if peer
                .process
                .as_ref()
                .is_some_and(|process| process.gids.is_none())
            {
                let reason = "the connection is older than the authorization policy; connect again";
                return Err(ApiError::new(Kind::Forbidden, reason));
            }
            let seen = match policy::looks_inside(&parts.method, path) {
                true => body.peek(MAX_JUDGED).await.map_err(broken)?,
                false => None,
            };
            if policy::looks_inside(&parts.method, path) && seen.is_none() {
                return Err(ApiError::invalid(format!(
                    "the request to {path} is longer than the {MAX_JUDGED} bytes that an authorization policy looks through"
                )));
            }
            let denied = |reason| ApiError::new(Kind::Forbidden, reason);
            policy
                .judge(peer, &parts.method, path, seen.as_deref())
                .map_err(denied)?;
        }
        let seen = match shown(parts.uri.path(), &parts.headers) {
            true => body.peek(MAX_BODY).await.unwrap_or(None),
            false => None,
        };
        let question = Question::new(peer, parts, seen);
        for plugin in &self.plugins {
            let verdict = plugin.ask("/AuthZPlugin.AuthZReq", &question).await;
            verdict.map_err(|denied| denied.into_error(plugin.name()))?;
        }
        Ok(Some(Allowed {
            authorizer: self,
            question,
        }))
    }
}

impl Allowed {
    /// Shows the answer to the plugins. The body is shown when it is one whole; a stream is judged by its head.
    pub async fn judge_answer(
        mut self,
        path: &str,
        answer: &Response<Body>,
    ) -> Result<(), ApiError> {
        let whole = match answer.body() {
            Body::Full(bytes) if shown(path, answer.headers()) => bytes.clone(),
            _ => Bytes::new(),
        };
        self.question.answered(answer, &whole);
        for plugin in &self.authorizer.plugins {
            let verdict = plugin.ask("/AuthZPlugin.AuthZRes", &self.question).await;
            if let Err(denied) = verdict {
                let error = denied.into_error(plugin.name());
                warn!(path, %error, "an answer was withheld");
                return Err(error);
            }
        }
        Ok(())
    }
}

fn broken(error: hyper::Error) -> ApiError {
    ApiError::invalid(format!("the request broke off: {error}"))
}

/// Bodies are shown when they are JSON, except passwords (moby `pkg/authorization`, `sendBody`).
fn shown(path: &str, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let json =
        kind.is_some_and(|kind| kind.split(';').next().unwrap_or("").trim() == "application/json");
    json && !path.ends_with("/auth")
}
