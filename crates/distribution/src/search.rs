//! `docker search`: the first version of the registry API, which has survived for this alone.

use serde::Deserialize;

use crate::auth::Credentials;
use crate::error::{RegistryError, status_line};
use crate::registry::Registry;
use crate::transport::{limited, transport_error};

const HUB: &str = "index.docker.io";
const MAX_ANSWER: usize = 8 << 20;

/// One hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hit {
    /// Repository.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Stars.
    pub star_count: i64,
    /// One of Docker's own.
    pub is_official: bool,
    /// Obsolete.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Option<Vec<Hit>>,
}

impl Registry {
    /// Hits for `term`, which may begin with a registry.
    pub async fn search(
        &self,
        term: &str,
        limit: u32,
        credentials: &Credentials,
    ) -> Result<Vec<Hit>, RegistryError> {
        let (domain, remainder) = split_term(term);
        let mut last = None;
        for endpoint in self.own_endpoints(domain).await {
            let authority = if domain == HUB {
                HUB.to_owned()
            } else {
                endpoint.authority()
            };
            let client = self
                .state()
                .clients
                .get(&self.config(), &authority, endpoint.verify)?;
            let url = url::Url::parse_with_params(
                &format!("{}://{authority}/v1/search", endpoint.base.scheme()),
                [("q", remainder), ("n", &limit.to_string())],
            )
            .map_err(|error| RegistryError::Invalid(error.to_string()))?;
            let mut request = client.get(url.as_str()).header("X-Docker-Token", "true");
            if let Some(basic) = credentials.basic() {
                request = request.header(http::header::AUTHORIZATION, basic);
            }
            match request.send().await {
                Ok(response) => return read(response).await,
                Err(error) => last = Some(transport_error("get", url.as_str(), &error)),
            }
        }
        Err(last
            .unwrap_or_else(|| RegistryError::Invalid(format!("no endpoints found for {domain}"))))
    }
}

async fn read(response: reqwest::Response) -> Result<Vec<Hit>, RegistryError> {
    let status = response.status().as_u16();
    if status != 200 {
        return Err(RegistryError::Status {
            status,
            text: format!("Unexpected status code {status} ({})", status_line(status)),
            retry_after: None,
        });
    }
    let body = limited(response, MAX_ANSWER).await.ok_or_else(|| {
        RegistryError::Invalid("answer to a search is too long, or broke off".to_owned())
    })?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
        RegistryError::Invalid(format!("error decoding registry search results: {error}"))
    })?;
    Ok(answer.results.unwrap_or_default())
}

/// The registry and what is sought there. `library/` is left out at Docker's own.
fn split_term(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            if matches!(first, "docker.io" | HUB) {
                (HUB, rest.strip_prefix("library/").unwrap_or(rest))
            } else {
                (first, rest)
            }
        }
        _ => (HUB, term.strip_prefix("library/").unwrap_or(term)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms() {
        for (term, expected) in [
            ("nginx", (HUB, "nginx")),
            ("library/nginx", (HUB, "nginx")),
            ("me/x", (HUB, "me/x")),
            ("r:5000/x", ("r:5000", "x")),
            ("docker.io/library/x", (HUB, "x")),
        ] {
            assert_eq!(split_term(term), expected);
        }
    }
}
