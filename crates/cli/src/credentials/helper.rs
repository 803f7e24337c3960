//! `docker-credential-<name>`: a verb as argument, the server or JSON on standard input, JSON on standard output.

use std::io::Write;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::Auth;
use crate::failure::Failure;

/// What helpers say when they have nothing.
pub(super) const NOT_FOUND: &str = "credentials not found in native keychain";
/// Stands for a user where there is only a token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    #[serde(rename = "ServerURL")]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

pub(super) fn get(name: &str, server: &str) -> Result<Auth, Failure> {
    let text = match run(name, "get", server) {
        Ok(text) => text,
        Err(failure) if failure.message.contains(NOT_FOUND) => return Ok(Auth::default()),
        Err(failure) => return Err(failure),
    };
    let answer: Answer = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("error getting credentials - {error}: {name}")))?;
    Ok(auth_of(server, answer.username, answer.secret))
}

pub(super) fn store(name: &str, auth: &Auth) -> Result<(), Failure> {
    let (user, secret) = user_and_secret(auth);
    let input = json!({"ServerURL": auth.server, "Username": user, "Secret": secret});
    run(name, "store", &input.to_string()).map(drop)
}

/// What a helper answers to `get`.
pub(super) fn answer(server: &str, auth: &Auth) -> Result<String, Failure> {
    let (user, secret) = user_and_secret(auth);
    Ok(json!({"ServerURL": server, "Username": user, "Secret": secret}).to_string())
}

/// What a helper is given by `store`.
pub(super) fn parse(input: &str) -> Result<Auth, Failure> {
    let given: Given = serde_json::from_str(input)
        .map_err(|error| Failure::new(format!("error storing credentials - {error}")))?;
    Ok(auth_of(&given.server_url, given.username, given.secret))
}

fn user_and_secret(auth: &Auth) -> (&str, &str) {
    if auth.identity_token.is_empty() {
        (&auth.username, &auth.password)
    } else {
        (TOKEN_USER, &auth.identity_token)
    }
}

fn auth_of(server: &str, username: String, secret: String) -> Auth {
    let mut auth = Auth {
        server: server.to_owned(),
        ..Auth::default()
    };
    if username == TOKEN_USER {
        auth.identity_token = secret;
    } else {
        (auth.username, auth.password) = (username, secret);
    }
    auth
}

pub(super) fn erase(name: &str, server: &str) -> Result<(), Failure> {
    run(name, "erase", server).map(drop)
}

fn run(name: &str, verb: &str, input: &str) -> Result<String, Failure> {
    let program = format!("docker-credential-{name}");
    let what = match verb {
        "get" => "getting",
        "store" => "storing",
        _ => "erasing",
    };
    let failed = |why: String| Failure::new(format!("error {what} credentials - err: {why}"));
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => failed(format!(
                "exec: {program:?}: executable file not found in $PATH, out: ``"
            )),
            _ => failed(error.to_string()),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read has its reason, which its exit code tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(text)
    } else {
        let code = output.status.code().unwrap_or(-1);
        Err(failed(format!("exit status {code}, out: `{text}`")))
    }
}
