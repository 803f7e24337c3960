//! Capabilities: Docker's default set, `--cap-add`, `--cap-drop`, `--privileged` (moby `daemon/pkg/oci/caps`).

use std::collections::HashSet;

use wharf_api::container::HostConfig;
use wharf_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::{Error, Result};

const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setgid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

/// One entry of `CapAdd` or `CapDrop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    All,
    One(Capability),
}

/// The sets of a container. What the host itself lacks is taken out when the plan is made.
pub fn make(host: &HostConfig) -> Result<LinuxCapabilities> {
    let set = effective(host)?;
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        // Inheritable and ambient stay empty (CVE-2022-24769).
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .map_err(|error| Error::caused("build spec", error))
}

/// Refuses names that are no capabilities.
pub fn validate(host: &HostConfig) -> Result<()> {
    parse(host.cap_add.as_ref(), "CapAdd")?;
    parse(host.cap_drop.as_ref(), "CapDrop")?;
    Ok(())
}

fn effective(host: &HostConfig) -> Result<HashSet<Capability>> {
    if host.privileged {
        return Ok(ALL.into());
    }
    let added = parse(host.cap_add.as_ref(), "CapAdd")?;
    let dropped = parse(host.cap_drop.as_ref(), "CapDrop")?;
    let is_dropped = |capability: &Capability| dropped.contains(&Named::One(*capability));
    if added.contains(&Named::All) {
        return Ok(ALL
            .into_iter()
            .filter(|capability| !is_dropped(capability))
            .collect());
    }
    let base = if dropped.contains(&Named::All) {
        &[][..]
    } else {
        &DEFAULT[..]
    };
    let kept = base
        .iter()
        .copied()
        .filter(|capability| !is_dropped(capability));
    let more = added.iter().filter_map(|named| match named {
        Named::One(capability) => Some(*capability),
        Named::All => None,
    });
    Ok(kept.chain(more).collect())
}

fn parse(names: Option<&Vec<String>>, what: &str) -> Result<Vec<Named>> {
    names
        .into_iter()
        .flatten()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            if upper == "ALL" {
                return Ok(Named::All);
            }
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            let capability = bare.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid {what}: unknown capability: \"CAP_{bare}\""
                ))
            })?;
            Ok(Named::One(capability))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], count: usize, has: Capability, lacks: Capability) {
        let words = |list: &[&str]| Some(list.iter().map(|name| (*name).to_owned()).collect());
        let host = HostConfig {
            cap_add: words(add),
            cap_drop: words(drop),
            ..HostConfig::default()
        };
        let set = effective(&host).expect("known names");
        assert_eq!(set.len(), count, "{add:?} {drop:?}");
        assert!(
            set.contains(&has) && !set.contains(&lacks),
            "{add:?} {drop:?}"
        );
    }

    #[test]
    fn adding_and_dropping_follow_docker() {
        check(&[], &[], 14, Capability::Chown, Capability::SysAdmin);
        check(
            &["sys_admin"],
            &[],
            15,
            Capability::SysAdmin,
            Capability::Bpf,
        );
        check(
            &["CAP_NET_ADMIN"],
            &["CHOWN"],
            14,
            Capability::NetAdmin,
            Capability::Chown,
        );
        check(
            &["NET_ADMIN"],
            &["ALL"],
            1,
            Capability::NetAdmin,
            Capability::Chown,
        );
        check(
            &["ALL"],
            &["SYS_ADMIN"],
            40,
            Capability::Bpf,
            Capability::SysAdmin,
        );
    }

    #[test]
    fn unknown_names_are_refused() {
        let host = HostConfig {
            cap_add: Some(vec!["odd".into()]),
            ..HostConfig::default()
        };
        let error = validate(&host).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "invalid CapAdd: unknown capability: \"CAP_ODD\""
        );
    }
}
