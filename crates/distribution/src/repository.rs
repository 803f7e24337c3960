//! One repository: requests with authentication, at the first place that serves it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, HeaderName};
use reqwest::{Body, Response};
use wharf_spec::reference::Reference;

use crate::auth::Credentials;
use crate::challenge::Challenge;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::registry::{Registry, challenge_of};
use crate::token::TokenKey;
use crate::transport::{checked, transport_error};

/// The first pause before a request is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// No pause is longer, whatever a registry asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One repository of one registry, with its mirrors. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    name: Reference,
    credentials: Credentials,
    endpoints: Vec<Endpoint>,
    /// The endpoint that served last.
    current: AtomicUsize,
    actions: &'static str,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Below the repository, or a whole address.
    pub(crate) target: Target,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<bytes::Bytes>,
    /// A further repository that is read (cross-repository mounts).
    pub(crate) also_pull: Option<String>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// `manifests/latest`
    Path(String),
    /// An address the registry gave.
    Url(String),
}

impl Ask {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Ask {
        Ask {
            method,
            target: Target::Path(path.into()),
            headers: Vec::new(),
            body: None,
            also_pull: None,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Ask {
        Ask::new(Method::GET, path)
    }

    pub(crate) fn url(method: Method, url: impl Into<String>) -> Ask {
        Ask {
            target: Target::Url(url.into()),
            ..Ask::new(method, "")
        }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Ask {
        self.headers.push((name, value.into()));
        self
    }
}

impl Repository {
    pub(crate) fn new(
        registry: &Registry,
        name: &Reference,
        credentials: &Credentials,
        endpoints: Vec<Endpoint>,
        actions: &'static str,
    ) -> Repository {
        Repository(Arc::new(Inner {
            registry: registry.clone(),
            name: name.clone(),
            credentials: credentials.clone(),
            endpoints,
            current: AtomicUsize::new(0),
            actions,
        }))
    }

    /// The repository's name.
    pub fn name(&self) -> &Reference {
        &self.0.name
    }

    /// How often to try.
    pub(crate) fn attempts(&self) -> u32 {
        self.0.registry.config().attempts.max(1)
    }

    /// Sends a request, again after passing failures, at each endpoint until one serves it.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Response, RegistryError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.ask_once(ask).await {
                Err(error) if attempt < self.attempts() && is_passing(&error) => {
                    let wait = error.retry_after().unwrap_or(pause).min(LONGEST_PAUSE);
                    tracing::debug!(%error, ?wait, attempt, "registry asked again");
                    tokio::time::sleep(wait).await;
                    pause *= 2;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Sends a request once to each endpoint until one serves it.
    pub(crate) async fn ask_once(&self, ask: &Ask) -> Result<Response, RegistryError> {
        let state = self.0.registry.state();
        let (mut last, mut encrypted) = (None, HashSet::new());
        for index in self.order() {
            let endpoint = &self.0.endpoints[index];
            if endpoint.base.scheme() == "http" && encrypted.contains(&endpoint.authority()) {
                continue;
            }
            let error = match self.ask_endpoint(endpoint, ask).await {
                Ok(response) => {
                    self.0.current.store(index, Ordering::Relaxed);
                    if endpoint.mirror {
                        state.set_health(endpoint, true);
                    }
                    return Ok(response);
                }
                Err(error) => error,
            };
            if endpoint.mirror && (error.status().is_none() || error.status() >= Some(500)) {
                state.set_health(endpoint, false);
            }
            if endpoint.base.scheme() == "https" && is_encrypted(&error) {
                encrypted.insert(endpoint.authority());
            }
            let next = endpoint.mirror || matches!(error, RegistryError::Transport { .. });
            if !next {
                return Err(error);
            }
            tracing::debug!(endpoint = %endpoint.base, %error, "trying the next endpoint");
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| {
            RegistryError::Invalid(format!("no endpoints found for {}", self.0.name.familiar()))
        }))
    }

    /// The endpoint that served last first; mirrors that failed a moment ago last.
    fn order(&self) -> Vec<usize> {
        let state = self.0.registry.state();
        let current = self.0.current.load(Ordering::Relaxed);
        let mut order: Vec<usize> = (0..self.0.endpoints.len()).collect();
        order.sort_by_key(|index| {
            let endpoint = &self.0.endpoints[*index];
            (
                *index != current || current == 0,
                endpoint.mirror && state.is_sick(endpoint),
                *index,
            )
        });
        order
    }

    async fn ask_endpoint(
        &self,
        endpoint: &Endpoint,
        ask: &Ask,
    ) -> Result<Response, RegistryError> {
        let (state, config) = (self.0.registry.state(), self.0.registry.config());
        let (client, challenge) = state.ping(&config, endpoint).await?;
        let url = match &ask.target {
            Target::Path(path) => endpoint.url(&format!("{}/{path}", self.0.name.path())),
            Target::Url(url) => url.clone(),
        };
        let authorization = self
            .authorization(&client, endpoint, &challenge, ask, &url)
            .await?;
        let response = send(&client, ask, &url, authorization.as_deref()).await?;
        if response.status() != http::StatusCode::UNAUTHORIZED {
            return checked(response).await;
        }
        // The token expired or has too small a scope, or only this path is protected.
        let fresh = challenge_of(&response);
        if fresh == Challenge::None {
            return checked(response).await;
        }
        if fresh != challenge {
            state.forget_challenge(endpoint);
        }
        if let Some(key) = self.token_key(endpoint, &challenge, ask) {
            state.tokens.forget(&key);
        }
        let again = self
            .authorization(&client, endpoint, &fresh, ask, &url)
            .await?;
        if again.is_none() || (again == authorization && fresh == Challenge::Basic) {
            return checked(response).await;
        }
        checked(send(&client, ask, &url, again.as_deref()).await?).await
    }

    /// The value of `Authorization`; none for another server that the registry sends us to.
    async fn authorization(
        &self,
        client: &reqwest::Client,
        endpoint: &Endpoint,
        challenge: &Challenge,
        ask: &Ask,
        url: &str,
    ) -> Result<Option<String>, RegistryError> {
        if matches!(ask.target, Target::Url(_)) && !same_host(url, endpoint) {
            return Ok(None);
        }
        let credentials = self.credentials(endpoint);
        if !credentials.registry_token.is_empty() {
            return Ok(Some(format!("Bearer {}", credentials.registry_token)));
        }
        match challenge {
            Challenge::None => Ok(None),
            Challenge::Basic => match credentials.basic() {
                Some(basic) => Ok(Some(basic)),
                None => Err(RegistryError::NoCredentials {
                    url: format!("{} {url:?}", method_name(&ask.method)),
                }),
            },
            Challenge::Bearer { .. } => {
                let Some(key) = self.token_key(endpoint, challenge, ask) else {
                    return Ok(None);
                };
                let token = self.0.registry.state().tokens.get(client, &key).await?;
                Ok(Some(format!("Bearer {token}")))
            }
        }
    }

    fn token_key(&self, endpoint: &Endpoint, challenge: &Challenge, ask: &Ask) -> Option<TokenKey> {
        let Challenge::Bearer { realm, service, .. } = challenge else {
            return None;
        };
        let mut scopes = vec![format!(
            "repository:{}:{}",
            self.0.name.path(),
            self.0.actions
        )];
        if let Some(from) = &ask.also_pull {
            scopes.push(format!("repository:{from}:pull"));
        }
        Some(TokenKey {
            realm: realm.clone(),
            service: service.clone(),
            scopes,
            credentials: self.credentials(endpoint),
        })
    }

    /// A mirror is another server: it does not get the registry's password.
    fn credentials(&self, endpoint: &Endpoint) -> Credentials {
        if endpoint.mirror {
            Credentials::default()
        } else {
            self.0.credentials.clone()
        }
    }

    /// Sends a body of unknown length to an address the registry gave, once: a stream cannot be repeated.
    pub(crate) async fn send_stream(
        &self,
        method: Method,
        url: &str,
        headers: &[(HeaderName, String)],
        body: Body,
    ) -> Result<Response, RegistryError> {
        let endpoint = &self.0.endpoints[self.0.current.load(Ordering::Relaxed)];
        let (state, config) = (self.0.registry.state(), self.0.registry.config());
        let (client, challenge) = state.ping(&config, endpoint).await?;
        let ask = Ask::url(method.clone(), url);
        let authorization = self
            .authorization(&client, endpoint, &challenge, &ask, url)
            .await?;
        let mut request = client.request(method.clone(), url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await;
        let response = response.map_err(|error| transport_error(method.as_str(), url, &error))?;
        if response.status() == http::StatusCode::UNAUTHORIZED
            && let Some(key) = self.token_key(endpoint, &challenge, &ask)
        {
            // It ended earlier than it said; whoever tries again gets another one.
            state.tokens.forget(&key);
        }
        checked(response).await
    }

    /// Makes an address the registry gave absolute.
    pub(crate) fn absolute(&self, location: &str) -> Result<url::Url, RegistryError> {
        let endpoint = &self.0.endpoints[self.0.current.load(Ordering::Relaxed)];
        endpoint
            .base
            .join(location)
            .map_err(|error| RegistryError::Invalid(format!("bad Location {location:?}: {error}")))
    }
}

fn same_host(url: &str, endpoint: &Endpoint) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.host_str() == endpoint.base.host_str())
}

async fn send(
    client: &reqwest::Client,
    ask: &Ask,
    url: &str,
    authorization: Option<&str>,
) -> Result<Response, RegistryError> {
    let mut request = client.request(ask.method.clone(), url);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    if let Some(body) = &ask.body {
        request = request.body(body.clone());
    }
    let response = request.send().await;
    response.map_err(|error| transport_error(ask.method.as_str(), url, &error))
}

/// `Get` as Go writes it.
fn method_name(method: &Method) -> String {
    let lower = method.as_str().to_ascii_lowercase();
    lower[..1].to_ascii_uppercase() + &lower[1..]
}

/// What connects to nothing will not do so in a second either; what broke off may.
fn is_passing(error: &RegistryError) -> bool {
    match error {
        RegistryError::Transport { text, .. } => !text.starts_with("dial ") && error.may_pass(),
        _ => error.may_pass(),
    }
}

fn is_encrypted(error: &RegistryError) -> bool {
    match error {
        RegistryError::Transport { spoke_tls, .. } => *spoke_tls,
        _ => true,
    }
}
