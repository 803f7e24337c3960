//! The log: fields on standard error, as text or JSON.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogConfig;

/// Starts logging. Called once, before anything logs.
pub(super) fn start(config: &LogConfig) {
    let level = match config.level.as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" | "warning" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let filter = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("wharf", level);
    let registry = tracing_subscriber::registry().with(filter);
    // Fails only when somebody logs already.
    let _ = if config.format == "json" {
        let layer = fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr);
        registry.with(layer).try_init()
    } else {
        let colour = std::io::stderr().is_terminal();
        registry
            .with(fmt::layer().with_ansi(colour).with_writer(std::io::stderr))
            .try_init()
    };
}
