//! `GET /containers/json`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use wharf_api::container::{ContainerSummary, Port, SummaryHostConfig, SummaryNetworkSettings};
use wharf_api::filters::Filters;

use super::list_filters::Query;
use super::record::{Record, State};
use super::status::Status;
use super::{Container, network};
use crate::{Engine, Result, clock};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those that do not run too.
    pub all: bool,
    /// At most so many, newest first; implies `all`.
    pub limit: Option<usize>,
    /// Count the bytes of layers.
    pub size: bool,
    /// Docker's filters.
    pub filters: Filters,
}

impl Engine {
    /// Containers, newest first.
    pub async fn container_list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        let query = Query::new(self, &options.filters)?;
        let all = options.all || options.limit.is_some() || query.implies_all();
        let mut containers: Vec<(Arc<Container>, Arc<Record>)> = self
            .containers
            .all()
            .into_iter()
            .map(|container| {
                let record = container.record();
                (container, record)
            })
            .collect();
        containers.sort_by_key(|(_, record)| std::cmp::Reverse(record.created_ns));
        let mut images = ImageNames::new(self);
        let link_names = self.link_names();
        let mut list = Vec::new();
        let limit = options.limit.unwrap_or(usize::MAX);
        for (container, record) in containers {
            let state = container.state();
            if list.len() >= limit {
                break;
            }
            if (all || state.status.is_running()) && query.matches(&record, &state) {
                let mut summary = summary(&record, &state, images.name_of(&record));
                let more = link_names.get(&record.id);
                summary.names.extend(more.into_iter().flatten().cloned());
                list.push(summary);
            }
        }
        if options.size {
            self.add_sizes(&mut list).await?;
        }
        Ok(list)
    }

    async fn add_sizes(&self, list: &mut Vec<ContainerSummary>) -> Result<()> {
        let store = self.store.clone();
        let mut taken = std::mem::take(list);
        *list = crate::blocking(move || {
            for summary in &mut taken {
                let (rw, all) = store.rw_size(&summary.id)?;
                summary.size_rw = i64::try_from(rw).unwrap_or(i64::MAX);
                summary.size_root_fs = i64::try_from(all).unwrap_or(i64::MAX);
            }
            Ok(taken)
        })
        .await?;
        Ok(())
    }
}

/// Image names as they are now: a name that means another image by now is shown as the id. Looked up once per name.
struct ImageNames<'a> {
    engine: &'a Engine,
    known: HashMap<String, Option<String>>,
}

impl ImageNames<'_> {
    fn new(engine: &Engine) -> ImageNames<'_> {
        ImageNames {
            engine,
            known: HashMap::new(),
        }
    }

    fn name_of(&mut self, record: &Record) -> String {
        let name = &record.config.image;
        let engine = self.engine;
        let id = self.known.entry(name.clone()).or_insert_with(|| {
            engine
                .store
                .image(name)
                .ok()
                .map(|image| image.id.to_string())
        });
        if id.as_deref() == Some(record.image_id.as_str()) {
            name.clone()
        } else {
            record.image_id.clone()
        }
    }
}

fn summary(record: &Record, state: &State, image: String) -> ContainerSummary {
    ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image,
        image_id: record.image_id.clone(),
        command: command(record),
        created: record.created_ns / 1_000_000_000,
        ports: ports(record, state),
        labels: record.config.labels.clone().unwrap_or_default(),
        state: state.status.as_str().into(),
        status: status_text(state, clock::now_ns()),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings {
            networks: network::networks(record, state),
        },
        mounts: record
            .mounts
            .iter()
            .map(super::record::MountRecord::to_point)
            .collect(),
        ..ContainerSummary::default()
    }
}

fn command(record: &Record) -> String {
    let mut text = record.path.clone();
    for arg in &record.args {
        if arg.contains(' ') {
            text.push_str(&format!(" '{arg}'"));
        } else {
            text.push(' ');
            text.push_str(arg);
        }
    }
    text
}

/// What the list shows of ports; of running containers only.
pub fn ports(record: &Record, state: &State) -> Vec<Port> {
    let mut list = Vec::new();
    for (key, bindings) in network::port_map(record, state) {
        let Ok((private_port, protocol)) = network::parse_port(&key) else {
            continue;
        };
        let port = Port {
            private_port,
            kind: protocol.name().into(),
            ..Port::default()
        };
        match bindings {
            None => list.push(port),
            Some(bindings) => list.extend(bindings.into_iter().map(|binding| Port {
                ip: binding.host_ip,
                public_port: binding.host_port.parse().unwrap_or(0),
                ..port.clone()
            })),
        }
    }
    list
}

/// `Up 5 minutes (healthy)`, `Exited (0) 2 hours ago`, … (moby `daemon/container/state.go`, `String`).
pub fn status_text(state: &State, now_ns: i64) -> String {
    let since = |ns: Option<i64>| {
        let elapsed = now_ns.saturating_sub(ns.unwrap_or(now_ns));
        human_duration(Duration::from_nanos(u64::try_from(elapsed).unwrap_or(0)))
    };
    match state.status {
        Status::Paused => format!("Up {} (Paused)", since(state.started_ns)),
        Status::Restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            since(state.finished_ns)
        ),
        Status::Running => match state.health.as_ref().map(|health| health.status.as_str()) {
            Some("starting") => format!("Up {} (health: starting)", since(state.started_ns)),
            Some(status) if status != "none" => {
                format!("Up {} ({status})", since(state.started_ns))
            }
            _ => format!("Up {}", since(state.started_ns)),
        },
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Created => "Created".into(),
        Status::Exited => match state.finished_ns {
            None => String::new(),
            finished => format!("Exited ({}) {} ago", state.exit_code, since(finished)),
        },
    }
}

/// go-units' `HumanDuration`.
fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    // Hours are rounded, everything else is cut.
    let hours = (seconds + 1800) / 3600;
    match (seconds, seconds / 60, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, minutes @ 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, 0..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_docker_writes_them() {
        let rows = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (86_400, "24 hours"),
            (172_800, "2 days"),
            (1_209_600, "2 weeks"),
            (5_184_000, "2 months"),
            (63_072_000, "2 years"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(
                human_duration(Duration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn status_tells_what_happened_and_when() {
        let state = |status, exit_code| State {
            status,
            exit_code,
            started_ns: Some(0),
            finished_ns: Some(0),
            ..State::default()
        };
        let now = 5_000_000_000;
        assert_eq!(status_text(&state(Status::Running, 0), now), "Up 5 seconds");
        assert_eq!(
            status_text(&state(Status::Paused, 0), now),
            "Up 5 seconds (Paused)"
        );
        assert_eq!(
            status_text(&state(Status::Exited, 3), now),
            "Exited (3) 5 seconds ago"
        );
        assert_eq!(
            status_text(&state(Status::Restarting, 1), now),
            "Restarting (1) 5 seconds ago"
        );
        assert_eq!(status_text(&state(Status::Created, 0), now), "Created");
    }
}
