//! What the engine is told at its start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wharf_api::container::{LogConfig, Ulimit};
use wharf_network::NetworkConfig;

use crate::images::collect::CollectLimits;
use crate::userns::subid::Remap;
pub use wharf_runtime::plan::{SeccompPolicy, is_slice};
use wharf_store::StoreSettings;
use wharf_store::drivers::Choice;

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
    /// Storage driver and its options.
    pub storage: Choice,
    /// Default log driver and its options.
    pub log: LogConfig,
    /// What can change while the engine runs, as it is at the start.
    pub live: LiveConfig,
    /// Parent of containers' cgroups; `None` is `/docker`, or `system.slice` with the systemd driver.
    pub cgroup_parent: Option<String>,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Limits that containers get unless they ask otherwise.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Run an init in every container.
    pub init: bool,
    /// Name of that init as `info` shows it.
    pub init_binary: String,
    /// Set `no_new_privs` in every container.
    pub no_new_privileges: bool,
    /// System call filter of containers that do not bring their own.
    pub seccomp_profile: SeccompProfile,
    /// Label containers where the host has SELinux.
    pub selinux_enabled: bool,
    /// Ids of all containers that do not say otherwise.
    pub userns_remap: Option<Remap>,
    /// Directories with descriptions of CDI devices; a later one wins.
    pub cdi_spec_dirs: Vec<String>,
    /// Realtime scheduling period of the containers' parent groups, microseconds; 0 leaves it (v1).
    pub cpu_rt_period: i64,
    /// Realtime scheduling time likewise.
    pub cpu_rt_runtime: i64,
    /// Name servers for containers instead of the host's.
    pub dns: Vec<String>,
    /// Search domains likewise.
    pub dns_search: Vec<String>,
    /// Resolver options likewise.
    pub dns_options: Vec<String>,
    /// File that containers' `resolv.conf` is made from where they ask name servers by themselves; empty is the host's.
    pub resolv_conf: String,
    /// What `host-gateway` stands for in `--add-host`; `None` is the default bridge's address.
    pub host_gateway: Vec<String>,
    /// Experimental features are on.
    pub experimental: bool,
    /// What builds may do and keep.
    pub builder: BuilderConfig,
}

/// Settings of builds (`builder` in `daemon.json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderConfig {
    /// `RUN --network=host` is allowed to those who ask for the entitlement.
    pub network_host: bool,
    /// `RUN --security=insecure` likewise.
    pub security_insecure: bool,
    /// Bytes that all caches of builds may have together.
    pub keep: Option<u64>,
}

impl Default for BuilderConfig {
    fn default() -> BuilderConfig {
        BuilderConfig {
            network_host: true,
            security_insecure: true,
            keep: None,
        }
    }
}

/// Settings that a reload changes, in one value that is swapped whole. Names follow dockerd's flags.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveConfig {
    /// The daemon's own labels (`key=value`).
    pub labels: Vec<String>,
    /// Debug logging is on.
    pub debug: bool,
    /// Containers keep running when the daemon stops.
    pub live_restore: bool,
    /// Name of the runtime of containers that ask for none.
    pub default_runtime: String,
    /// Further OCI runtimes by name.
    pub runtimes: BTreeMap<String, RuntimeConfig>,
    /// Default size of `/dev/shm` in bytes.
    pub shm_size: i64,
    /// Default IPC mode, `private` or `shareable`.
    pub ipc_mode: String,
    /// Default cgroup namespace mode; `None` is private on cgroup v2, host on v1.
    pub cgroupns_mode: Option<String>,
    /// Seconds between stop signal and kill.
    pub stop_timeout: i64,
    /// Seconds that all containers together have to stop when the daemon does; negative waits for ever.
    pub shutdown_timeout: i64,
    /// Features switched on or off.
    pub features: BTreeMap<String, bool>,
    /// Registries that are spoken to without TLS, or without checking it.
    pub insecure_registries: Vec<String>,
    /// Registries that are asked before the hub.
    pub registry_mirrors: Vec<String>,
    /// Layers pulled at a time.
    pub max_concurrent_downloads: i64,
    /// Layers pushed at a time.
    pub max_concurrent_uploads: i64,
    /// When unused images go by themselves.
    pub image_gc: CollectLimits,
    /// What is kept of pulled images, and what is taken in.
    pub store: StoreSettings,
    /// Attempts for each layer.
    pub max_download_attempts: i64,
    /// Proxies: http, https, no_proxy.
    pub proxies: [String; 3],
}

/// An OCI runtime that is a program of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Program: a path, or a name to be looked for in `PATH`.
    pub path: String,
    /// Arguments before the command of the runtime's command line.
    pub args: Vec<String>,
}

impl Default for LiveConfig {
    fn default() -> LiveConfig {
        LiveConfig {
            labels: Vec::new(),
            debug: false,
            live_restore: false,
            default_runtime: "runc".into(),
            runtimes: BTreeMap::new(),
            shm_size: 64 * 1024 * 1024,
            ipc_mode: "private".into(),
            cgroupns_mode: None,
            stop_timeout: 10,
            shutdown_timeout: 15,
            features: BTreeMap::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            image_gc: CollectLimits::default(),
            store: StoreSettings::default(),
            proxies: Default::default(),
        }
    }
}

/// A system call filter for all containers (`--seccomp-profile`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompProfile {
    /// As `info` shows it: `builtin`, `unconfined` or the path.
    pub name: String,
    /// What it means.
    pub policy: SeccompPolicy,
}

impl Default for SeccompProfile {
    fn default() -> SeccompProfile {
        SeccompProfile {
            name: "builtin".into(),
            policy: SeccompPolicy::Default,
        }
    }
}

impl EngineConfig {
    /// Docker's defaults with our paths.
    pub fn new(data_root: PathBuf, exec_root: PathBuf, binary: PathBuf) -> EngineConfig {
        EngineConfig {
            data_root,
            exec_root,
            binary,
            network: NetworkConfig::default(),
            storage: Choice::default(),
            log: LogConfig {
                kind: "json-file".into(),
                config: Some(BTreeMap::new()),
            },
            live: LiveConfig::default(),
            cgroup_parent: None,
            cgroup_driver: "cgroupfs".into(),
            ulimits: BTreeMap::new(),
            init: false,
            init_binary: "docker-init".into(),
            no_new_privileges: false,
            seccomp_profile: SeccompProfile::default(),
            selinux_enabled: false,
            userns_remap: None,
            cdi_spec_dirs: crate::cdi::DEFAULT_DIRS.map(str::to_owned).into(),
            cpu_rt_period: 0,
            cpu_rt_runtime: 0,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            resolv_conf: String::new(),
            host_gateway: Vec::new(),
            experimental: false,
            builder: BuilderConfig::default(),
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
