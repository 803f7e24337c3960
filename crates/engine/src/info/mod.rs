//! `GET /info` and `GET /version`.

pub mod disk_usage;

use std::collections::BTreeMap;
use std::fs;

use wharf_api::system::{
    AddressPool, Commit, Component, DiscoveredDevice, FirewallBackend, Info, PlatformName, Plugins,
    Runtime, Version,
};
use wharf_api::version;

use crate::container::log_driver;
use crate::container::stats::memory_total;
use crate::container::status::Status;
use crate::{Engine, LiveConfig, Result, clock};

impl Engine {
    /// Drivers by kind; of volumes those that are in use beside our own.
    fn plugins(&self) -> Plugins {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let volumes = self.volumes.all();
        let mut drivers: std::collections::BTreeSet<&str> = volumes
            .iter()
            .map(|volume| volume.driver.as_str())
            .collect();
        drivers.insert(crate::volumes::DRIVER);
        Plugins {
            volume: list(&drivers.into_iter().collect::<Vec<_>>()),
            network: list(&["bridge", "host", "ipvlan", "macvlan", "null"]),
            authorization: None,
            log: list(&log_driver::NAMES),
        }
    }

    /// Facts about host and engine.
    pub async fn info(&self) -> Result<Info> {
        let settings = self.settings();
        let mut info = Info {
            id: self.id.clone(),
            images: self.store.images().len() as u64,
            driver: self.store.driver().name().into(),
            driver_status: self
                .store
                .driver()
                .status()
                .into_iter()
                .map(|(key, value)| [key, value])
                .collect(),
            plugins: self.plugins(),
            debug: settings.debug,
            n_fd: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            n_goroutines: thread_count(),
            n_events_listener: self.events.listeners() as u64,
            system_time: clock::text(Some(clock::now_ns())),
            logging_driver: self.config.log.kind.clone(),
            cgroup_driver: self.config.cgroup_driver.clone(),
            cgroup_version: self.host.cgroup.version().into(),
            registry_config: Some(crate::registry::shown(&settings)),
            index_server_address: "https://index.docker.io/v1/".into(),
            docker_root_dir: self.config.data_root.display().to_string(),
            labels: settings.labels.clone(),
            experimental_build: self.config.experimental,
            server_version: version::ENGINE.into(),
            runtimes: runtimes(&settings),
            default_runtime: settings.default_runtime.clone(),
            live_restore_enabled: settings.live_restore,
            init_binary: self.config.init_binary.clone(),
            containerd_commit: Commit::default(),
            runc_commit: Commit::default(),
            init_commit: Commit::default(),
            security_options: self.security_options(),
            default_address_pools: self.address_pools(),
            discovered_devices: self.discovered_devices().await?,
            cdi_spec_dirs: self.config.cdi_spec_dirs.clone(),
            ..Info::default()
        };
        self.fill_host(&mut info);
        self.fill_abilities(&mut info);
        self.fill_states(&mut info);
        [info.http_proxy, info.https_proxy, info.no_proxy] = settings.proxies.clone();
        Ok(info)
    }

    fn fill_host(&self, info: &mut Info) {
        let uname = rustix::system::uname();
        info.kernel_version = uname.release().to_string_lossy().into_owned();
        info.architecture = uname.machine().to_string_lossy().into_owned();
        info.name = uname.nodename().to_string_lossy().into_owned();
        info.os_type = "linux".into();
        let release = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        info.operating_system = os_field(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".into());
        info.os_version = os_field(&release, "VERSION_ID").unwrap_or_default();
        info.n_cpu = self.cpus as u64;
        info.mem_total = i64::try_from(memory_total()).unwrap_or(i64::MAX);
    }

    fn fill_abilities(&self, info: &mut Info) {
        let can = &self.abilities;
        info.memory_limit = can.memory;
        info.swap_limit = can.swap;
        info.cpu_cfs_period = can.cpu_quota;
        info.cpu_cfs_quota = can.cpu_quota;
        info.cpu_shares = can.cpu_shares;
        info.cpu_set = can.cpuset;
        info.pids_limit = can.pids;
        info.oom_kill_disable = can.oom_kill_disable;
        info.firewall_backend = self.network.firewall_name().map(|name| FirewallBackend {
            driver: name.to_owned(),
            info: Vec::new(),
        });
        info.ipv4_forwarding = is_on("/proc/sys/net/ipv4/ip_forward");
        info.warnings = Some(warnings(info));
        info.bridge_nf_iptables = Some(is_on("/proc/sys/net/bridge/bridge-nf-call-iptables"));
        info.bridge_nf_ip6tables = Some(is_on("/proc/sys/net/bridge/bridge-nf-call-ip6tables"));
    }

    fn fill_states(&self, info: &mut Info) {
        for container in self.containers.all() {
            info.containers += 1;
            match container.status() {
                Status::Running | Status::Restarting => info.containers_running += 1,
                Status::Paused => info.containers_paused += 1,
                _ => info.containers_stopped += 1,
            }
        }
    }

    async fn discovered_devices(&self) -> Result<Vec<DiscoveredDevice>> {
        let dirs = self.config.cdi_spec_dirs.clone();
        crate::blocking(move || {
            let found = crate::cdi::Devices::load(&dirs);
            let device = |id: &str| DiscoveredDevice {
                source: "cdi".into(),
                id: id.to_owned(),
            };
            Ok(found.names().map(device).collect())
        })
        .await
    }

    fn security_options(&self) -> Vec<String> {
        let features = self.host.features;
        let private_cgroups = match &self.settings().cgroupns_mode {
            Some(mode) => mode == "private",
            None => self.host.cgroup.version() == "2",
        };
        let seccomp = format!("name=seccomp,profile={}", self.config.seccomp_profile.name);
        [
            (features.apparmor, "name=apparmor"),
            (features.seccomp, &seccomp),
            (self.selinux.is_some(), "name=selinux"),
            (self.config.userns_remap.is_some(), "name=userns"),
            (
                features.cgroup_namespaces && private_cgroups,
                "name=cgroupns",
            ),
            (self.config.no_new_privileges, "name=no-new-privileges"),
        ]
        .into_iter()
        .filter(|(active, _)| *active)
        .map(|(_, name)| name.to_owned())
        .collect()
    }

    fn address_pools(&self) -> Vec<AddressPool> {
        let pools = self.config.network.default_address_pools.iter();
        pools
            .map(|(base, size)| AddressPool {
                base: base.clone(),
                size: *size,
            })
            .collect()
    }

    /// What answers here.
    pub async fn version(&self) -> Result<Version> {
        let kernel = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let arch = wharf_spec::platform::Platform::host().architecture;
        let details = [
            ("ApiVersion", version::MAX.to_string()),
            ("Arch", arch.clone()),
            ("BuildTime", String::new()),
            ("Experimental", self.config.experimental.to_string()),
            ("GitCommit", String::new()),
            ("GoVersion", String::new()),
            ("KernelVersion", kernel.clone()),
            ("MinAPIVersion", version::MIN.to_string()),
            ("Os", "linux".to_owned()),
        ];
        let engine = Component {
            name: "Engine".into(),
            version: version::ENGINE.into(),
            details: details
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        };
        let wharf = Component {
            name: "wharf".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            details: BTreeMap::new(),
        };
        Ok(Version {
            platform: PlatformName {
                name: "Wharf".into(),
            },
            components: vec![engine, wharf],
            version: version::ENGINE.into(),
            api_version: version::MAX.to_string(),
            min_api_version: version::MIN.to_string(),
            os: "linux".into(),
            arch,
            kernel_version: kernel,
            experimental: self.config.experimental,
            ..Version::default()
        })
    }
}

fn runtimes(settings: &LiveConfig) -> BTreeMap<String, Runtime> {
    let runtime = Runtime {
        path: "runc".into(),
        ..Runtime::default()
    };
    let further = settings.runtimes.iter().map(|(name, runtime)| {
        let runtime = Runtime {
            path: runtime.path.clone(),
            args: runtime.args.clone(),
            ..Runtime::default()
        };
        (name.clone(), runtime)
    });
    [
        ("io.containerd.runc.v2".to_owned(), runtime.clone()),
        ("runc".to_owned(), runtime),
    ]
    .into_iter()
    .chain(further)
    .collect()
}

/// What this host lacks, in Docker's words.
fn warnings(info: &Info) -> Vec<String> {
    [
        (info.memory_limit, "WARNING: No memory limit support"),
        (info.swap_limit, "WARNING: No swap limit support"),
        (info.cpu_cfs_period, "WARNING: No cpu cfs period support"),
        (info.cpu_cfs_quota, "WARNING: No cpu cfs quota support"),
        (info.cpu_shares, "WARNING: No cpu shares support"),
        (info.cpu_set, "WARNING: No cpuset support"),
        (info.ipv4_forwarding, "WARNING: IPv4 forwarding is disabled"),
    ]
    .into_iter()
    .filter(|(there, _)| !there)
    .map(|(_, text)| text.to_owned())
    .collect()
}

fn is_on(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn thread_count() -> u64 {
    fs::read_dir("/proc/self/task").map_or(0, |entries| entries.count() as u64)
}

/// A value of os-release(5), unquoted.
fn os_field(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(
        value
            .trim_matches(|quote| quote == '"' || quote == '\'')
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n";
        assert_eq!(
            os_field(text, "PRETTY_NAME").as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(os_field(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_field(text, "VERSION"), None);
    }

    #[test]
    fn missing_abilities_are_warned_of() {
        let info = Info {
            memory_limit: true,
            ..Info::default()
        };
        assert_eq!(warnings(&info).len(), 6);
    }
}
