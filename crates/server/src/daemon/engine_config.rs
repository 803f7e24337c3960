//! The engine's configuration out of the daemon's.

use std::path::{Path, PathBuf};

use wharf_api::container::LogConfig;
use wharf_engine::EngineConfig;

use super::DaemonError;
use crate::config::Settings;

/// What the engine is told.
pub fn engine_config(settings: &Settings) -> Result<EngineConfig, DaemonError> {
    let binary = std::env::current_exe().map_err(|source| DaemonError::Io {
        what: "find own binary",
        source,
    })?;
    let mut config = EngineConfig::new(
        absolute(&settings.data_root)?,
        absolute(&settings.exec_root)?,
        binary,
    );
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    config.network.bip = text(&settings.bip);
    config.network.bridge = text(&settings.bridge);
    config.network.fixed_cidr = text(&settings.fixed_cidr);
    config.network.mtu = u32::try_from(settings.mtu).ok().filter(|mtu| *mtu > 0);
    config.network.no_icc = !settings.icc;
    config.network.no_ip_masq = !settings.ip_masq;
    config.network.no_ip_forward = !settings.ip_forward;
    config.network.no_firewall = !settings.iptables;
    config.network.default_address_pools = settings
        .default_address_pools
        .iter()
        .map(|pool| (pool.base.clone(), pool.size))
        .collect();
    config.log = LogConfig {
        kind: settings.log_driver.clone(),
        config: Some(settings.log_opts.clone()),
    };
    config.labels.clone_from(&settings.labels);
    config.cgroup_parent = text(&settings.cgroup_parent);
    config.shm_size = settings.default_shm_size;
    config.ipc_mode.clone_from(&settings.default_ipc_mode);
    config.cgroupns_mode = text(&settings.default_cgroupns_mode);
    config.ulimits.clone_from(&settings.default_ulimits);
    config.init = settings.init;
    config.stop_timeout = settings.default_stop_timeout;
    config.no_new_privileges = settings.no_new_privileges;
    config.dns.clone_from(&settings.dns);
    config.dns_search.clone_from(&settings.dns_search);
    config.dns_options.clone_from(&settings.dns_opts);
    config.host_gateway.clone_from(&settings.host_gateway_ips);
    config.host_gateway.extend(text(&settings.host_gateway_ip));
    config.default_runtime.clone_from(&settings.default_runtime);
    config.live_restore = settings.live_restore;
    config.debug = settings.debug;
    config.experimental = settings.experimental;
    config.proxies = [
        settings.http_proxy.clone(),
        settings.https_proxy.clone(),
        settings.no_proxy.clone(),
    ];
    Ok(config)
}

fn absolute(path: &Path) -> Result<PathBuf, DaemonError> {
    std::path::absolute(path).map_err(|source| DaemonError::Io {
        what: "resolve directory",
        source,
    })
}
