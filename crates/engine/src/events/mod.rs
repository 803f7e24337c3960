//! Events: what happened, to those who listen and to those who ask later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::broadcast;
use wharf_api::events::{Actor, Event};
use wharf_api::filters::Filters;

use crate::clock;

/// How many events are kept for late askers; Docker's number.
const HISTORY: usize = 256;
/// How far a listener may fall behind before it loses events.
const BACKLOG: usize = 4096;

/// The engine's events.
#[derive(Debug)]
pub struct EventBus {
    history: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
    published: AtomicU64,
}

/// A listener: the past it asked for, then what comes.
#[derive(Debug)]
pub struct Subscription {
    /// Events already passed, oldest first.
    pub past: Vec<Event>,
    receiver: broadcast::Receiver<Event>,
    filters: Filters,
}

/// Keys of Docker's event filters.
const FILTERS: [&str; 13] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "type",
    "volume",
];

impl Default for EventBus {
    fn default() -> EventBus {
        EventBus {
            history: Mutex::default(),
            sender: broadcast::channel(BACKLOG).0,
            published: AtomicU64::new(0),
        }
    }
}

impl EventBus {
    /// Tells everybody. `kind`: `container`, `image`, `volume`, `network`, `daemon`, `builder`.
    pub fn publish(
        &self,
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let actor = Actor {
            id: id.to_owned(),
            attributes,
        };
        self.published.fetch_add(1, Ordering::Relaxed);
        let event = Event::new(kind, action, actor, clock::now_ns());
        // Under the lock, so that no listener misses an event between the past and the present.
        let mut history = self.history.lock();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(event.clone());
        // No listener is no error.
        let _ = self.sender.send(event);
    }

    /// Listens. `since`, `until`: nanoseconds since the epoch; the past is only given with one of them, as in Docker.
    pub fn subscribe(
        &self,
        since: Option<i64>,
        until: Option<i64>,
        filters: Filters,
    ) -> crate::Result<Subscription> {
        filters.validate(&FILTERS)?;
        let history = self.history.lock();
        let wanted = |event: &&Event| {
            since.is_none_or(|since| event.time_nano >= since)
                && until.is_none_or(|until| event.time_nano <= until)
                && matches(&filters, event)
        };
        let past = match (since, until) {
            (None, None) => Vec::new(),
            _ => history.iter().filter(wanted).cloned().collect(),
        };
        let receiver = self.sender.subscribe();
        drop(history);
        Ok(Subscription {
            past,
            receiver,
            filters,
        })
    }

    /// How many events there were since the start.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}

impl Subscription {
    /// The next event that passes the filters; `None` when the engine is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) if matches(&self.filters, &event) => return Some(event),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Docker's rules (moby `daemon/events/filter.go`).
fn matches(filters: &Filters, event: &Event) -> bool {
    let action = event
        .action
        .split_once(':')
        .map_or(event.action.as_str(), |(action, _)| action);
    filters.matches_exact("scope", &event.scope)
        && (filters.matches_exact("event", &event.action) || filters.matches_exact("event", action))
        && filters.matches_exact("type", &event.kind)
        && filters.matches_labels("label", Some(&event.actor.attributes))
        && [
            "daemon",
            "container",
            "plugin",
            "volume",
            "network",
            "secret",
            "config",
            "node",
        ]
        .iter()
        .all(|kind| matches_object(filters, kind, event))
        && matches_image(filters, event)
}

/// An object filter `kind=x` passes events of an object whose id or name begins with `x`, whatever kind that object is of: moby's
/// `fuzzyMatchName`. A container's connections to networks are events of the networks.
fn matches_object(filters: &Filters, kind: &str, event: &Event) -> bool {
    if !filters.contains(kind) {
        return true;
    }
    let name = event.actor.attributes.get("name");
    filters.get(kind).iter().any(|wanted| {
        let wanted = wanted.trim_start_matches('/');
        event.actor.id.starts_with(wanted) || name.is_some_and(|name| name.starts_with(wanted))
    })
}

fn matches_image(filters: &Filters, event: &Event) -> bool {
    if !filters.contains("image") {
        return true;
    }
    let attributes = &event.actor.attributes;
    let name = attributes
        .get(if event.kind == "image" {
            "name"
        } else {
            "image"
        })
        .map_or("", String::as_str);
    filters
        .get("image")
        .iter()
        .any(|wanted| wanted == name || *wanted == event.actor.id || without_tag(name) == wanted)
}

fn without_tag(name: &str) -> &str {
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    name[slash..]
        .find(':')
        .map_or(name, |at| &name[..slash + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(text).expect("filters")
    }

    fn publish(bus: &EventBus, kind: &str, action: &str, id: &str, name: &str) {
        let attributes = [("name", name), ("image", "busybox:latest")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        bus.publish(kind, action, id, attributes.into());
    }

    #[test]
    fn filters_choose_events() {
        let bus = EventBus::default();
        publish(&bus, "container", "start", "abc123", "web");
        publish(&bus, "container", "exec_start: sh -c x", "abc123", "web");
        publish(&bus, "image", "tag", "sha256:aa", "busybox:latest");
        let connected = [("container", "abc123"), ("name", "front")];
        let connected = connected.map(|(k, v)| (k.to_owned(), v.to_owned()));
        bus.publish("network", "connect", "ffff", connected.into());
        let rows = [
            ("{}", 4),
            (r#"{"type":["image"]}"#, 1),
            (r#"{"event":["start"]}"#, 1),
            (r#"{"event":["exec_start"]}"#, 1),
            (r#"{"container":["web"]}"#, 2),
            (r#"{"container":["abc"]}"#, 2),
            (r#"{"container":["we"]}"#, 2),
            (r#"{"container":["other"]}"#, 0),
            (r#"{"image":["busybox"]}"#, 3),
            (r#"{"label":["name=web"]}"#, 2),
        ];
        for (text, expected) in rows {
            let subscription = bus
                .subscribe(Some(0), None, filters(text))
                .expect("subscribe");
            assert_eq!(subscription.past.len(), expected, "{text}");
        }
        assert!(
            bus.subscribe(None, None, filters(r#"{"colour":["x"]}"#))
                .is_err()
        );
    }

    #[tokio::test]
    async fn listeners_get_what_comes_and_only_that() {
        let bus = EventBus::default();
        publish(&bus, "container", "create", "a", "x");
        let mut subscription = bus
            .subscribe(None, None, Filters::default())
            .expect("subscribe");
        assert!(subscription.past.is_empty());
        publish(&bus, "container", "start", "a", "x");
        assert_eq!(subscription.next().await.expect("event").action, "start");
    }

    #[test]
    fn history_is_bounded() {
        let bus = EventBus::default();
        for n in 0..300 {
            publish(&bus, "container", "create", &n.to_string(), "x");
        }
        let past = bus
            .subscribe(Some(0), None, Filters::default())
            .expect("subscribe")
            .past;
        assert_eq!((past.len(), past[0].actor.id.as_str()), (256, "44"));
    }
}
