//! Which namespaces a container gets, shares or joins.

use std::path::{Path, PathBuf};

use wharf_api::container::HostConfig;
use wharf_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::Joined;

/// One entry per namespace that is not the host's.
pub fn make(host: &HostConfig, joined: &Joined, user: Option<&Path>) -> Vec<LinuxNamespace> {
    let own = |wanted: bool, kind| wanted.then(|| namespace(kind, None));
    let shared = |host_mode: bool, path: &Option<PathBuf>, kind| match path {
        Some(path) => Some(namespace(kind, Some(path.clone()))),
        None => own(!host_mode, kind),
    };
    [
        own(true, LinuxNamespaceType::Mount),
        shared(
            host.network_mode == "host",
            &joined.net,
            LinuxNamespaceType::Network,
        ),
        own(host.uts_mode != "host", LinuxNamespaceType::Uts),
        shared(
            host.pid_mode == "host",
            &joined.pid,
            LinuxNamespaceType::Pid,
        ),
        shared(
            host.ipc_mode == "host",
            &joined.ipc,
            LinuxNamespaceType::Ipc,
        ),
        own(host.cgroupns_mode == "private", LinuxNamespaceType::Cgroup),
        user.map(|path| namespace(LinuxNamespaceType::User, Some(path.to_owned()))),
        own(
            !host.wharf.time_offsets.is_empty(),
            LinuxNamespaceType::Time,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    let builder = match path {
        Some(path) => builder.path(path),
        None => builder,
    };
    builder.build().expect("every field has a default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(host: &HostConfig, joined: &Joined) -> String {
        let text = |namespace: &LinuxNamespace| {
            let path = namespace
                .path()
                .as_ref()
                .map_or(String::new(), |path| format!("={}", path.display()));
            format!("{}{path}", namespace.typ())
        };
        make(host, joined, None)
            .iter()
            .map(text)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn modes_decide_namespaces() {
        assert_eq!(
            kinds(&HostConfig::default(), &Joined::default()),
            "mnt net uts pid ipc"
        );
        let host = HostConfig {
            network_mode: "host".into(),
            pid_mode: "host".into(),
            ipc_mode: "host".into(),
            uts_mode: "host".into(),
            cgroupns_mode: "private".into(),
            ..HostConfig::default()
        };
        assert_eq!(kinds(&host, &Joined::default()), "mnt cgroup");
        let joined = Joined {
            pid: Some("/proc/1/ns/pid".into()),
            ..Joined::default()
        };
        assert_eq!(
            kinds(&HostConfig::default(), &joined),
            "mnt net uts pid=/proc/1/ns/pid ipc"
        );
    }
}
