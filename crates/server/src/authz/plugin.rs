//! One authorization plugin: JSON over HTTP on a Unix socket or TCP address (moby `pkg/authorization`; docs.docker.com,
//! "Access authorization plugin").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use serde::{Deserialize, Serialize};
use wharf_api::error::Kind;
use wharf_engine::plugins::{Absent, Plugin as Found, Subject};

use super::peer::Peer;
use crate::http::body::Body;
use crate::http::error::ApiError;

const SUBJECT: Subject = Subject {
    implements: "authz",
    word: "authorization",
};

/// A plugin that answered when the daemon started.
#[derive(Debug, Clone)]
pub(super) struct Plugin(Found);

/// What a plugin is shown. The names are the protocol's.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Question {
    #[serde(rename = "User", skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(rename = "UserAuthNMethod", skip_serializing_if = "String::is_empty")]
    user_authn_method: String,
    #[serde(rename = "RequestMethod")]
    method: String,
    #[serde(rename = "RequestUri")]
    uri: String,
    #[serde(rename = "RequestBody", skip_serializing_if = "String::is_empty")]
    body: String,
    #[serde(rename = "RequestHeaders", skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(
        rename = "RequestPeerCertificates",
        skip_serializing_if = "Vec::is_empty"
    )]
    certificates: Vec<String>,
    #[serde(rename = "ResponseStatusCode", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "ResponseBody", skip_serializing_if = "String::is_empty")]
    answer: String,
    #[serde(rename = "ResponseHeaders", skip_serializing_if = "BTreeMap::is_empty")]
    answer_headers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Verdict {
    allow: bool,
    msg: String,
    err: String,
}

/// Why there was no "yes".
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The plugin's reason.
    Refused(String),
    /// It could not decide, or could not be asked.
    Failed(String),
}

impl Denied {
    /// In Docker's words.
    pub(super) fn into_error(self, plugin: &str) -> ApiError {
        match self {
            Denied::Refused(reason) => ApiError::new(
                Kind::Forbidden,
                format!("authorization denied by plugin {plugin}: {reason}"),
            ),
            Denied::Failed(reason) => {
                ApiError::internal(format!("plugin {plugin} failed with error: {reason}"))
            }
        }
    }
}

impl Plugin {
    pub(super) fn find(name: &str) -> Result<Plugin, String> {
        Found::find(name, SUBJECT, Absent::MayCome)
            .map(Plugin)
            .map_err(|error| error.to_string())
    }

    pub(super) fn name(&self) -> &str {
        self.0.name()
    }

    pub(super) async fn ask(
        &self,
        method: &'static str,
        question: &Question,
    ) -> Result<(), Denied> {
        let failed = |reason: String| Denied::Failed(reason);
        let question = serde_json::to_value(question).map_err(|e| failed(e.to_string()))?;
        let plugin = self.0.clone();
        let asked = tokio::task::spawn_blocking(move || plugin.ask(method, &question)).await;
        let answer = asked
            .map_err(|e| failed(e.to_string()))?
            .map_err(|e| failed(e.to_string()))?;
        let verdict: Verdict = serde_json::from_value(answer)
            .map_err(|e| failed(format!("answer of {method}: {e}")))?;
        decide(verdict)
    }
}

fn decide(verdict: Verdict) -> Result<(), Denied> {
    match verdict {
        Verdict { err, .. } if !err.is_empty() => Err(Denied::Failed(err)),
        Verdict { allow: true, .. } => Ok(()),
        Verdict { msg, .. } => Err(Denied::Refused(msg)),
    }
}

impl Question {
    pub(super) fn new(peer: &Peer, parts: &Parts, body: Option<Bytes>) -> Question {
        let pem = |der: &Vec<u8>| {
            let text = STANDARD.encode(der);
            let lines: Vec<&str> = text
                .as_bytes()
                .chunks(64)
                .filter_map(|line| std::str::from_utf8(line).ok())
                .collect();
            let text = lines.join("\n");
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
        Question {
            user: peer.certificate.clone().unwrap_or_default(),
            user_authn_method: peer.certificate.as_ref().map_or("", |_| "TLS").into(),
            method: parts.method.to_string(),
            uri: uri.to_owned(),
            body: body.map(|bytes| STANDARD.encode(bytes)).unwrap_or_default(),
            headers: flat(&parts.headers),
            certificates: peer.chain.iter().map(pem).collect(),
            ..Question::default()
        }
    }

    pub(super) fn answered(&mut self, answer: &Response<Body>, body: &[u8]) {
        self.status = Some(answer.status().as_u16());
        self.answer = STANDARD.encode(body);
        self.answer_headers = flat(answer.headers());
    }
}

/// One value each, the last; never the credentials for registries (moby `headers`). Spelled as Go spells them.
fn flat(headers: &HeaderMap) -> BTreeMap<String, String> {
    let told = headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-registry-auth" | "x-registry-config"));
    told.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (canonical(name.as_str()), value)
    })
    .collect()
}

/// `content-type` → `Content-Type`.
fn canonical(name: &str) -> String {
    let mut up = true;
    let spell = |c: char| {
        let spelled = if up { c.to_ascii_uppercase() } else { c };
        up = c == '-';
        spelled
    };
    name.chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_become_dockers_errors() {
        let decide = |text: &str| decide(serde_json::from_str(text).expect("json"));
        assert_eq!(decide(r#"{"Allow":true}"#), Ok(()));
        let denied = decide(r#"{"Allow":false,"Msg":"not you"}"#).expect_err("denied");
        let error = denied.into_error("p");
        assert_eq!(error.message, "authorization denied by plugin p: not you");
        assert_eq!(error.kind, Kind::Forbidden);
        let failed = decide(r#"{"Allow":true,"Err":"broken"}"#).expect_err("failed");
        assert_eq!(
            failed.into_error("p").message,
            "plugin p failed with error: broken"
        );
        assert!(decide("{}").is_err(), "silence is no consent");
    }

    #[test]
    fn credentials_are_not_shown() {
        let request = http::Request::builder()
            .method("POST")
            .uri("/v1.41/images/create?fromImage=a")
            .header("X-Registry-Auth", "secret")
            .header("content-type", "application/json");
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let peer = Peer {
            certificate: Some("ci".into()),
            chain: vec![vec![1, 2, 3]],
            process: None,
        };
        let question = Question::new(&peer, &parts, Some(Bytes::from_static(b"{}")));
        let json = serde_json::to_value(&question).expect("json");
        assert_eq!(json["User"], "ci");
        assert_eq!(json["UserAuthNMethod"], "TLS");
        assert_eq!(json["RequestUri"], "/v1.41/images/create?fromImage=a");
        assert_eq!(json["RequestBody"], "e30=");
        assert_eq!(
            json["RequestHeaders"],
            serde_json::json!({"Content-Type": "application/json"})
        );
        assert!(
            json["RequestPeerCertificates"][0]
                .as_str()
                .expect("text")
                .contains("AQID")
        );
    }
}
