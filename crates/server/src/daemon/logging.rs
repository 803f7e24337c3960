//! The daemon's own log: fields on stderr, as text or JSON.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::Settings;

/// The level, to be changed while running.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<Targets, Registry>);

impl LogLevel {
    /// Takes the level of new settings.
    pub fn set(&self, settings: &Settings) {
        // Fails only without a subscriber, and then nobody logs.
        let _ = self.0.reload(filter(settings));
    }
}

/// Starts logging. Called once, before anything logs.
pub fn start(settings: &Settings) -> LogLevel {
    let (filter, handle) = reload::Layer::new(filter(settings));
    let registry = tracing_subscriber::registry().with(filter);
    let colour = std::io::stderr().is_terminal() && !settings.raw_logs;
    // Fails only when a test harness logs already.
    let _ = if settings.log_format == "json" {
        registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init()
    } else {
        registry
            .with(fmt::layer().with_ansi(colour).with_writer(std::io::stderr))
            .try_init()
    };
    LogLevel(handle)
}

/// Ours at the level asked for; libraries only when something is wrong.
fn filter(settings: &Settings) -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN.min(level(settings)))
        .with_target("wharf", level(settings))
}

fn level(settings: &Settings) -> LevelFilter {
    match settings.log_level.as_str() {
        "trace" => LevelFilter::TRACE,
        _ if settings.debug => LevelFilter::DEBUG,
        "debug" => LevelFilter::DEBUG,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}
