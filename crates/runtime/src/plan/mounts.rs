//! Mounts of a spec as steps: options sorted into attributes, propagation and file system data.

use wharf_spec::runtime::{Mount, Spec};

use super::{
    AttrChange, CgroupV1Entry, Mappings, MountIdmap, MountSource, MountStep, NamespaceSource,
    Namespaces, PlanError, Propagation, PropagationKind,
};
use crate::cgroup::{CgroupPath, V1Dir};

/// `MOUNT_ATTR_*` of `linux/mount.h`.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// All mounts of the spec, in its order (Docker sorts them so that parents come first). As with crun, a label means nothing
/// without SELinux; no file system would take it.
pub(super) fn plan_mounts(
    spec: &Spec,
    ns: &Namespaces,
    cgroup: &CgroupPath,
    selinux: bool,
) -> Result<Vec<MountStep>, PlanError> {
    let label = spec
        .linux()
        .as_ref()
        .and_then(|l| l.mount_label().as_deref())
        .filter(|_| selinux);
    spec.mounts()
        .iter()
        .flatten()
        .map(|m| {
            let mut step = plan_mount(m, ns, cgroup)?;
            label_mount(&mut step, label.unwrap_or_default());
            Ok(step)
        })
        .collect()
}

/// Files of a new file system get the container's SELinux label. The kernel's own have theirs (runc, `mountToRootfs`).
fn label_mount(step: &mut MountStep, label: &str) {
    let MountSource::Filesystem {
        fstype, options, ..
    } = &mut step.source
    else {
        return;
    };
    let is_ours = !matches!(fstype.as_str(), "proc" | "sysfs" | "mqueue");
    if is_ours && !label.is_empty() && !options.iter().any(|(key, _)| key == "context") {
        options.push(("context".into(), Some(label.into())));
    }
}

fn plan_mount(mount: &Mount, ns: &Namespaces, cgroup: &CgroupPath) -> Result<MountStep, PlanError> {
    let target = super::text(mount.destination(), "mount destination")?;
    if !target.starts_with('/') || names_root(&target) {
        return Err(PlanError::Invalid {
            what: "mount destination",
            value: target,
        });
    }
    let options = parse_options(mount.options().iter().flatten().map(String::as_str));
    if let Some(option) = options.unsupported {
        return Err(PlanError::Unsupported(format!("mount option {option}")));
    }
    let fstype = mount.typ().as_deref().unwrap_or("");
    let source = mount.source().clone().unwrap_or_default();
    let source = match (fstype, options.bind) {
        ("bind" | "rbind", _) | (_, Some(_)) => {
            if !source.is_absolute() {
                return Err(PlanError::Invalid {
                    what: "bind source",
                    value: source.display().to_string(),
                });
            }
            MountSource::Bind {
                path: source,
                recursive: options.bind.unwrap_or(fstype == "rbind"),
            }
        }
        ("cgroup" | "cgroup2", _) => plan_cgroup_mount(ns, cgroup),
        ("", _) => {
            return Err(PlanError::Invalid {
                what: "mount type",
                value: String::new(),
            });
        }
        _ => MountSource::Filesystem {
            fstype: fstype.into(),
            source: super::text(&source, "mount source")?,
            options: options.data,
        },
    };
    Ok(MountStep {
        target,
        source,
        subpath: options.subpath,
        attrs: options.attrs,
        recursive_attrs: options.recursive_attrs,
        propagation: options.propagation,
        idmap: options.idmap.map(|recursive| MountIdmap {
            mappings: Mappings::default(),
            recursive,
        }),
        copy_up: options.copy_up,
    })
}

/// A mount with mappings of its own is idmapped by them; one with the option alone, by the container's.
pub(super) fn plan_idmaps(
    steps: &mut [MountStep],
    given: &[Mappings],
    container: &Mappings,
) -> Result<(), PlanError> {
    let none = Mappings::default();
    for (at, step) in steps.iter_mut().enumerate() {
        let own = given.get(at).unwrap_or(&none);
        let recursive = match &step.idmap {
            None if own.is_empty() => continue,
            None => false,
            Some(idmap) => idmap.recursive,
        };
        let mappings = if own.is_empty() { container } else { own };
        if mappings.uids.is_empty() || mappings.gids.is_empty() {
            return Err(PlanError::Missing(
                "uidMappings and gidMappings for an idmapped mount",
            ));
        }
        if !matches!(step.source, MountSource::Bind { .. }) {
            return Err(PlanError::Unsupported(
                "an idmapped mount that is not a bind mount".into(),
            ));
        }
        step.idmap = Some(MountIdmap {
            mappings: mappings.clone(),
            recursive,
        });
    }
    Ok(())
}

/// The root is mounted already, and what is mounted over it would not be seen from inside.
fn names_root(target: &str) -> bool {
    target
        .split('/')
        .all(|part| matches!(part, "" | "." | ".."))
}

/// With the host's cgroup namespace the container still sees its own directories only, as under runc.
fn plan_cgroup_mount(ns: &Namespaces, cgroup: &CgroupPath) -> MountSource {
    let own_view = ns.cgroup != NamespaceSource::Host;
    match cgroup {
        CgroupPath::V1(dirs) => MountSource::CgroupV1 {
            entries: dirs
                .iter()
                .filter(|d| !d.is_unified())
                .map(|d| plan_v1_entry(d, own_view))
                .collect(),
        },
        CgroupPath::V2(dir) => MountSource::CgroupV2 {
            bind: (!own_view).then(|| dir.clone()),
        },
    }
}

fn plan_v1_entry(dir: &V1Dir, own_view: bool) -> CgroupV1Entry {
    let name = dir.mount.file_name().map_or_else(
        || dir.controllers.join(","),
        |n| n.to_string_lossy().into_owned(),
    );
    let bare = |c: &String| c.strip_prefix("name=").unwrap_or(c).to_string();
    CgroupV1Entry {
        bind: (!own_view).then(|| dir.dir.clone()),
        select: dir.controllers.join(","),
        links: if dir.controllers.len() > 1 {
            dir.controllers
                .iter()
                .map(bare)
                .filter(|c| *c != name)
                .collect()
        } else {
            Vec::new()
        },
        name,
    }
}

/// A mount's options, sorted.
#[derive(Debug, Default)]
struct Options {
    /// `Some(recursive)` when `bind` or `rbind` was given.
    bind: Option<bool>,
    attrs: AttrChange,
    recursive_attrs: AttrChange,
    propagation: Option<Propagation>,
    data: Vec<(String, Option<String>)>,
    subpath: Option<String>,
    /// `Some(recursive)` when `idmap` or `ridmap` was given.
    idmap: Option<bool>,
    copy_up: bool,
    /// An option we must not ignore but cannot honour.
    unsupported: Option<String>,
}

/// The option names of mount(8) that are attributes, and what they do to the bits.
fn attribute(name: &str) -> Option<AttrChange> {
    let set = |bit| Some(AttrChange { set: bit, clear: 0 });
    let clear = |bit| Some(AttrChange { set: 0, clear: bit });
    let atime = |bit| {
        Some(AttrChange {
            set: bit,
            clear: attr::ATIME,
        })
    };
    match name {
        "ro" => set(attr::RDONLY),
        "rw" => clear(attr::RDONLY),
        "nosuid" => set(attr::NOSUID),
        "suid" => clear(attr::NOSUID),
        "nodev" => set(attr::NODEV),
        "dev" => clear(attr::NODEV),
        "noexec" => set(attr::NOEXEC),
        "exec" => clear(attr::NOEXEC),
        "nodiratime" => set(attr::NODIRATIME),
        "diratime" => clear(attr::NODIRATIME),
        "nosymfollow" => set(attr::NOSYMFOLLOW),
        "symfollow" => clear(attr::NOSYMFOLLOW),
        "noatime" => atime(attr::NOATIME),
        "strictatime" => atime(attr::STRICTATIME),
        // Relative is what the kernel does by default, and what taking the others back leads to.
        "relatime" | "atime" | "norelatime" | "nostrictatime" => atime(0),
        _ => None,
    }
}

fn propagation(name: &str) -> Option<Propagation> {
    let (kind, recursive) = match name {
        "private" => (PropagationKind::Private, false),
        "rprivate" => (PropagationKind::Private, true),
        "slave" => (PropagationKind::Slave, false),
        "rslave" => (PropagationKind::Slave, true),
        "shared" => (PropagationKind::Shared, false),
        "rshared" => (PropagationKind::Shared, true),
        "unbindable" => (PropagationKind::Unbindable, false),
        "runbindable" => (PropagationKind::Unbindable, true),
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

/// Parses `rootfsPropagation`.
pub(super) fn parse_propagation(name: &str) -> Result<Propagation, PlanError> {
    propagation(name).ok_or_else(|| PlanError::Invalid {
        what: "rootfs propagation",
        value: name.into(),
    })
}

fn parse_options<'a>(options: impl Iterator<Item = &'a str>) -> Options {
    let mut parsed = Options::default();
    for option in options {
        if let Some(change) = attribute(option) {
            apply(&mut parsed.attrs, change);
        } else if let Some(change) = option.strip_prefix('r').and_then(attribute) {
            apply(&mut parsed.recursive_attrs, change);
        } else if let Some(p) = propagation(option) {
            parsed.propagation = Some(p);
        } else {
            parse_other(&mut parsed, option);
        }
    }
    parsed
}

/// A later option undoes an earlier one.
fn apply(attrs: &mut AttrChange, change: AttrChange) {
    attrs.set = attrs.set & !change.clear | change.set;
    attrs.clear = attrs.clear & !change.set | change.clear;
}

/// Option that names a part of the source, by the rule for names of one's own (mount(8), "x-").
pub const SUBPATH: &str = "x-wharf.subpath=";

fn parse_other(parsed: &mut Options, option: &str) {
    if let Some(subpath) = option.strip_prefix(SUBPATH) {
        parsed.subpath = Some(subpath.into());
        return;
    }
    match option {
        "bind" => parsed.bind = Some(parsed.bind.unwrap_or(false)),
        "rbind" => parsed.bind = Some(true),
        "tmpcopyup" => parsed.copy_up = true,
        "idmap" => parsed.idmap = Some(false),
        "ridmap" => parsed.idmap = Some(true),
        _ if option.starts_with("idmap=") || option.starts_with("ridmap=") => {
            parsed.unsupported = Some(option.into());
        }
        "" | "defaults" | "remount" | "async" | "nomand" | "noiversion" | "nolazytime" | "loud"
        | "silent" => {}
        _ => parsed.data.push(match option.split_once('=') {
            Some((key, value)) => (key.into(), Some(value.into())),
            None => (option.into(), None),
        }),
    }
}

/// Whether the spec brings its own `/dev`, which is then used as it is (runc).
pub(super) fn has_bound_dev(mounts: &[MountStep]) -> bool {
    mounts.iter().any(|m| {
        matches!(m.source, MountSource::Bind { .. }) && m.target.trim_end_matches('/') == "/dev"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> Options {
        parse_options(options.split(',').filter(|o| !o.is_empty()))
    }

    #[test]
    fn attributes_are_set_and_undone_in_order() {
        for (options, set, clear) in [
            ("nosuid,noexec,nodev,ro", 0xf, 0),
            ("ro,rw", 0, attr::RDONLY),
            ("rw,ro", attr::RDONLY, 0),
            ("strictatime", attr::STRICTATIME, attr::ATIME),
            ("noatime,relatime", 0, attr::ATIME),
        ] {
            let attrs = parse(options).attrs;
            assert_eq!((attrs.set, attrs.clear), (set, clear), "{options}");
        }
    }

    #[test]
    fn recursive_forms_are_kept_apart() {
        let o = parse("rbind,rprivate,rro");
        assert_eq!(o.bind, Some(true));
        assert_eq!(o.attrs, AttrChange::default());
        assert_eq!(o.recursive_attrs.set, attr::RDONLY);
        assert_eq!(
            o.propagation,
            Some(Propagation {
                kind: PropagationKind::Private,
                recursive: true
            })
        );
    }

    #[test]
    fn a_part_of_the_source_is_named_by_an_option() {
        let o = parse("rbind,x-wharf.subpath=a/b");
        assert_eq!((o.subpath.as_deref(), o.data.len()), (Some("a/b"), 0));
    }

    #[test]
    fn the_rest_is_data() {
        let o = parse("mode=755,size=65536k,newinstance");
        assert_eq!(
            o.data,
            [
                ("mode".to_string(), Some("755".to_string())),
                ("size".to_string(), Some("65536k".to_string())),
                ("newinstance".to_string(), None)
            ]
        );
    }

    #[test]
    fn joint_hierarchies_get_links() {
        let dir = V1Dir {
            controllers: vec!["cpu".into(), "cpuacct".into()],
            mount: "/sys/fs/cgroup/cpu,cpuacct".into(),
            dir: "/sys/fs/cgroup/cpu,cpuacct/docker/x".into(),
        };
        let entry = plan_v1_entry(&dir, false);
        assert_eq!(entry.name, "cpu,cpuacct");
        assert_eq!(entry.links, ["cpu", "cpuacct"]);
        assert_eq!(
            entry.bind,
            Some("/sys/fs/cgroup/cpu,cpuacct/docker/x".into())
        );
        assert_eq!(plan_v1_entry(&dir, true).bind, None);
    }
}
