//! What this host's control groups can limit (moby `pkg/sysinfo`), read once per daemon.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wharf_runtime::host::{CgroupLayout, HostFacts};

/// Limits that can be honoured here. What is not among them is taken back with a warning, as Docker does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Number of CPUs.
    pub cpus: i64,
    /// AppArmor is active.
    pub apparmor: bool,
    /// SELinux is active and the daemon uses it.
    pub selinux: bool,
    /// cgroup v2.
    pub cgroup_v2: bool,
    /// Cgroup namespaces exist.
    pub cgroup_namespaces: bool,
    /// `Memory`.
    pub memory: bool,
    /// `MemorySwap`.
    pub swap: bool,
    /// `MemoryReservation`.
    pub reservation: bool,
    /// `MemorySwappiness`; v1 only.
    pub swappiness: bool,
    /// `OomKillDisable`; v1 only.
    pub oom_kill_disable: bool,
    /// `KernelMemoryTCP`; v1 only.
    pub kernel_memory_tcp: bool,
    /// `PidsLimit`.
    pub pids: bool,
    /// `CpuShares`.
    pub cpu_shares: bool,
    /// `CpuPeriod`, `CpuQuota`, `NanoCpus`.
    pub cpu_quota: bool,
    /// `CpuRealtimePeriod`, `CpuRealtimeRuntime`; v1 only.
    pub cpu_realtime: bool,
    /// `CpusetCpus`, `CpusetMems`.
    pub cpuset: bool,
    /// CPUs that a container may be bound to, as the kernel lists them.
    pub cpu_list: String,
    /// Memory nodes likewise.
    pub memory_nodes: String,
    /// `BlkioWeight` and `BlkioWeightDevice`.
    pub io_weight: bool,
    /// Limits of huge pages (extension).
    pub hugetlb: bool,
    /// The four throttles of block devices.
    pub io_throttle: bool,
}

impl Abilities {
    /// Reads what the mounted controllers offer. A dozen `stat` calls.
    pub fn probe(host: &HostFacts) -> Abilities {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let general = Abilities {
            cpus: i64::try_from(cpus).unwrap_or(1),
            apparmor: host.features.apparmor,
            cgroup_namespaces: host.features.cgroup_namespaces,
            swap: host.features.swap_accounting,
            ..Abilities::default()
        };
        match &host.cgroup {
            CgroupLayout::V1 { .. } => Abilities {
                ..v1(host, general)
            },
            CgroupLayout::V2 { mount, .. } => v2(host, mount, general),
        }
    }
}

fn v1(host: &HostFacts, general: Abilities) -> Abilities {
    let mount = |controller: &str| mount_of(host, controller);
    let has = |controller: &str, file: &str| {
        mount(controller).is_some_and(|mount| mount.join(file).exists())
    };
    let list = |file: &str| {
        let text = mount("cpuset").map(|mount| fs::read_to_string(mount.join(file)));
        text.and_then(Result::ok).unwrap_or_default().trim().into()
    };
    Abilities {
        memory: has("memory", "memory.limit_in_bytes"),
        reservation: has("memory", "memory.soft_limit_in_bytes"),
        swappiness: has("memory", "memory.swappiness"),
        oom_kill_disable: has("memory", "memory.oom_control"),
        kernel_memory_tcp: has("memory", "memory.kmem.tcp.limit_in_bytes"),
        pids: mount("pids").is_some(),
        cpu_shares: has("cpu", "cpu.shares"),
        cpu_quota: has("cpu", "cpu.cfs_quota_us"),
        cpu_realtime: has("cpu", "cpu.rt_runtime_us"),
        cpuset: has("cpuset", "cpuset.cpus"),
        cpu_list: list("cpuset.cpus"),
        memory_nodes: list("cpuset.mems"),
        // The root has the counters of BFQ only; every group below it has the weights too.
        io_weight: has("blkio", "blkio.weight") || has("blkio", "blkio.bfq.io_serviced"),
        hugetlb: mount("hugetlb").is_some(),
        io_throttle: has("blkio", "blkio.throttle.read_bps_device"),
        ..general
    }
}

fn v2(host: &HostFacts, mount: &Path, general: Abilities) -> Abilities {
    let has = |controller: &str| host.cgroup.has(controller);
    let list = |file: &str| {
        let text = fs::read_to_string(mount.join(file)).unwrap_or_default();
        text.trim().to_owned()
    };
    Abilities {
        cgroup_v2: true,
        memory: has("memory"),
        swap: has("memory") && general.swap,
        reservation: has("memory"),
        pids: has("pids"),
        cpu_shares: has("cpu"),
        cpu_quota: has("cpu"),
        cpuset: has("cpuset"),
        cpu_list: list("cpuset.cpus.effective"),
        memory_nodes: list("cpuset.mems.effective"),
        io_weight: has("io"),
        hugetlb: has("hugetlb"),
        io_throttle: has("io"),
        ..general
    }
}

fn mount_of(host: &HostFacts, controller: &str) -> Option<PathBuf> {
    let CgroupLayout::V1 { hierarchies } = &host.cgroup else {
        return None;
    };
    let has = |names: &[String]| names.iter().any(|name| name == controller);
    hierarchies
        .iter()
        .find(|hierarchy| has(&hierarchy.controllers))
        .map(|hierarchy| hierarchy.mount.clone())
}

/// Parses the kernel's list format, `0-2,4` (cpuset(7)). `None`: not one.
pub fn parse_list(text: &str) -> Option<BTreeSet<u32>> {
    /// Docker's bound, against `0-4294967295`.
    const MAX: u32 = 8192;
    let mut numbers = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        for (text, expected) in [
            ("", Some(vec![])),
            ("0-2,4", Some(vec![0, 1, 2, 4])),
            ("1, 3", Some(vec![1, 3])),
            ("2-1", None),
            ("x", None),
            ("0-99999", None),
        ] {
            let parsed = parse_list(text).map(|set| set.into_iter().collect());
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
