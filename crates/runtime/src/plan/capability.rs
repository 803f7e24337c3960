//! Capability names, numbers and sets.

use std::collections::HashSet;

use wharf_spec::runtime::{Capability, LinuxCapabilities};

use super::CapSets;

/// Names without `CAP_`, indexed by number (`linux/capability.h`).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// `CAP_SYS_ADMIN` as a bit.
pub const SYS_ADMIN: u64 = 1 << 21;

/// Number of a capability named with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let bare = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES
        .iter()
        .position(|n| *n == bare)
        .and_then(|n| u32::try_from(n).ok())
}

/// A set as a mask.
pub fn mask(set: &HashSet<Capability>) -> u64 {
    set.iter()
        .filter_map(|c| number(&c.to_string()))
        .fold(0, |m, n| m | 1 << n)
}

/// The five sets of a spec, cut to what this host can give: as with runc, a capability that the kernel or our
/// own bounding set lacks is left out, not an error. So is an ambient one that is not both permitted and inheritable, which the
/// kernel refuses (capabilities(7)): `runc spec` of 1.1 writes such.
pub fn plan_caps(caps: Option<&LinuxCapabilities>, available: u64) -> CapSets {
    let Some(caps) = caps else {
        return CapSets::default();
    };
    let of = |set: &Option<HashSet<Capability>>| set.as_ref().map_or(0, mask) & available;
    let (permitted, inheritable) = (of(caps.permitted()), of(caps.inheritable()));
    CapSets {
        bounding: of(caps.bounding()),
        effective: of(caps.effective()),
        permitted,
        inheritable,
        ambient: of(caps.ambient()) & permitted & inheritable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("SYS_ADMIN"), Some(21));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("CAP_NONSENSE"), None);
    }

    #[test]
    fn every_capability_of_the_spec_crate_has_a_number() {
        let all = HashSet::from([
            Capability::AuditControl,
            Capability::Bpf,
            Capability::SysTtyConfig,
            Capability::Perfmon,
        ]);
        assert_eq!(mask(&all), 1 << 30 | 1 << 39 | 1 << 26 | 1 << 38);
    }

    #[test]
    fn unavailable_capabilities_are_left_out() {
        let mut caps = LinuxCapabilities::default();
        caps.set_bounding(Some(HashSet::from([
            Capability::Chown,
            Capability::SysAdmin,
        ])));
        assert_eq!(plan_caps(Some(&caps), 1).bounding, 1);
    }

    #[test]
    fn ambient_ones_must_be_permitted_and_inheritable() {
        let set = |list: &[Capability]| Some(list.iter().copied().collect());
        let mut caps = LinuxCapabilities::default();
        caps.set_permitted(set(&[Capability::Chown, Capability::Kill]));
        caps.set_inheritable(set(&[Capability::Kill, Capability::Setgid]));
        caps.set_ambient(set(&[
            Capability::Chown,
            Capability::Kill,
            Capability::Setgid,
        ]));
        assert_eq!(plan_caps(Some(&caps), u64::MAX).ambient, 1 << 5);
    }
}
