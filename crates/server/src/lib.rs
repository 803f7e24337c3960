//! The daemon's front: Docker's HTTP API over the engine, and everything a daemon is besides (flags, listeners, signals).
//!
//! In: command line, `daemon.json`, requests. Out: engine calls, answers as dockerd gives them. It knows no containers,
//! images or networks of its own: a handler decodes, calls the engine once, encodes.

#![forbid(unsafe_code)]

pub mod authz;
pub mod config;
pub mod daemon;
pub mod http;
pub mod metrics;
pub mod routes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use authz::Authorizer;
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
    authorizer: RwLock<Arc<Authorizer>>,
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
            authorizer: RwLock::default(),
        }
    }

    /// Who has a say on requests now.
    #[must_use]
    pub fn authorizer(&self) -> Arc<Authorizer> {
        let current = self.authorizer.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Others have a say from now on.
    pub fn set_authorizer(&self, next: Authorizer) {
        let mut current = self
            .authorizer
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(next);
    }

    /// Whether experimental features are announced.
    #[must_use]
    pub fn experimental(&self) -> bool {
        self.experimental.load(Ordering::Relaxed)
    }
}
