//! Reads the facts.

use std::path::{Path, PathBuf};

use super::{Arch, CgroupLayout, HostError, HostFacts, KernelFeatures, V1Hierarchy};

/// See [`HostFacts::probe`].
pub(super) fn probe() -> Result<HostFacts, HostError> {
    let mountinfo = read("/proc/self/mountinfo")?;
    let own = read("/proc/self/cgroup")?;
    let status = read("/proc/self/status")?;
    let release = read("/proc/sys/kernel/osrelease")?;
    Ok(HostFacts {
        cgroup: parse_cgroup_layout(&mountinfo, &own, &|mount| {
            std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        })?,
        kernel: parse_release(&release),
        features: probe_features(),
        cap_bounding: parse_bounding(&status),
        arch: arch()?,
        resctrl: find_resctrl(&mountinfo),
    })
}

fn read(path: &'static str) -> Result<String, HostError> {
    std::fs::read_to_string(path).map_err(|source| HostError::Read { path, source })
}

fn arch() -> Result<Arch, HostError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(Arch::X86_64),
        "aarch64" => Ok(Arch::Aarch64),
        other => Err(HostError::Arch(other.into())),
    }
}

/// `6.18.44-rc1` → `(6, 18)`.
fn parse_release(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn parse_bounding(status: &str) -> u64 {
    status
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// The mount of `resctrl` in mountinfo (proc(5)).
fn find_resctrl(mountinfo: &str) -> Option<PathBuf> {
    let mount = mountinfo
        .lines()
        .find(|line| line.contains(" - resctrl "))?;
    mount.split(' ').nth(4).map(PathBuf::from)
}

/// Reads the layout from mountinfo (proc(5)) and `/proc/self/cgroup` (cgroups(7)).
fn parse_cgroup_layout(
    mountinfo: &str,
    own: &str,
    v2_controllers: &dyn Fn(&Path) -> String,
) -> Result<CgroupLayout, HostError> {
    let mut hierarchies: Vec<V1Hierarchy> = Vec::new();
    let mut unified = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let mut right = right.split(' ');
        let (fstype, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
        match fstype {
            "cgroup2" if unified.is_none() => unified = Some(mount),
            "cgroup" => {
                let controllers = v1_controllers(options);
                // A hierarchy mounted twice is one hierarchy; the first mount wins.
                if !controllers.is_empty()
                    && !hierarchies.iter().any(|h| h.controllers == controllers)
                {
                    hierarchies.push(V1Hierarchy {
                        own: own_path(own, &controllers),
                        controllers,
                        mount,
                    });
                }
            }
            _ => {}
        }
    }
    let has_controllers = hierarchies
        .iter()
        .any(|h| !h.controllers[0].starts_with("name="));
    match unified {
        Some(mount) if !has_controllers => {
            let controllers = v2_controllers(&mount)
                .split_whitespace()
                .map(String::from)
                .collect();
            Ok(CgroupLayout::V2 {
                own: own_path(own, &[]),
                mount,
                controllers,
            })
        }
        unified if !hierarchies.is_empty() => {
            hierarchies.extend(unified.map(|mount| V1Hierarchy {
                own: own_path(own, &[]),
                controllers: Vec::new(),
                mount,
            }));
            Ok(CgroupLayout::V1 { hierarchies })
        }
        _ => Err(HostError::NoCgroups),
    }
}

/// Super block options of a v1 hierarchy that name its controllers.
fn v1_controllers(options: &str) -> Vec<String> {
    let flags = [
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "cpuset_v2_mode",
        "favordynmods",
        "none",
    ];
    options
        .split(',')
        .filter(|o| !flags.contains(o) && !o.starts_with("release_agent="))
        .map(String::from)
        .collect()
}

/// Our own path in the hierarchy with these controllers; none means the unified one.
fn own_path(own: &str, controllers: &[String]) -> String {
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (
            parts.next(),
            parts.next().unwrap_or(""),
            parts.next().unwrap_or("/"),
        );
        let same = if controllers.is_empty() {
            names.is_empty()
        } else {
            !names.is_empty() && names.split(',').all(|n| controllers.iter().any(|c| c == n))
        };
        if same {
            return path.to_string();
        }
    }
    "/".into()
}

fn probe_features() -> KernelFeatures {
    let exists = |p: &str| Path::new(p).exists();
    let says = |p: &str, text: &str| {
        std::fs::read_to_string(p).is_ok_and(|s| s.trim_start().starts_with(text))
    };
    KernelFeatures {
        overlay_lowerdir_append: wharf_sys::mount::overlay_has_lowerdir_append(),
        mount_setattr: wharf_sys::mount::has_mount_setattr(),
        clone_into_cgroup: wharf_sys::clone::has_clone3(),
        seccomp: exists("/proc/sys/kernel/seccomp/actions_avail"),
        // As containerd does: without its parser no profile could be loaded.
        apparmor: says("/sys/module/apparmor/parameters/enabled", "Y")
            && exists("/sys/kernel/security/apparmor")
            && exists("/sbin/apparmor_parser"),
        selinux: exists("/sys/fs/selinux/enforce"),
        user_namespaces: exists("/proc/self/ns/user")
            && !says("/proc/sys/user/max_user_namespaces", "0"),
        cgroup_namespaces: exists("/proc/self/ns/cgroup"),
        kcore: exists("/proc/kcore"),
        swap_accounting: exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
            || exists("/sys/fs/cgroup/memory.swap.max")
            || !exists("/sys/fs/cgroup/memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_hierarchies_keep_their_controllers_and_own_paths() {
        let mountinfo = "\
30 20 0:20 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:21 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:22 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
33 30 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let own = "3:cpu,cpuacct:/a\n2:name=systemd:/b\n0::/c\n";
        let layout = parse_cgroup_layout(mountinfo, own, &|_| String::new()).expect("valid");
        let CgroupLayout::V1 { hierarchies } = layout else {
            panic!("not v1")
        };
        assert_eq!(hierarchies.len(), 3);
        assert_eq!(hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(hierarchies[0].own, "/a");
        assert_eq!(hierarchies[1].controllers, ["name=systemd"]);
        assert_eq!(hierarchies[1].own, "/b");
        assert!(hierarchies[2].controllers.is_empty());
        assert_eq!(hierarchies[2].own, "/c");
    }

    #[test]
    fn unified_alone_is_v2() {
        let mountinfo = "30 20 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let layout =
            parse_cgroup_layout(mountinfo, "0::/own\n", &|_| "cpu memory\n".into()).expect("valid");
        assert_eq!(
            layout,
            CgroupLayout::V2 {
                mount: "/sys/fs/cgroup".into(),
                own: "/own".into(),
                controllers: vec!["cpu".into(), "memory".into()]
            }
        );
    }

    #[test]
    fn no_cgroup_mount_is_an_error() {
        assert!(
            parse_cgroup_layout(
                "30 20 0:20 / / rw - ext4 /dev/vda rw",
                "",
                &|_| String::new()
            )
            .is_err()
        );
    }

    #[test]
    fn resctrl_is_found() {
        let mountinfo = "41 20 0:37 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw";
        assert_eq!(find_resctrl(mountinfo), Some("/sys/fs/resctrl".into()));
        assert_eq!(find_resctrl("30 20 0:20 / / rw - ext4 /dev/vda rw"), None);
    }

    #[test]
    fn release_and_bounding_are_read() {
        assert_eq!(parse_release("6.18.44-fc\n"), (6, 18));
        assert_eq!(
            parse_bounding("Name:\tx\nCapBnd:\t000001ffffffffff\n"),
            0x1ff_ffff_ffff
        );
    }
}
