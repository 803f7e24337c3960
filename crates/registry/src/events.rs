//! What happens, told to receivers over HTTP. The form is that of Docker's registry (`application/vnd.docker.distribution.events.v1+json`), so that
//! what listens to that one listens to this one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::config::Webhook;
use crate::metrics::Metrics;
use crate::name::{self, RepoName};
use crate::upstream::client::Client;

/// Events that wait for a receiver; further ones are lost, and counted.
const WAITING: usize = 10_000;

/// The longest time between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The type of the envelope.
const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v1+json";

/// Something that happened to a repository.
#[derive(Debug, Clone)]
pub struct Event {
    /// `push`, `pull`, `delete`, `mount`.
    pub action: &'static str,
    /// Where.
    pub repository: RepoName,
    /// To what.
    pub digest: Option<String>,
    /// Its media type.
    pub media_type: String,
    /// Its size.
    pub size: u64,
    /// By which tag.
    pub tag: Option<String>,
    /// Mounted from where.
    pub from: Option<String>,
}

/// The request that made it happen.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Id of the request.
    pub id: String,
    /// Client.
    pub address: String,
    /// As the client calls us.
    pub host: String,
    /// `https://host`.
    pub base: String,
    /// Method.
    pub method: String,
    /// Program.
    pub user_agent: String,
    /// Who.
    pub actor: String,
}

/// Where events go in.
#[derive(Debug, Default)]
pub struct Events {
    receivers: Vec<Receiver>,
}

#[derive(Debug)]
struct Receiver {
    hook: Webhook,
    queue: mpsc::Sender<Value>,
}

impl Events {
    /// Starts a task for each receiver.
    pub fn start(hooks: &[Webhook], client: &Client, metrics: &Arc<Metrics>) -> Events {
        let receivers = hooks
            .iter()
            .map(|hook| {
                let (queue, waiting) = mpsc::channel(WAITING);
                tokio::spawn(deliver(
                    hook.clone(),
                    waiting,
                    client.clone(),
                    metrics.clone(),
                ));
                Receiver {
                    hook: hook.clone(),
                    queue,
                }
            })
            .collect();
        Events { receivers }
    }

    /// Whether nobody wants to know anything.
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty()
    }

    /// Tells everybody who wants to know. Never waits.
    pub fn tell(&self, event: &Event, origin: &Origin, metrics: &Metrics) {
        Metrics::count(&metrics.events, event.action, 1);
        let mut written = None;
        for receiver in &self.receivers {
            let hook = &receiver.hook;
            let wants =
                hook.events.is_empty() || hook.events.iter().any(|action| action == event.action);
            let about = hook
                .repositories
                .iter()
                .any(|pattern| name::matches(pattern, event.repository.as_str()));
            if !wants || !about {
                continue;
            }
            let value = written.get_or_insert_with(|| write(event, origin)).clone();
            if receiver.queue.try_send(value).is_err() {
                metrics.lost_events.inc();
            }
        }
    }
}

fn write(event: &Event, origin: &Origin) -> Value {
    let kind = if event.media_type == "application/octet-stream" {
        "blobs"
    } else {
        "manifests"
    };
    let mut target = json!({
        "mediaType": event.media_type,
        "size": event.size,
        "length": event.size,
        "repository": event.repository.as_str(),
    });
    if let Some(digest) = &event.digest {
        target["digest"] = json!(digest);
        target["url"] = json!(format!(
            "{}/v2/{}/{kind}/{digest}",
            origin.base, event.repository
        ));
    }
    if let Some(tag) = &event.tag {
        target["tag"] = json!(tag);
    }
    if let Some(from) = &event.from {
        target["fromRepository"] = json!(from);
    }
    json!({
        "id": crate::random::id(),
        "timestamp": Timestamp::now().to_string(),
        "action": event.action,
        "target": target,
        "request": {
            "id": origin.id, "addr": origin.address, "host": origin.host, "method": origin.method, "useragent": origin.user_agent,
        },
        "actor": {"name": origin.actor},
        "source": {"addr": origin.host, "instanceID": ""},
    })
}

/// Posts events one after the other, each until it is taken or was tried often enough.
async fn deliver(
    hook: Webhook,
    mut waiting: mpsc::Receiver<Value>,
    client: Client,
    metrics: Arc<Metrics>,
) {
    let key = hook
        .secret
        .as_ref()
        .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
    while let Some(event) = waiting.recv().await {
        let body = json!({"events": [event]}).to_string();
        let mut headers: BTreeMap<String, String> = hook.headers.clone();
        headers.insert("Content-Type".to_owned(), MEDIA_TYPE.to_owned());
        if let Some(key) = &key {
            let signature = hex::encode(hmac::sign(key, body.as_bytes()));
            headers.insert(
                "X-Wharf-Signature".to_owned(),
                format!("sha256={signature}"),
            );
        }
        let mut pause = Duration::from_millis(250);
        let mut taken = false;
        for attempt in 1..=hook.attempts.max(1) {
            match client
                .post(&hook.url, &headers, body.clone(), hook.timeout)
                .await
            {
                Ok(()) => {
                    taken = true;
                    break;
                }
                Err(error) => {
                    tracing::debug!(url = %hook.url, attempt, error, "a webhook did not take an event")
                }
            }
            if attempt < hook.attempts {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        if !taken {
            metrics.lost_events.inc();
            tracing::warn!(url = %hook.url, "an event was lost: the webhook did not take it");
        }
    }
}
