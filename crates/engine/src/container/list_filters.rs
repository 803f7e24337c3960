//! Docker's filters of `GET /containers/json` (moby `daemon/list.go`).

use wharf_api::filters::Filters;
use wharf_network::Protocol;

use super::record::{Record, State};
use super::status::Status;
use super::{list, network};
use crate::{Engine, Error, Result};

const FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "id",
    "isolation",
    "label",
    "name",
    "status",
    "health",
    "since",
    "volume",
    "network",
    "is-task",
    "publish",
    "expose",
    "annotation",
];

/// Checked filters.
pub struct Query<'a> {
    filters: &'a Filters,
    ancestors: Option<Vec<String>>,
    before: Option<i64>,
    since: Option<i64>,
    exited: Vec<i32>,
    publish: Vec<Ports>,
    expose: Vec<Ports>,
    networks: Option<Vec<(String, String)>>,
    is_task: Option<bool>,
}

/// A range of ports of one protocol.
struct Ports {
    first: u16,
    last: u16,
    protocol: Protocol,
}

impl<'a> Query<'a> {
    /// Checks the filters and looks up what they name.
    pub fn new(engine: &Engine, filters: &'a Filters) -> Result<Query<'a>> {
        filters.validate(&FILTERS)?;
        for status in filters.get("status") {
            Status::parse(status)
                .ok_or_else(|| Error::invalid(format!("invalid filter 'status={status}'")))?;
        }
        for health in filters.get("health") {
            if !matches!(
                health.as_str(),
                "starting" | "healthy" | "unhealthy" | "none"
            ) {
                return Err(Error::invalid(format!(
                    "Unrecognised filter value for health: {health}"
                )));
            }
        }
        let created = |key: &str| -> Result<Option<i64>> {
            let names = filters.get(key);
            names
                .last()
                .map(|name| match engine.containers.get(name) {
                    Ok(container) => Ok(container.record().created_ns),
                    Err(_) => Err(Error::not_found(format!("no such container {name}"))),
                })
                .transpose()
        };
        Ok(Query {
            ancestors: filters
                .contains("ancestor")
                .then(|| ancestors(engine, filters)),
            before: created("before")?,
            since: created("since")?,
            exited: exit_codes(filters)?,
            publish: ports(filters, "publish")?,
            expose: ports(filters, "expose")?,
            networks: filters
                .contains("network")
                .then(|| networks(engine, filters)),
            is_task: if filters.contains("is-task") {
                Some(filters.get_bool("is-task", false)?)
            } else {
                None
            },
            filters,
        })
    }

    /// Asking for a status asks for containers that do not run too.
    pub fn implies_all(&self) -> bool {
        self.filters.contains("status")
    }

    /// Whether a container passes all filters. `isolation` is Windows': elsewhere it is known and means nothing.
    pub fn matches(&self, record: &Record, state: &State) -> bool {
        let filters = self.filters;
        // Docker's names begin with a slash; filters find both forms.
        (filters.matches("name", &record.name)
            || filters.matches("name", &format!("/{}", record.name)))
            && filters.matches("id", &record.id)
            && self.before.is_none_or(|before| record.created_ns < before)
            && self.since.is_none_or(|since| record.created_ns > since)
            && self.is_task.is_none_or(|is_task| !is_task)
            && filters.matches_labels("label", record.config.labels.as_ref())
            && self
                .ancestors
                .as_ref()
                .is_none_or(|ids| ids.contains(&record.image_id))
            && (self.exited.is_empty()
                || has_exited(state) && self.exited.contains(&state.exit_code))
            && filters.matches_exact("status", state.status.as_str())
            && filters.matches_exact("health", health(state))
            && self.matches_volume(record)
            && self.matches_network(record, state)
            && self.matches_ports(record, state)
    }

    fn matches_volume(&self, record: &Record) -> bool {
        let wanted = self.filters.get("volume");
        wanted.is_empty()
            || record.mounts.iter().any(|mount| {
                let name = if mount.name.is_empty() {
                    &mount.source
                } else {
                    &mount.name
                };
                wanted.contains(name) || wanted.contains(&mount.destination)
            })
    }

    fn matches_network(&self, record: &Record, state: &State) -> bool {
        let Some(wanted) = &self.networks else {
            return true;
        };
        let by_name = |name: &String| wanted.iter().any(|(wanted, _)| wanted == name);
        let by_id = |id: &String| wanted.iter().any(|(_, wanted)| wanted == id);
        record.networks.keys().any(by_name)
            || state
                .endpoints
                .iter()
                .any(|endpoint| by_id(&endpoint.network_id))
    }

    /// Of what the list shows, so of running containers only: a port that one of both filters names (moby `daemon/list.go`).
    fn matches_ports(&self, record: &Record, state: &State) -> bool {
        if self.publish.is_empty() && self.expose.is_empty() {
            return true;
        }
        let hit = |wanted: &[Ports], port: u16, kind: &str| {
            let mut same = wanted.iter().filter(|range| range.protocol.name() == kind);
            same.any(|range| (range.first..=range.last).contains(&port))
        };
        list::ports(record, state).iter().any(|port| {
            hit(&self.publish, port.public_port, &port.kind)
                || hit(&self.expose, port.private_port, &port.kind)
        })
    }
}

fn has_exited(state: &State) -> bool {
    !state.status.is_running() && state.started_ns.is_some()
}

fn health(state: &State) -> &str {
    state
        .health
        .as_ref()
        .map_or("none", |health| health.status.as_str())
}

/// Ids of the images named; unknown ones match nothing.
fn ancestors(engine: &Engine, filters: &Filters) -> Vec<String> {
    let names = filters.get("ancestor").iter();
    names
        .filter_map(|name| engine.store.image(name).ok())
        .map(|image| image.id.to_string())
        .collect()
}

fn networks(engine: &Engine, filters: &Filters) -> Vec<(String, String)> {
    let lookup = |name: &String| match engine.network.network(name) {
        Ok(record) => (record.name, record.id),
        Err(_) => (name.clone(), name.clone()),
    };
    filters.get("network").iter().map(lookup).collect()
}

fn exit_codes(filters: &Filters) -> Result<Vec<i32>> {
    let parse = |text: &String| {
        text.parse::<i32>()
            .map_err(|_| Error::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
    };
    filters.get("exited").iter().map(parse).collect()
}

fn ports(filters: &Filters, key: &str) -> Result<Vec<Ports>> {
    filters
        .get(key)
        .iter()
        .map(|text| {
            let invalid = || Error::invalid(format!("invalid value for {key}: {text}"));
            let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (_, protocol) =
                network::parse_port(&format!("{first}/{protocol}")).map_err(|_| invalid())?;
            Ok(Ports {
                first: first.parse().map_err(|_| invalid())?,
                last: last.parse().map_err(|_| invalid())?,
                protocol,
            })
        })
        .collect()
}
