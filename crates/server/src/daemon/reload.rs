//! SIGHUP: the configuration is read again, and what can change while running does.

use std::collections::BTreeMap;

use tracing::{error, info};
use wharf_api::gojson;
use wharf_engine::LiveConfig;

use super::engine_config::live_config;
use super::logging::LogLevel;
use super::notify;
use crate::Server;
use crate::config::Flags;
use crate::config::merge::{self, Loaded};

/// Gives what is obeyed from now on: the new configuration, or the running one when the file is wrong.
pub fn reload(flags: &Flags, running: &Loaded, level: &LogLevel, server: &Server) -> Loaded {
    notify::reloading();
    let next = match merge::reload(flags, running) {
        Ok(next) => {
            level.set(&next.settings);
            let live = live_config(&next.settings);
            match super::authorizer(&next.settings) {
                Ok(authorizer) => server.set_authorizer(authorizer),
                Err(error) => error!(%error, "authorization stays as it was"),
            }
            let attributes = attributes(&live);
            server.engine.reload(live);
            server
                .engine
                .events
                .publish("daemon", "reload", &server.engine.id, attributes);
            info!("reloaded configuration");
            next
        }
        Err(error) => {
            error!(%error, "configuration was not reloaded");
            running.clone()
        }
    };
    notify::ready();
    next
}

/// What the `reload` event tells, under the names of the file (moby `daemon/reload.go`).
fn attributes(live: &LiveConfig) -> BTreeMap<String, String> {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let runtimes: Vec<String> = live
        .runtimes
        .iter()
        .map(|(name, runtime)| format!("{name}:{}", runtime.path))
        .collect();
    let features: Vec<String> = live
        .features
        .iter()
        .map(|(name, on)| format!("{name}:{on}"))
        .collect();
    [
        ("debug", live.debug.to_string()),
        (
            "default-cgroupns-mode",
            live.cgroupns_mode.clone().unwrap_or_default(),
        ),
        ("default-ipc-mode", live.ipc_mode.clone()),
        ("default-runtime", live.default_runtime.clone()),
        ("default-shm-size", live.shm_size.to_string()),
        ("default-stop-timeout", live.stop_timeout.to_string()),
        ("features", format!("map[{}]", features.join(" "))),
        (
            "insecure-registries",
            gojson::to_string(&live.insecure_registries),
        ),
        ("labels", gojson::to_string(&live.labels)),
        ("live-restore", live.live_restore.to_string()),
        (
            "max-concurrent-downloads",
            live.max_concurrent_downloads.to_string(),
        ),
        (
            "max-concurrent-uploads",
            live.max_concurrent_uploads.to_string(),
        ),
        (
            "max-download-attempts",
            live.max_download_attempts.to_string(),
        ),
        ("name", host),
        (
            "registry-mirrors",
            gojson::to_string(&live.registry_mirrors),
        ),
        ("runtimes", runtimes.join(" ")),
        ("shutdown-timeout", live.shutdown_timeout.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
