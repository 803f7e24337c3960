//! `docker login`: whether a registry takes credentials (moby `daemon/pkg/registry/auth.go`).

use crate::auth::Credentials;
use crate::challenge::Challenge;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::registry::Registry;
use crate::token::{self, TokenKey};
use crate::transport::{checked, transport_error};

/// Docker's name for its own registry in files of credentials.
pub const HUB_SERVER: &str = "https://index.docker.io/v1/";

impl Registry {
    /// Tries credentials at the registry they name. Returns a refresh token, or an empty text where the registry has none.
    pub async fn login(&self, credentials: &Credentials) -> Result<String, RegistryError> {
        let domain = domain_of(&credentials.server_address);
        let mut last = None;
        for endpoint in self.own_endpoints(&domain).await {
            match self.login_at(&endpoint, credentials).await {
                Err(
                    error @ RegistryError::Transport {
                        spoke_tls: false, ..
                    },
                ) => last = Some(error),
                outcome => return outcome,
            }
        }
        Err(last
            .unwrap_or_else(|| RegistryError::Invalid(format!("no endpoints found for {domain}"))))
    }

    async fn login_at(
        &self,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<String, RegistryError> {
        let (state, config) = (self.state(), self.config());
        state.forget_challenge(endpoint);
        let (client, challenge) = state.ping(&config, endpoint).await?;
        let url = endpoint.url("");
        let mut identity = String::new();
        let authorization = match &challenge {
            Challenge::None => None,
            Challenge::Basic => credentials.basic(),
            Challenge::Bearer { realm, service, .. } => {
                let key = TokenKey {
                    realm: realm.clone(),
                    service: service.clone(),
                    scopes: Vec::new(),
                    credentials: credentials.clone(),
                };
                let answer = token::fetch(&client, &key, true)
                    .await
                    .map_err(|error| in_request(error, &url))?;
                identity.clone_from(&answer.refresh_token);
                Some(format!("Bearer {}", answer.secret()?))
            }
        };
        let mut request = client.get(&url);
        if let Some(value) = authorization {
            request = request.header(http::header::AUTHORIZATION, value);
        }
        let response = request
            .send()
            .await
            .map_err(|error| transport_error("get", &url, &error))?;
        if response.status() == http::StatusCode::UNAUTHORIZED {
            return Err(RegistryError::Status {
                status: 401,
                text: format!("login attempt to {url} failed with status: 401 Unauthorized"),
                retry_after: None,
            });
        }
        checked(response).await?;
        Ok(identity)
    }
}

/// The token server's refusal is told as that of the request that needed the token, as Go's `url.Error`.
fn in_request(error: RegistryError, url: &str) -> RegistryError {
    match error.status() {
        Some(status @ (401 | 403)) => RegistryError::Status {
            status,
            text: format!("Get \"{url}\": {error}"),
            retry_after: None,
        },
        _ => error,
    }
}

/// `host[:port]` of what a user gave as a server.
pub fn domain_of(server: &str) -> String {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_name_registries() {
        for (server, expected) in [
            ("", "docker.io"),
            (HUB_SERVER, "docker.io"),
            ("http://r:5000/v2/", "r:5000"),
            ("ghcr.io", "ghcr.io"),
        ] {
            assert_eq!(domain_of(server), expected);
        }
    }
}
