//! `--metrics-addr`: what the daemon counts, as Prometheus reads it.
//!
//! Names are dockerd's (moby `daemon/internal/metrics`), so that dashboards made for it work. Times are taken around
//! requests; numbers of containers, events and listeners are read from the engine when somebody asks.

pub mod listen;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use wharf_engine::Engine;

/// Upper bounds of the buckets in seconds: those of Prometheus' Go client, which dockerd uses, and three below, because
/// here most actions end before its first.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What is counted while the daemon runs.
#[derive(Debug)]
pub struct Metrics {
    containers: Timers,
    networks: Timers,
    images: Timers,
}

type Timers = Family<Action, Histogram, fn() -> Histogram>;

/// Label of an action.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

/// Label of a state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// What a request does, in the words of dockerd's labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timed {
    Container(&'static str),
    Network(&'static str),
    Image(&'static str),
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    #[allow(clippy::new_without_default)] // no value of it is the obvious one
    pub fn new() -> Metrics {
        let timers = || Timers::new_with_constructor(|| Histogram::new(BUCKETS) as Histogram);
        let metrics = Metrics {
            containers: timers(),
            networks: timers(),
            images: timers(),
        };
        // Shown from the start, as dockerd does: a rate needs a first zero.
        for action in ["changes", "commit", "create", "delete", "start"] {
            drop(metrics.containers.get_or_create(&Action { action }));
        }
        metrics
    }

    /// Notes that a request of `method` on the route `pattern` succeeded after `took`.
    pub fn observe(&self, method: &str, pattern: &str, took: Duration) {
        let (timers, action) = match timed(method, pattern) {
            Some(Timed::Container(action)) => (&self.containers, action),
            Some(Timed::Network(action)) => (&self.networks, action),
            Some(Timed::Image(action)) => (&self.images, action),
            None => return,
        };
        timers
            .get_or_create(&Action { action })
            .observe(took.as_secs_f64());
    }

    /// Everything in OpenMetrics text.
    pub async fn text(&self, engine: &Engine) -> Result<String, String> {
        let mut registry = Registry::with_prefix("engine_daemon");
        self.register_timers(&mut registry);
        register_engine(&mut registry, engine)
            .await
            .map_err(|error| error.to_string())?;
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn register_timers(&self, registry: &mut Registry) {
        let named = [
            ("container_actions", &self.containers, "container action"),
            ("network_actions", &self.networks, "network action"),
            ("image_actions", &self.images, "image action"),
        ];
        for (name, timers, what) in named {
            let help = format!("The number of seconds it takes to process each {what}");
            registry.register_with_unit(name, help, Unit::Seconds, timers.clone());
        }
    }
}

/// Which label a route counts under.
fn timed(method: &str, pattern: &str) -> Option<Timed> {
    Some(match (method, pattern) {
        ("POST", "/containers/create") => Timed::Container("create"),
        ("POST", "/containers/{name}/start") => Timed::Container("start"),
        ("DELETE", "/containers/{name:.*}") => Timed::Container("delete"),
        ("GET", "/containers/{name}/changes") => Timed::Container("changes"),
        ("POST", "/commit") => Timed::Container("commit"),
        ("POST", "/networks/{id}/connect") => Timed::Network("connect"),
        ("POST", "/networks/{id}/disconnect") => Timed::Network("disconnect"),
        ("DELETE", "/images/{name:.*}") => Timed::Image("delete"),
        ("POST", "/images/prune") => Timed::Image("prune"),
        _ => return None,
    })
}

/// Facts about the engine and its host, as they are now.
async fn register_engine(registry: &mut Registry, engine: &Engine) -> wharf_engine::Result<()> {
    let info = engine.info().await?;
    let states = Family::<State, Gauge>::default();
    let counts = [
        ("running", info.containers_running),
        ("paused", info.containers_paused),
        ("stopped", info.containers_stopped),
    ];
    for (state, count) in counts {
        states.get_or_create(&State { state }).set(whole(count));
    }
    let help = "The count of containers in various states";
    registry.register_with_unit(
        "container_states",
        help,
        Unit::Other("containers".into()),
        states,
    );
    registry.register(
        "engine",
        "The information related to the engine and the OS it is running on",
        Info::new(labels(&info)),
    );
    let help = "The number of cpus that the host system of the engine has";
    registry.register_with_unit(
        "engine_cpus",
        help,
        Unit::Other("cpus".into()),
        gauge(whole(info.n_cpu)),
    );
    let help = "The number of bytes of memory that the host system of the engine has";
    registry.register_with_unit("engine_memory", help, Unit::Bytes, gauge(info.mem_total));
    let events: Counter = Counter::default();
    events.inc_by(engine.events.published());
    registry.register("events", "The number of events logged", events);
    registry.register(
        "events_subscribers_total",
        "The number of current subscribers to events",
        gauge(whole(engine.events.listeners() as u64)),
    );
    Ok(())
}

/// Labels of `engine_daemon_engine_info`.
fn labels(info: &wharf_api::system::Info) -> Vec<(&'static str, String)> {
    vec![
        ("version", info.server_version.clone()),
        ("commit", env!("CARGO_PKG_VERSION").to_owned()),
        ("architecture", info.architecture.clone()),
        ("graphdriver", info.driver.clone()),
        ("kernel", info.kernel_version.clone()),
        ("os", info.operating_system.clone()),
        ("os_type", info.os_type.clone()),
        ("os_version", info.os_version.clone()),
        ("daemon_id", info.id.clone()),
    ]
}

fn gauge(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timed_route_exists() {
        let routes = crate::routes::table();
        for (method, pattern) in [
            ("POST", "/containers/create"),
            ("POST", "/containers/{name}/start"),
            ("DELETE", "/containers/{name:.*}"),
            ("GET", "/containers/{name}/changes"),
            ("POST", "/commit"),
            ("POST", "/networks/{id}/connect"),
            ("POST", "/networks/{id}/disconnect"),
            ("DELETE", "/images/{name:.*}"),
            ("POST", "/images/prune"),
        ] {
            assert!(timed(method, pattern).is_some(), "{method} {pattern}");
            let known = |route: &crate::routes::Route| {
                route.method.as_str() == method && route.pattern == pattern
            };
            assert!(routes.iter().any(known), "{method} {pattern}");
        }
    }

    #[test]
    fn an_action_is_counted_under_dockerds_name() {
        let metrics = Metrics::new();
        metrics.observe("POST", "/containers/create", Duration::from_millis(3));
        metrics.observe("GET", "/info", Duration::from_secs(1));
        let mut registry = Registry::with_prefix("engine_daemon");
        metrics.register_timers(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "engine_daemon_container_actions_seconds_count{action=\"create\"} 1",
            "engine_daemon_container_actions_seconds_bucket{le=\"0.0025\",action=\"create\"} 0",
            "engine_daemon_container_actions_seconds_bucket{le=\"0.005\",action=\"create\"} 1",
            "engine_daemon_container_actions_seconds_count{action=\"start\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
