//! Bearer tokens: from a token server with a password, or by OAuth2 with a refresh token (distribution spec, `token` and `oauth`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;

use crate::auth::Credentials;
use crate::error::RegistryError;
use crate::transport::{checked, limited, transport_error};

/// Tokens that do not say how long they live, live so long.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// No longer used so long before their end.
const MARGIN: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "docker";
const MAX_ANSWER: usize = 1 << 20;

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    pub(crate) realm: String,
    pub(crate) service: String,
    /// `repository:path:pull`; several for a mount.
    pub(crate) scopes: Vec<String>,
    pub(crate) credentials: Credentials,
}

/// Tokens that still live.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<TokenKey, (String, Instant)>>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// A token, fetched if there is none.
    pub(crate) async fn get(
        &self,
        client: &reqwest::Client,
        key: &TokenKey,
    ) -> Result<String, RegistryError> {
        if let Some((token, until)) = self.0.lock().get(key)
            && *until > Instant::now()
        {
            return Ok(token.clone());
        }
        let answer = fetch(client, key, false).await?;
        let life = answer
            .expires_in
            .map_or(DEFAULT_LIFE, Duration::from_secs)
            .max(DEFAULT_LIFE);
        let token = answer.secret()?;
        let mut tokens = self.0.lock();
        tokens.retain(|_, (_, until)| *until > Instant::now());
        tokens.insert(key.clone(), (token.clone(), Instant::now() + life - MARGIN));
        Ok(token)
    }

    /// A token was refused.
    pub(crate) fn forget(&self, key: &TokenKey) {
        self.0.lock().remove(key);
    }
}

/// What a token server answers.
#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    pub(crate) refresh_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Answer {
    pub(crate) fn secret(self) -> Result<String, RegistryError> {
        match (self.access_token.is_empty(), self.token.is_empty()) {
            (false, _) => Ok(self.access_token),
            (true, false) => Ok(self.token),
            (true, true) => Err(RegistryError::Invalid(
                "authorization server did not include a token in the response".to_owned(),
            )),
        }
    }
}

/// Asks the token server. `offline` asks for a refresh token too.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    key: &TokenKey,
    offline: bool,
) -> Result<Answer, RegistryError> {
    let refresh = &key.credentials.identity_token;
    let (method, request) = if refresh.is_empty() {
        ("get", get_request(client, key, offline))
    } else {
        ("post", oauth_request(client, key, refresh))
    };
    let response = request
        .send()
        .await
        .map_err(|error| transport_error(method, &key.realm, &error))?;
    let response = checked(response).await?;
    let body = limited(response, MAX_ANSWER).await.ok_or_else(|| {
        RegistryError::Invalid("token server: the answer is too long or broke off".to_owned())
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        RegistryError::Invalid(format!("unable to decode token response: {error}"))
    })
}

fn get_request(client: &reqwest::Client, key: &TokenKey, offline: bool) -> reqwest::RequestBuilder {
    let mut query: Vec<(&str, &str)> = vec![("service", &key.service)];
    query.extend(key.scopes.iter().map(|scope| ("scope", scope.as_str())));
    if offline {
        query.extend([("offline_token", "true"), ("client_id", CLIENT_ID)]);
    }
    let user = &key.credentials.username;
    if !user.is_empty() {
        query.push(("account", user));
    }
    let request = client.get(&key.realm).query(&query);
    match key.credentials.basic() {
        Some(basic) => request.header(http::header::AUTHORIZATION, basic),
        None => request,
    }
}

fn oauth_request(
    client: &reqwest::Client,
    key: &TokenKey,
    refresh: &str,
) -> reqwest::RequestBuilder {
    let scope = key.scopes.join(" ");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh),
        ("service", &key.service),
        ("scope", &scope),
        ("client_id", CLIENT_ID),
    ];
    client.post(&key.realm).form(&form)
}
