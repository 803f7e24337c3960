//! Robot accounts: a name, a secret of our making, an expiry, and what it may do. They lie in the store, so that all replicas know them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::config::Action;
use crate::name::{self, RepoName};
use crate::storage::{Storage, StorageError, keys};

/// How their names begin.
pub const PREFIX: &str = "robot$";

/// For how long one is believed without asking the store.
const REMEMBERED: Duration = Duration::from_secs(5);

/// A robot account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Robot {
    /// With [`PREFIX`].
    pub name: String,
    /// sha256 of the secret, which has 256 random bits: no slow hash is needed.
    pub secret: String,
    /// Patterns of names.
    pub repositories: Vec<String>,
    /// What it may do there.
    pub actions: Vec<Action>,
    /// Until when.
    pub expires: Option<Timestamp>,
}

impl Robot {
    /// A new one with its secret, which is not kept.
    pub fn new(
        name: &str,
        repositories: Vec<String>,
        actions: Vec<Action>,
        expires: Option<Timestamp>,
    ) -> (Robot, String) {
        let secret = URL_SAFE_NO_PAD.encode(crate::random::bytes::<32>());
        let robot = Robot {
            name: format!("{PREFIX}{name}"),
            secret: hash(&secret),
            repositories,
            actions,
            expires,
        };
        (robot, secret)
    }

    /// Whether it may do something.
    pub fn allows(&self, repo: &RepoName, action: Action) -> bool {
        self.actions.contains(&action)
            && self
                .repositories
                .iter()
                .any(|pattern| name::matches(pattern, repo.as_str()))
    }

    fn is(&self, secret: &str) -> bool {
        let fresh = self
            .expires
            .is_none_or(|expires| Timestamp::now() < expires);
        // How far two hashes agree tells nothing about a secret that was never guessed.
        fresh && hash(secret) == self.secret
    }
}

fn hash(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()))
}

/// Whether the text can stand after [`PREFIX`].
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Robot accounts, as this process knows them.
#[derive(Debug)]
pub struct Robots {
    storage: Storage,
    known: Mutex<HashMap<String, (Arc<Robot>, Instant)>>,
}

impl Robots {
    /// Those in a store.
    pub fn new(storage: Storage) -> Robots {
        Robots {
            storage,
            known: Mutex::default(),
        }
    }

    /// The account, if the secret is its own and it has not expired.
    pub async fn login(
        &self,
        name: &str,
        secret: &str,
    ) -> Result<Option<Arc<Robot>>, StorageError> {
        let known = self
            .known
            .lock()
            .get(name)
            .filter(|(_, read)| read.elapsed() < REMEMBERED)
            .map(|(robot, _)| robot.clone());
        let robot = match known {
            Some(robot) => robot,
            None => {
                let Some(robot) = load(&self.storage, name).await? else {
                    self.known.lock().remove(name);
                    return Ok(None);
                };
                let robot = Arc::new(robot);
                self.known
                    .lock()
                    .insert(name.to_owned(), (robot.clone(), Instant::now()));
                robot
            }
        };
        Ok(robot.is(secret).then_some(robot))
    }
}

async fn load(storage: &Storage, name: &str) -> Result<Option<Robot>, StorageError> {
    let Some(short) = name.strip_prefix(PREFIX).filter(|name| is_name(name)) else {
        return Ok(None);
    };
    let bytes = storage.get(&format!("{}{short}", keys::ROBOTS)).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Keeps an account in a store.
pub async fn save(storage: &Storage, robot: &Robot) -> Result<(), StorageError> {
    let short = robot.name.trim_start_matches(PREFIX);
    let text = serde_json::to_vec(robot).expect("plain values serialize");
    storage
        .put(&format!("{}{short}", keys::ROBOTS), Bytes::from(text))
        .await
}

/// Removes an account; tells whether there was one.
pub async fn remove(storage: &Storage, name: &str) -> Result<bool, StorageError> {
    let key = format!("{}{}", keys::ROBOTS, name.trim_start_matches(PREFIX));
    Ok(storage.stat(&key).await?.is_some() && storage.delete(&key).await?)
}

/// All accounts of a store, by name.
pub async fn list(storage: &Storage) -> Result<Vec<Robot>, StorageError> {
    let mut robots = Vec::new();
    for entry in storage.list(keys::ROBOTS).await? {
        robots.extend(load(storage, &format!("{PREFIX}{}", entry.name)).await?);
    }
    Ok(robots)
}
