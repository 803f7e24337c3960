//! The client itself: what is shared by all requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use wharf_spec::reference::Reference;

use crate::auth::Credentials;
use crate::challenge::Challenge;
use crate::config::{Config, host_of};
use crate::endpoint::{Endpoint, own_endpoints, pull_endpoints};
use crate::error::RegistryError;
use crate::repository::Repository;
use crate::token::Tokens;
use crate::transport::{Clients, transport_error};

/// What a registry wants is asked again after so long.
const CHALLENGE_LIFE: Duration = Duration::from_secs(60);
/// A mirror that failed is asked again after so long.
const SICK_FOR: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of registries. Cheap to clone; one per daemon.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: RwLock<Arc<Config>>,
    state: RwLock<Arc<State>>,
}

/// What a change of the settings makes void.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) clients: Clients,
    pub(crate) tokens: Tokens,
    challenges: Mutex<HashMap<Endpoint, (Challenge, Instant)>>,
    sick: Mutex<HashMap<Endpoint, Instant>>,
}

impl Registry {
    /// A client with these settings.
    pub fn new(config: Config) -> Registry {
        Registry(Arc::new(Shared {
            config: RwLock::new(Arc::new(config)),
            state: RwLock::default(),
        }))
    }

    /// Changes the settings for requests from now on.
    pub fn configure(&self, config: Config) {
        *self.0.config.write() = Arc::new(config);
        *self.0.state.write() = Arc::default();
    }

    /// The settings of the moment.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.read().clone()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.0.state.read().clone()
    }

    /// A repository to pull from, at the mirrors of its registry and itself.
    pub async fn pull(&self, name: &Reference, credentials: &Credentials) -> Repository {
        let addresses = self.insecure_addresses(name.domain()).await;
        let endpoints = pull_endpoints(&self.config(), name.domain(), &addresses);
        Repository::new(self, name, credentials, endpoints, "pull")
    }

    /// A repository to push to.
    pub async fn push(&self, name: &Reference, credentials: &Credentials) -> Repository {
        let endpoints = self.own_endpoints(name.domain()).await;
        Repository::new(self, name, credentials, endpoints, "pull,push")
    }

    pub(crate) async fn own_endpoints(&self, domain: &str) -> Vec<Endpoint> {
        let addresses = self.insecure_addresses(domain).await;
        own_endpoints(&self.config(), domain, &addresses)
    }

    /// Addresses of a registry's name, if networks are configured as insecure and could hold them.
    async fn insecure_addresses(&self, domain: &str) -> Vec<std::net::IpAddr> {
        if !self.config().has_insecure_networks() {
            return Vec::new();
        }
        self.state()
            .clients
            .dns
            .lookup(host_of(domain))
            .await
            .unwrap_or_default()
    }
}

impl State {
    /// What the registry wants, by `GET /v2/`, and the client to talk to it with.
    pub(crate) async fn ping(
        &self,
        config: &Config,
        endpoint: &Endpoint,
    ) -> Result<(reqwest::Client, Challenge), RegistryError> {
        let client = self
            .clients
            .get(config, &endpoint.authority(), endpoint.verify)?;
        if let Some((challenge, since)) = self.challenges.lock().get(endpoint)
            && since.elapsed() < CHALLENGE_LIFE
        {
            return Ok((client, challenge.clone()));
        }
        let url = endpoint.url("");
        let request = client.get(&url).timeout(PING_TIMEOUT);
        let response = request
            .send()
            .await
            .map_err(|error| transport_error("get", &url, &error))?;
        let challenge = challenge_of(&response);
        self.challenges
            .lock()
            .insert(endpoint.clone(), (challenge.clone(), Instant::now()));
        Ok((client, challenge))
    }

    /// What the registry wants is not what it was.
    pub(crate) fn forget_challenge(&self, endpoint: &Endpoint) {
        self.challenges.lock().remove(endpoint);
    }

    /// Whether a mirror failed a moment ago.
    pub(crate) fn is_sick(&self, endpoint: &Endpoint) -> bool {
        self.sick
            .lock()
            .get(endpoint)
            .is_some_and(|since| since.elapsed() < SICK_FOR)
    }

    /// Notes whether a mirror works.
    pub(crate) fn set_health(&self, endpoint: &Endpoint, healthy: bool) {
        let mut sick = self.sick.lock();
        if healthy {
            sick.remove(endpoint);
        } else if sick.insert(endpoint.clone(), Instant::now()).is_none() {
            tracing::warn!(mirror = %endpoint.base, "mirror does not work, left alone for a while");
        }
    }
}

/// What an answer with status 401 asks for.
pub(crate) fn challenge_of(response: &reqwest::Response) -> Challenge {
    if response.status() != http::StatusCode::UNAUTHORIZED {
        return Challenge::None;
    }
    let headers = response.headers().get_all(http::header::WWW_AUTHENTICATE);
    Challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()))
}
