//! What the engine is told at its start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wharf_api::container::{LogConfig, Ulimit};
use wharf_network::NetworkConfig;

/// Settings of one engine. Names follow dockerd's flags.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// All state that must survive a reboot.
    pub data_root: PathBuf,
    /// Sockets and monitor state; gone after a reboot.
    pub exec_root: PathBuf,
    /// The program to start the spawner from.
    pub binary: PathBuf,
    /// Networks.
    pub network: NetworkConfig,
    /// Default log driver and its options.
    pub log: LogConfig,
    /// The daemon's own labels (`key=value`).
    pub labels: Vec<String>,
    /// Parent of containers' cgroups; `None` is `/docker`, or `system.slice` with the systemd driver.
    pub cgroup_parent: Option<String>,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Default size of `/dev/shm` in bytes.
    pub shm_size: i64,
    /// Default IPC mode, `private` or `shareable`.
    pub ipc_mode: String,
    /// Default cgroup namespace mode; `None` is private on cgroup v2, host on v1.
    pub cgroupns_mode: Option<String>,
    /// Limits that containers get unless they ask otherwise.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Run an init in every container.
    pub init: bool,
    /// Name of that init as `info` shows it.
    pub init_binary: String,
    /// Seconds between stop signal and kill.
    pub stop_timeout: i64,
    /// Set `no_new_privs` in every container.
    pub no_new_privileges: bool,
    /// Name servers for containers instead of the host's.
    pub dns: Vec<String>,
    /// Search domains likewise.
    pub dns_search: Vec<String>,
    /// Resolver options likewise.
    pub dns_options: Vec<String>,
    /// What `host-gateway` stands for in `--add-host`; `None` is the default bridge's address.
    pub host_gateway: Vec<String>,
    /// Path or name of the default runtime as `info` shows it.
    pub default_runtime: String,
    /// Containers keep running while no daemon does. Ours always do; `info` shows what was configured.
    pub live_restore: bool,
    /// Debug logging is on.
    pub debug: bool,
    /// Experimental features are on.
    pub experimental: bool,
    /// Proxies as `info` shows them: http, https, no_proxy.
    pub proxies: [String; 3],
}

impl EngineConfig {
    /// Docker's defaults with our paths.
    pub fn new(data_root: PathBuf, exec_root: PathBuf, binary: PathBuf) -> EngineConfig {
        EngineConfig {
            data_root,
            exec_root,
            binary,
            network: NetworkConfig::default(),
            log: LogConfig {
                kind: "json-file".into(),
                config: Some(BTreeMap::new()),
            },
            labels: Vec::new(),
            cgroup_parent: None,
            cgroup_driver: "cgroupfs".into(),
            shm_size: 64 * 1024 * 1024,
            ipc_mode: "private".into(),
            cgroupns_mode: None,
            ulimits: BTreeMap::new(),
            init: false,
            init_binary: "docker-init".into(),
            stop_timeout: 10,
            no_new_privileges: false,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            host_gateway: Vec::new(),
            default_runtime: "runc".into(),
            live_restore: false,
            debug: false,
            experimental: false,
            proxies: Default::default(),
        }
    }

    /// Directory of one container's files.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.data_root.join("containers").join(id)
    }

    /// Directory of one container's monitor.
    pub fn monitor_dir(&self, id: &str) -> PathBuf {
        self.exec_root.join("monitor").join(id)
    }
}
