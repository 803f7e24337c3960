//! `--use-api-socket`: a container that talks to its own engine gets the engine's socket and the user's credentials.

use serde_json::{Map, Value, json};
use wharf_api::container::CreateRequest;

use crate::client::ClientError;
use crate::client::endpoint::Endpoint;
use crate::client::request::Request;
use crate::credentials;
use crate::session::Session;

/// Where clients look for the socket.
const SOCKET: &str = "/var/run/docker.sock";
/// Where the credentials are, from the root.
const CONFIG: &str = "run/secrets/docker/config.json";

/// Binds the socket, and names the place of the credentials unless the user names another.
pub fn plan(session: &Session, request: &mut CreateRequest) {
    let source = match session.client.endpoint() {
        Endpoint::Unix(path) => path.to_string_lossy().into_owned(),
        // On the machine of the daemon, which may be elsewhere.
        _ => SOCKET.to_owned(),
    };
    let host = request.host_config.get_or_insert_default();
    host.binds
        .get_or_insert_default()
        .push(format!("{source}:{SOCKET}"));
    let env = request.config.env.get_or_insert_default();
    if !env.iter().any(|pair| pair.starts_with("DOCKER_CONFIG=")) && !auths(session).is_empty() {
        env.push("DOCKER_CONFIG=/run/secrets/docker".to_owned());
    }
}

/// Puts the credentials into the container that was made.
///
/// # Errors
/// The daemon does not take them.
pub fn deliver(session: &Session, id: &str) -> Result<(), ClientError> {
    let auths = auths(session);
    if auths.is_empty() {
        return Ok(());
    }
    let text = json!({ "auths": auths }).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o600);
    let mut tar = tar::Builder::new(Vec::new());
    let bytes = tar
        .append_data(&mut header, CONFIG, text.as_bytes())
        .and_then(|()| tar.into_inner())
        .map_err(ClientError::Body)?;
    let request = Request::new("PUT", format!("/containers/{id}/archive")).query("path", "/");
    session
        .client
        .done(request.stream(&mut &*bytes, "application/x-tar"))
}

fn auths(session: &Session) -> Map<String, Value> {
    use base64::Engine as _;
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    credentials::all(session)
        .into_iter()
        .filter(|(_, auth)| !auth.is_empty())
        .map(|(server, auth)| {
            let mut entry = Map::new();
            if !auth.username.is_empty() {
                let pair = format!("{}:{}", auth.username, auth.password);
                entry.insert("auth".to_owned(), json!(encode(pair)));
            }
            if !auth.identity_token.is_empty() {
                entry.insert("identitytoken".to_owned(), json!(auth.identity_token));
            }
            (server, Value::Object(entry))
        })
        .collect()
}
