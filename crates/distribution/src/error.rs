//! What can go wrong with a registry, in the words of Docker (`distribution/registry/api/errcode`, Go's `net/http`).

use std::time::Duration;

use serde::Deserialize;
use wharf_spec::digest::{Digest, DigestError};

/// Why a registry did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No answer: `Get "https://host/v2/": dial tcp …`.
    #[error("{method} \"{url}\": {text}")]
    Transport {
        /// `Get`, `Head`, … as Go writes it.
        method: String,
        /// What was asked.
        url: String,
        /// What happened.
        text: String,
        /// An encrypted connection was there, so plain HTTP must not be tried.
        spoke_tls: bool,
    },
    /// The registry refused, and said why.
    #[error("{}", refusals(errors))]
    Refused {
        /// HTTP status.
        status: u16,
        /// At least one.
        errors: Vec<Refusal>,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// An answer that is none.
    #[error("{text}")]
    Status {
        /// HTTP status.
        status: u16,
        /// In Docker's words.
        text: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Content is not what its digest says.
    #[error("{what} verification failed for digest {digest}")]
    Verification {
        /// `manifest`, `image config`, `filesystem layer`.
        what: &'static str,
        /// The digest.
        digest: Digest,
    },
    /// Content makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Credentials are needed and were not given.
    #[error("{url}: no basic auth credentials")]
    NoCredentials {
        /// `Get "…"`.
        url: String,
    },
}

/// One entry of the registry's list of errors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// `MANIFEST_UNKNOWN`, …
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl std::fmt::Display for Refusal {
    /// As Go's `errcode.Error`: the code in lower case, then the message.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        if self.message.is_empty() {
            return write!(f, "{code}: {}", default_message(&self.code));
        }
        write!(f, "{code}: {}", self.message)
    }
}

fn default_message(code: &str) -> &'static str {
    match code {
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "TOOMANYREQUESTS" => "too many requests",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "BLOB_UNKNOWN" => "blob unknown to registry",
        "UNSUPPORTED" => "The operation is unsupported.",
        "UNAVAILABLE" => "service unavailable",
        _ => "unknown error",
    }
}

fn refusals(errors: &[Refusal]) -> String {
    match errors {
        [one] => one.to_string(),
        many => {
            let lines: String = many.iter().map(|error| format!("{error}\n")).collect();
            format!("errors:\n{lines}")
        }
    }
}

impl From<DigestError> for RegistryError {
    fn from(error: DigestError) -> RegistryError {
        RegistryError::Invalid(error.to_string())
    }
}

impl RegistryError {
    /// The code of the first refusal, such as `MANIFEST_UNKNOWN`.
    pub fn code(&self) -> Option<&str> {
        match self {
            RegistryError::Refused { errors, .. } => {
                errors.first().map(|error| error.code.as_str())
            }
            _ => None,
        }
    }

    /// HTTP status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            RegistryError::Refused { status, .. } | RegistryError::Status { status, .. } => {
                Some(*status)
            }
            _ => None,
        }
    }

    /// Whether the same request may succeed a moment later. Refusals that need a human do not.
    pub fn may_pass(&self) -> bool {
        match self {
            RegistryError::Transport { text, .. } => {
                !(text.contains("x509")
                    || text.contains("HTTP response to HTTPS")
                    || text.contains("no such host"))
            }
            RegistryError::Refused { status, .. } | RegistryError::Status { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500 | 502..=504)
            }
            _ => false,
        }
    }

    /// How long the registry asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::Refused { retry_after, .. }
            | RegistryError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Reads a refusal out of an answer with status 400 or above.
    pub(crate) fn from_answer(
        status: u16,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> RegistryError {
        if let Some(errors) = parse_errors(status, body) {
            return RegistryError::Refused {
                status,
                errors,
                retry_after,
            };
        }
        let text = match status {
            400..=499 => format!(
                "error parsing HTTP {status} response body: {}: {:?}",
                json_error(body),
                String::from_utf8_lossy(&body[..body.len().min(2048)])
            ),
            _ => format!("received unexpected HTTP status: {}", status_line(status)),
        };
        RegistryError::Status {
            status,
            text,
            retry_after,
        }
    }
}

/// `500 Internal Server Error`
pub(crate) fn status_line(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("");
    format!("{status} {reason}").trim_end().to_owned()
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Refusal>,
    /// What token servers say instead.
    #[serde(default)]
    details: String,
}

fn parse_errors(status: u16, body: &[u8]) -> Option<Vec<Refusal>> {
    let parsed: Option<Body> = serde_json::from_slice(body).ok();
    let code = match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "",
    };
    match parsed {
        Some(body) if !body.errors.is_empty() => Some(body.errors),
        Some(body) if !code.is_empty() => Some(vec![Refusal {
            code: code.to_owned(),
            message: body.details,
        }]),
        _ if !code.is_empty() => Some(vec![Refusal {
            code: code.to_owned(),
            message: plain_text(body),
        }]),
        // What HEAD tells, and servers that are terse.
        _ if status == 404 && body.is_empty() => Some(vec![Refusal {
            code: "MANIFEST_UNKNOWN".to_owned(),
            message: "manifest unknown".to_owned(),
        }]),
        _ => None,
    }
}

/// A short answer in plain text is the message; a page of HTML is not.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).trim().to_owned();
    if text.len() > 500 || text.starts_with('<') || text.starts_with('{') {
        String::new()
    } else {
        text
    }
}

fn json_error(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(_) => "no error details found in HTTP response body".to_owned(),
        Err(_) => match body.first() {
            Some(first) => format!(
                "invalid character {:?} looking for beginning of value",
                char::from(*first)
            ),
            None => "unexpected end of JSON input".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_is_dockers() {
        for (status, body, expected) in [
            (
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "manifest unknown: manifest unknown",
            ),
            (401, "", "unauthorized: authentication required"),
            (
                401,
                r#"{"details":"incorrect username or password"}"#,
                "unauthorized: incorrect username or password",
            ),
            (
                429,
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#,
                "toomanyrequests: You have reached your pull rate limit.",
            ),
            (
                500,
                "oops",
                "received unexpected HTTP status: 500 Internal Server Error",
            ),
        ] {
            let error = RegistryError::from_answer(status, None, body.as_bytes());
            assert_eq!(error.to_string(), expected);
        }
    }
}
