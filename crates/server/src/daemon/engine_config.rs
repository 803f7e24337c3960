//! The engine's configuration out of the daemon's.

use std::path::{Path, PathBuf};

use wharf_api::container::LogConfig;
use wharf_engine::config::{RuntimeConfig, SeccompPolicy, SeccompProfile};
use wharf_engine::images::collect::CollectLimits;
use wharf_engine::userns::subid::Remap;
use wharf_engine::{
    BuilderConfig, EngineConfig, LiveConfig, StorageChoice as Choice, StoreSettings,
};

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
    config.network.bip6 = text(&settings.bip6);
    config.network.ipv6 = settings.ipv6;
    config.network.fixed_cidr_v6 = text(&settings.fixed_cidr_v6);
    config.network.default_gateway = text(&settings.default_gateway);
    config.network.default_gateway_v6 = text(&settings.default_gateway_v6);
    config
        .network
        .default_network_opts
        .clone_from(&settings.default_network_opts);
    // Checked with the settings.
    config.network.firewall_backend = settings.firewall_backend.parse().unwrap_or_default();
    config.network.allow_direct_routing = settings.allow_direct_routing;
    config.network.ip_forward_no_drop = settings.ip_forward_no_drop;
    config.network.bridge = text(&settings.bridge);
    config.network.fixed_cidr = text(&settings.fixed_cidr);
    config.network.host_address = settings.ip.parse().ok();
    config.network.default_publish_address = settings.publish_default_address.parse().ok();
    config.network.no_userland_proxy = !settings.userland_proxy;
    config.resolv_conf.clone_from(&settings.resolv_conf);
    config.network.mtu = u32::try_from(settings.mtu).ok().filter(|mtu| *mtu > 0);
    config.network.no_icc = !settings.icc;
    config.network.no_ip_masq = !settings.ip_masq;
    config.network.no_ip_forward = !settings.ip_forward;
    config.network.no_firewall = !settings.iptables;
    // Who has the firewall left alone means both families.
    config.network.no_firewall6 = !settings.ip6tables || !settings.iptables;
    config.network.default_address_pools = settings
        .default_address_pools
        .iter()
        .map(|pool| (pool.base.clone(), pool.size))
        .collect();
    config.log = LogConfig {
        kind: settings.log_driver.clone(),
        config: Some(settings.log_opts.clone()),
    };
    config.storage = Choice {
        name: settings.storage_driver.clone(),
        options: settings.storage_opts.clone(),
    };
    config.cgroup_parent = text(&settings.cgroup_parent);
    settings
        .cgroup_driver()
        .clone_into(&mut config.cgroup_driver);
    config.selinux_enabled = settings.selinux_enabled;
    config.ulimits.clone_from(&settings.default_ulimits);
    config.init = settings.init;
    config.no_new_privileges = settings.no_new_privileges;
    config.seccomp_profile = seccomp_profile(&settings.seccomp_profile)?;
    if !matches!(settings.userns_remap.as_str(), "" | "host") {
        let remap = Remap::resolve(&settings.userns_remap).map_err(DaemonError::UsernsRemap)?;
        config.userns_remap = Some(remap);
    }
    if !settings.cdi_spec_dirs.is_empty() {
        config.cdi_spec_dirs.clone_from(&settings.cdi_spec_dirs);
        // One empty word turns the interface off.
        config.cdi_spec_dirs.retain(|dir| !dir.is_empty());
    }
    config.cpu_rt_period = settings.cpu_rt_period;
    config.cpu_rt_runtime = settings.cpu_rt_runtime;
    config.dns.clone_from(&settings.dns);
    config.dns_search.clone_from(&settings.dns_search);
    config.dns_options.clone_from(&settings.dns_opts);
    config.host_gateway.clone_from(&settings.host_gateway_ips);
    config.host_gateway.extend(text(&settings.host_gateway_ip));
    config.experimental = settings.experimental;
    let entitlements = &settings.builder.entitlements;
    config.builder = BuilderConfig {
        network_host: entitlements.network_host.unwrap_or(true),
        security_insecure: entitlements.security_insecure.unwrap_or(true),
        // Checked when the options were read.
        keep: settings.build_cache_limit().unwrap_or_default(),
    };
    config.live = live_config(settings);
    Ok(config)
}

/// What the engine is told again at each reload.
pub fn live_config(settings: &Settings) -> LiveConfig {
    let or_default = |value: i64, default: i64| if value == 0 { default } else { value };
    let default = LiveConfig::default();
    let runtimes = settings.runtimes.iter().map(|(name, runtime)| {
        let runtime = RuntimeConfig {
            path: runtime.path.clone(),
            args: runtime.args.clone(),
        };
        (name.clone(), runtime)
    });
    LiveConfig {
        labels: settings.labels.clone(),
        debug: settings.debug,
        live_restore: settings.live_restore,
        default_runtime: if settings.default_runtime.is_empty() {
            default.default_runtime
        } else {
            settings.default_runtime.clone()
        },
        runtimes: runtimes.collect(),
        shm_size: settings.default_shm_size,
        ipc_mode: settings.default_ipc_mode.clone(),
        cgroupns_mode: Some(settings.default_cgroupns_mode.clone()).filter(|mode| !mode.is_empty()),
        stop_timeout: settings.default_stop_timeout,
        shutdown_timeout: settings.shutdown_timeout,
        features: settings.features.clone(),
        insecure_registries: settings.insecure_registries.clone(),
        registry_mirrors: settings.registry_mirrors.clone(),
        max_concurrent_downloads: or_default(
            settings.max_concurrent_downloads,
            default.max_concurrent_downloads,
        ),
        max_concurrent_uploads: or_default(
            settings.max_concurrent_uploads,
            default.max_concurrent_uploads,
        ),
        max_download_attempts: or_default(
            settings.max_download_attempts,
            default.max_download_attempts,
        ),
        image_gc: CollectLimits {
            // Checked when the options were read.
            age: settings.image_age().unwrap_or_default(),
            size: u64::try_from(settings.image_gc_max_size)
                .ok()
                .filter(|size| *size > 0),
        },
        store: StoreSettings {
            keep_compressed: settings.image_keep_compressed,
            max_expansion: settings.image_max_expansion,
        },
        proxies: [
            proxy(&settings.http_proxy, "HTTP_PROXY"),
            proxy(&settings.https_proxy, "HTTPS_PROXY"),
            proxy(&settings.no_proxy, "NO_PROXY"),
        ],
    }
}

/// The option, or else the environment, where capital letters count more.
fn proxy(option: &str, variable: &str) -> String {
    if !option.is_empty() {
        return option.to_owned();
    }
    [variable.to_owned(), variable.to_ascii_lowercase()]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_default()
}

fn absolute(path: &Path) -> Result<PathBuf, DaemonError> {
    std::path::absolute(path).map_err(|source| DaemonError::Io {
        what: "resolve directory",
        source,
    })
}

/// `builtin`, `unconfined`, or the path of a profile, which is read once: every container gets what was there then.
fn seccomp_profile(value: &str) -> Result<SeccompProfile, DaemonError> {
    let policy = match value {
        "" | "builtin" => return Ok(SeccompProfile::default()),
        "unconfined" => SeccompPolicy::Unconfined,
        path => {
            let text = std::fs::read_to_string(path).map_err(|source| DaemonError::Seccomp {
                path: path.to_owned(),
                source,
            })?;
            SeccompPolicy::Profile(text)
        }
    };
    Ok(SeccompProfile {
        name: value.to_owned(),
        policy,
    })
}
