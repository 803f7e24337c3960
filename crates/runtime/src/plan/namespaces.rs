//! Which namespaces are the container's own, and which kernel parameters that allows.

use wharf_spec::runtime::{Linux, LinuxNamespaceType};

use super::{NamespaceSource, Namespaces, PlanError};

/// Reads the namespace list. A kind that is not listed is the host's.
pub(super) fn plan_namespaces(linux: &Linux) -> Result<Namespaces, PlanError> {
    let mut ns = Namespaces {
        mount: NamespaceSource::Host,
        pid: NamespaceSource::Host,
        net: NamespaceSource::Host,
        ipc: NamespaceSource::Host,
        uts: NamespaceSource::Host,
        cgroup: NamespaceSource::Host,
    };
    for entry in linux.namespaces().iter().flatten() {
        let source = match entry.path() {
            Some(path) => NamespaceSource::Path(path.clone()),
            None => NamespaceSource::New,
        };
        match entry.typ() {
            LinuxNamespaceType::Mount => ns.mount = source,
            LinuxNamespaceType::Pid => ns.pid = source,
            LinuxNamespaceType::Network => ns.net = source,
            LinuxNamespaceType::Ipc => ns.ipc = source,
            LinuxNamespaceType::Uts => ns.uts = source,
            LinuxNamespaceType::Cgroup => ns.cgroup = source,
            LinuxNamespaceType::User => {
                return Err(PlanError::Unsupported("a user namespace".into()));
            }
            LinuxNamespaceType::Time => {
                return Err(PlanError::Unsupported("a time namespace".into()));
            }
        }
    }
    if ns.mount != NamespaceSource::New {
        return Err(PlanError::Unsupported(
            "a container without its own mount namespace".into(),
        ));
    }
    Ok(ns)
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
