//! Events (moby `api/types/events`): what `GET /events` streams, one JSON value a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::is_zero;

/// One event. The first three fields repeat the others for old clients; API 1.52 drops them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The action again; containers and images only.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    /// The actor's id again; containers and images only.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// The image's name; containers only.
    #[serde(skip_serializing_if = "is_zero")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened: `create`, `die`, `exec_start: sh -c true`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// To what.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`, or `swarm`.
    #[serde(skip_serializing_if = "is_zero")]
    pub scope: String,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Nanoseconds since the epoch.
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Id, or name for volumes.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels, name, image, exit code, …
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Makes a local event at `time_nano`, with the old fields filled in where Docker does
    /// (moby `daemon/events`: container and image events only).
    #[must_use]
    pub fn new(kind: &str, action: &str, actor: Actor, time_nano: i64) -> Event {
        let mut event = Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            scope: "local".to_owned(),
            time: time_nano.div_euclid(1_000_000_000),
            time_nano,
            ..Event::default()
        };
        if kind == "container" {
            event.from = actor.attributes.get("image").cloned().unwrap_or_default();
        }
        if kind == "container" || kind == "image" {
            event.status = action.to_owned();
            event.id.clone_from(&actor.id);
        }
        event.actor = actor;
        event
    }
}
