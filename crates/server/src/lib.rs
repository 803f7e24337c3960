//! The daemon's front: Docker's HTTP API over the engine, and everything a daemon is besides (flags, listeners, signals).
//!
//! In: command line, `daemon.json`, requests. Out: engine calls, answers as dockerd gives them. It knows no containers,
//! images or networks of its own: a handler decodes, calls the engine once, encodes.

#![forbid(unsafe_code)]

pub mod config;
pub mod daemon;
pub mod http;
pub mod metrics;
pub mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wharf_engine::Engine;

/// What all requests share.
#[derive(Debug)]
pub struct Server {
    /// Does the work.
    pub engine: Arc<Engine>,
    /// The route table.
    pub routes: Vec<routes::Route>,
    /// What is counted for `--metrics-addr`.
    pub metrics: metrics::Metrics,
    experimental: AtomicBool,
}

impl Server {
    /// A server in front of `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, experimental: bool) -> Server {
        Server {
            engine,
            routes: routes::table(),
            metrics: metrics::Metrics::new(),
            experimental: AtomicBool::new(experimental),
        }
    }

    /// Whether experimental features are announced.
    #[must_use]
    pub fn experimental(&self) -> bool {
        self.experimental.load(Ordering::Relaxed)
    }
}
