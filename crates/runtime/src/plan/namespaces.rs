//! Which namespaces are the container's own, and which kernel parameters that allows.

use wharf_spec::runtime::{Linux, LinuxNamespaceType};

use super::{Mappings, NamespaceSource, Namespaces, PlanError, mappings};

/// Parts of the specification that nobody would notice missing until it hurts.
pub(super) fn refuse_unsupported(linux: &Linux) -> Result<(), PlanError> {
    let refuse = |what: &str| Err(PlanError::Unsupported(what.into()));
    if linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()) {
        return refuse("moving network devices (linux.netDevices)");
    }
    Ok(())
}

/// Reads the namespace list. A kind that is not listed is the host's.
pub(super) fn plan_namespaces(linux: &Linux) -> Result<Namespaces, PlanError> {
    let mut ns = Namespaces {
        mount: NamespaceSource::Host,
        pid: NamespaceSource::Host,
        net: NamespaceSource::Host,
        ipc: NamespaceSource::Host,
        uts: NamespaceSource::Host,
        cgroup: NamespaceSource::Host,
        user: NamespaceSource::Host,
        time: NamespaceSource::Host,
    };
    let mut seen = Vec::new();
    for entry in linux.namespaces().iter().flatten() {
        let source = match entry.path() {
            Some(path) if !path.as_os_str().is_empty() => NamespaceSource::Path(path.clone()),
            _ => NamespaceSource::New,
        };
        if seen.contains(&entry.typ()) {
            return Err(PlanError::Invalid {
                what: "namespace, which is listed twice,",
                value: entry.typ().to_string(),
            });
        }
        seen.push(entry.typ());
        match entry.typ() {
            LinuxNamespaceType::Mount => ns.mount = source,
            LinuxNamespaceType::Pid => ns.pid = source,
            LinuxNamespaceType::Network => ns.net = source,
            LinuxNamespaceType::Ipc => ns.ipc = source,
            LinuxNamespaceType::Uts => ns.uts = source,
            LinuxNamespaceType::Cgroup => ns.cgroup = source,
            LinuxNamespaceType::User => ns.user = source,
            LinuxNamespaceType::Time => ns.time = source,
        }
    }
    Ok(ns)
}

/// The ids of a new user namespace. They say nothing about one that is joined.
pub(super) fn plan_mappings(linux: &Linux, ns: &Namespaces) -> Result<Mappings, PlanError> {
    let list = |list: &Option<Vec<_>>| list.clone().unwrap_or_default();
    let mapped = Mappings {
        uids: mappings::plan_ranges("uid mapping", &list(linux.uid_mappings()))?,
        gids: mappings::plan_ranges("gid mapping", &list(linux.gid_mappings()))?,
    };
    match &ns.user {
        NamespaceSource::New if mapped.uids.is_empty() || mapped.gids.is_empty() => Err(
            PlanError::Missing("uidMappings and gidMappings for its user namespace"),
        ),
        NamespaceSource::New | NamespaceSource::Path(_) => Ok(mapped),
        NamespaceSource::Host if !mapped.is_empty() => Err(PlanError::Missing(
            "user namespace, but uidMappings or gidMappings",
        )),
        NamespaceSource::Host => Ok(mapped),
    }
}

/// Offsets of the clocks that a time namespace has, time_namespaces(7).
pub(super) fn plan_time_offsets(
    linux: &Linux,
    ns: &Namespaces,
) -> Result<Vec<(u32, i64, u32)>, PlanError> {
    let mut offsets = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let number = match clock.as_str() {
            "monotonic" => 1,
            "boottime" => 7,
            _ => {
                return Err(PlanError::Invalid {
                    what: "clock of a time offset",
                    value: clock.clone(),
                });
            }
        };
        let (seconds, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        offsets.push((number, seconds, nanos));
    }
    offsets.sort_unstable();
    if !offsets.is_empty() && ns.time != NamespaceSource::New {
        return Err(PlanError::Missing("new time namespace, but time offsets"));
    }
    Ok(offsets)
}

/// IPC parameters that exist per namespace, besides `fs.mqueue.*`.
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Turns `net.ipv4.ip_forward=1` into paths below `/proc/sys`. Refuses what would change the host, in runc's words.
pub(super) fn plan_sysctls(
    linux: &Linux,
    ns: &Namespaces,
) -> Result<Vec<(String, String)>, PlanError> {
    let mut sysctls = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        check_sysctl(key, ns)?;
        let path = sysctl_path(key);
        if path.split('/').any(|part| part.is_empty() || part == "..") {
            return Err(PlanError::Invalid {
                what: "sysctl",
                value: key.clone(),
            });
        }
        sysctls.push((path, value.clone()));
    }
    sysctls.sort();
    Ok(sysctls)
}

/// The first separator decides which of `.` and `/` separates, sysctl(8).
fn sysctl_path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'/' => key.to_string(),
        _ => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    }
}

fn check_sysctl(key: &str, ns: &Namespaces) -> Result<(), PlanError> {
    let refuse = |text: String| Err(PlanError::Sysctl(text));
    let key = sysctl_path(key).replace('/', ".");
    if IPC_SYSCTLS.contains(&key.as_str()) || key.starts_with("fs.mqueue.") {
        return match ns.ipc {
            NamespaceSource::Host => refuse(format!(
                "sysctl {key:?} is not allowed in the hosts ipc namespace"
            )),
            _ => Ok(()),
        };
    }
    if key.starts_with("net.") {
        return match ns.net {
            NamespaceSource::Host => refuse(format!(
                "sysctl {key:?} not allowed in host network namespace"
            )),
            _ => Ok(()),
        };
    }
    match key.as_str() {
        "kernel.domainname" if ns.uts != NamespaceSource::Host => Ok(()),
        "kernel.domainname" => refuse(format!("sysctl {key:?} conflicts with OCI domainname")),
        "kernel.hostname" => refuse(format!("sysctl {key:?} conflicts with OCI hostname")),
        _ => refuse(format!(
            "sysctl {key:?} is not in a separate kernel namespace"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(net: NamespaceSource, ipc: NamespaceSource) -> Namespaces {
        let new = || NamespaceSource::New;
        Namespaces {
            mount: new(),
            pid: new(),
            net,
            ipc,
            uts: new(),
            cgroup: new(),
            user: NamespaceSource::Host,
            time: NamespaceSource::Host,
        }
    }

    #[test]
    fn sysctls_need_their_namespace() {
        let own = || namespaces(NamespaceSource::New, NamespaceSource::New);
        let host = || namespaces(NamespaceSource::Host, NamespaceSource::Host);
        for (key, ns, allowed) in [
            ("net.ipv4.ip_forward", own(), true),
            ("net/ipv4/ip_forward", own(), true),
            ("net.ipv4.ip_forward", host(), false),
            ("kernel.shmmax", own(), true),
            ("kernel.shmmax", host(), false),
            ("fs.mqueue.msg_max", own(), true),
            ("kernel.hostname", own(), false),
            ("kernel.domainname", own(), true),
            ("vm.swappiness", own(), false),
        ] {
            assert_eq!(check_sysctl(key, &ns).is_ok(), allowed, "{key}");
        }
    }

    #[test]
    fn the_first_separator_decides() {
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.rp_filter"),
            "net/ipv4/conf/eth0.1/rp_filter"
        );
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.1/rp_filter"),
            "net/ipv4/conf/eth0.1/rp_filter"
        );
    }
}
