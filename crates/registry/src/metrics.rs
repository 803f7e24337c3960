//! What is counted, for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// What it was about: `manifest`, `blob`, …
    pub handler: &'static str,
    /// GET, PUT, …
    pub method: Method,
    /// Status.
    pub code: u32,
}

/// A method as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(pub http::Method);

impl EncodeLabelValue for Method {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Whatever clients invent would be a new series each.
        let known = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];
        let name = known
            .iter()
            .find(|name| **name == self.0.as_str())
            .unwrap_or(&"other");
        EncodeLabelValue::encode(name, encoder)
    }
}

/// A label with one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// Which.
    pub kind: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<Kind, Histogram, fn() -> Histogram>,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Bytes of blobs and manifests, in either direction.
    pub bytes: Family<Kind, Counter>,
    /// Events: push, pull, delete, mount.
    pub events: Family<Kind, Counter>,
    /// Events that no receiver took.
    pub lost_events: Counter,
    /// What garbage collection removed.
    pub collected: Family<Kind, Counter>,
    /// When it last finished, in seconds since 1970.
    pub collected_at: Gauge<i64>,
    /// Blobs that were read again, and those that were damaged.
    pub scrubbed: Family<Kind, Counter>,
    /// What was asked of upstreams: hits, misses, stale answers.
    pub upstream: Family<Kind, Counter>,
    /// Repositories, when last counted.
    pub repositories: Gauge<i64>,
    /// Seconds since 1970 of the start.
    pub started: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Metrics {
        let buckets = || {
            Histogram::new([
                0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0,
            ])
        };
        let mut metrics = Metrics {
            registry: Registry::with_prefix("wharf_registry"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(buckets as fn() -> Histogram),
            in_flight: Gauge::default(),
            bytes: Family::default(),
            events: Family::default(),
            lost_events: Counter::default(),
            collected: Family::default(),
            collected_at: Gauge::default(),
            scrubbed: Family::default(),
            upstream: Family::default(),
            repositories: Gauge::default(),
            started: Gauge::default(),
        };
        let r = &mut metrics.registry;
        r.register("requests", "Requests answered", metrics.requests.clone());
        r.register_with_unit(
            "request_duration",
            "Time until an answer begins",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        r.register(
            "requests_in_flight",
            "Requests being answered",
            metrics.in_flight.clone(),
        );
        r.register(
            "transferred_bytes",
            "Bytes of content received and sent",
            metrics.bytes.clone(),
        );
        r.register(
            "events",
            "Pushes, pulls, deletes, mounts",
            metrics.events.clone(),
        );
        r.register(
            "events_lost",
            "Events that no receiver took",
            metrics.lost_events.clone(),
        );
        r.register(
            "gc_removed",
            "Blobs, bytes, manifests, tags and uploads removed by garbage collection",
            metrics.collected.clone(),
        );
        r.register(
            "gc_last_finished_timestamp_seconds",
            "When garbage collection last finished",
            metrics.collected_at.clone(),
        );
        r.register(
            "scrub_blobs",
            "Blobs read again, and damaged ones",
            metrics.scrubbed.clone(),
        );
        r.register(
            "upstream_requests",
            "What upstreams were asked",
            metrics.upstream.clone(),
        );
        r.register(
            "repositories",
            "Repositories, when garbage collection last counted",
            metrics.repositories.clone(),
        );
        r.register(
            "start_timestamp_seconds",
            "When the registry started",
            metrics.started.clone(),
        );
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        metrics.started.set(now.unwrap_or_default().as_secs_f64());
        metrics
    }

    /// A request was answered.
    pub fn answered(
        &self,
        handler: &'static str,
        method: &http::Method,
        code: u16,
        took: Duration,
    ) {
        let labels = RequestLabels {
            handler,
            method: Method(method.clone()),
            code: code.into(),
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds
            .get_or_create(&Kind { kind: handler })
            .observe(took.as_secs_f64());
    }

    /// One more of a kind.
    pub fn count(family: &Family<Kind, Counter>, kind: &'static str, n: u64) {
        family.get_or_create(&Kind { kind }).inc_by(n);
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails never.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
