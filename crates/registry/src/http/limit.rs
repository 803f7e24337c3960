//! How much one client may ask for: requests per second, manifests per window.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::LimitsConfig;

/// Clients remembered; beyond, those are forgotten that have not asked for longest.
const REMEMBERED: usize = 20_000;

/// What clients have used up.
#[derive(Debug)]
pub struct Limits {
    config: LimitsConfig,
    clients: Mutex<HashMap<String, Client>>,
}

#[derive(Debug, Clone)]
struct Client {
    tokens: f64,
    seen: Instant,
    pulls: u32,
    window: Instant,
}

/// What is left of a client's pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Allowed in all.
    pub limit: u32,
    /// Left.
    pub remaining: u32,
    /// In which time.
    pub window: Duration,
    /// Until it begins anew.
    pub reset: Duration,
}

impl Limits {
    /// As configured.
    pub fn new(config: LimitsConfig) -> Limits {
        Limits {
            config,
            clients: Mutex::default(),
        }
    }

    /// One more request. An error says after which time one is allowed.
    ///
    /// # Errors
    /// Too many in too short a time.
    pub fn request(&self, client: &str) -> Result<(), Duration> {
        if self.config.requests_per_second == 0 {
            return Ok(());
        }
        let rate = f64::from(self.config.requests_per_second);
        let burst = match self.config.burst {
            0 => rate,
            burst => f64::from(burst),
        };
        self.with(client, burst, |client, now| {
            let since = now.duration_since(client.seen).as_secs_f64();
            client.tokens = (client.tokens + since * rate).min(burst.max(1.0));
            client.seen = now;
            if client.tokens >= 1.0 {
                client.tokens -= 1.0;
                return Ok(());
            }
            Err(Duration::from_secs_f64((1.0 - client.tokens) / rate))
        })
    }

    /// One more manifest; `None` without a limit, an error once there is nothing left.
    ///
    /// # Errors
    /// What [`Left`] says: nothing remains.
    pub fn pull(&self, client: &str) -> Result<Option<Left>, Left> {
        let limit = self.config.pulls;
        if limit == 0 {
            return Ok(None);
        }
        let window = match self.config.pull_window {
            Duration::ZERO => Duration::from_secs(3600),
            window => window,
        };
        self.with(
            client,
            f64::from(self.config.burst.max(1)),
            |client, now| {
                if now.duration_since(client.window) >= window {
                    client.window = now;
                    client.pulls = 0;
                }
                let reset = window.saturating_sub(now.duration_since(client.window));
                let left = |remaining| Left {
                    limit,
                    remaining,
                    window,
                    reset,
                };
                if client.pulls >= limit {
                    return Err(left(0));
                }
                client.pulls += 1;
                Ok(Some(left(limit - client.pulls)))
            },
        )
    }

    fn with<T>(&self, name: &str, burst: f64, act: impl FnOnce(&mut Client, Instant) -> T) -> T {
        let now = Instant::now();
        let mut clients = self.clients.lock();
        if clients.len() >= REMEMBERED && !clients.contains_key(name) {
            let mut seen: Vec<Instant> = clients.values().map(|client| client.seen).collect();
            let middle = seen.len() / 2;
            let (_, median, _) = seen.select_nth_unstable(middle);
            let median = *median;
            clients.retain(|_, client| client.seen > median);
        }
        let client = clients.entry(name.to_owned()).or_insert(Client {
            tokens: burst.max(1.0),
            seen: now,
            pulls: 0,
            window: now,
        });
        act(client, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_measure() {
        let limits = Limits::new(LimitsConfig {
            requests_per_second: 1,
            burst: 2,
            pulls: 2,
            pull_window: Duration::from_secs(3600),
        });
        assert!(limits.request("a").is_ok() && limits.request("a").is_ok());
        assert!(limits.request("a").is_err());
        assert!(limits.request("b").is_ok());
        assert_eq!(
            limits.pull("a").map(|left| left.map(|left| left.remaining)),
            Ok(Some(1))
        );
        assert!(limits.pull("a").is_ok());
        assert_eq!(limits.pull("a").map_err(|left| left.remaining), Err(0));
        assert!(limits.pull("b").is_ok());
    }

    #[test]
    fn no_limit_is_none() {
        let limits = Limits::new(LimitsConfig::default());
        assert!((0..1000).all(|_| limits.request("a").is_ok()));
        assert_eq!(limits.pull("a"), Ok(None));
    }
}
