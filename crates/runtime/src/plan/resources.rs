//! The container's control group: where it is and what is written into it.

mod device_rules;
mod v1;
mod v2;

use std::path::{Path, PathBuf};

use wharf_spec::runtime::{Linux, LinuxResources};

use super::{CgroupPlan, CgroupWrite, PlanError};
use crate::cgroup::{CgroupPath, V1Dir};
use crate::host::{CgroupLayout, HostFacts};

use device_rules::Rule;

/// Plans the control group at `linux.cgroupsPath`.
pub(super) fn plan_cgroup(linux: &Linux, host: &HostFacts) -> Result<CgroupPlan, PlanError> {
    let path = linux
        .cgroups_path()
        .as_ref()
        .ok_or(PlanError::Missing("linux.cgroupsPath"))?;
    let path = plan_path(&super::text(path, "cgroup path")?, &host.cgroup)?;
    let none = LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&none);
    let rules = device_rules::plan_rules(resources)?;
    Ok(match &path {
        CgroupPath::V1(dirs) => CgroupPlan {
            writes: v1::plan_writes(dirs, resources, &rules, host),
            device_program: Vec::new(),
            path,
        },
        CgroupPath::V2(dir) => CgroupPlan {
            writes: v2::plan_writes(dir, resources)?,
            device_program: device_rules::compile(&rules),
            path,
        },
    })
}

/// Values that bring a running container's group to new limits (`docker update`). Pure.
pub fn plan_update(
    path: &CgroupPath,
    resources: &LinuxResources,
    host: &HostFacts,
) -> Result<Vec<CgroupWrite>, PlanError> {
    match path {
        CgroupPath::V1(dirs) => Ok(v1::plan_writes(dirs, resources, &[], host)),
        CgroupPath::V2(dir) => v2::plan_writes(dir, resources),
    }
}

/// OCI config-linux, "Cgroups Path": absolute is below the mount point, relative below our own group.
fn plan_path(path: &str, layout: &CgroupLayout) -> Result<CgroupPath, PlanError> {
    let invalid = || PlanError::Invalid {
        what: "cgroup path",
        value: path.into(),
    };
    if path.contains(':') {
        return Err(PlanError::Unsupported("the systemd cgroup driver".into()));
    }
    if path.trim_matches('/').is_empty() || path.split('/').any(|p| p == ".." || p == ".") {
        return Err(invalid());
    }
    let dir = |mount: &Path, own: &str| -> PathBuf {
        let base = if path.starts_with('/') {
            mount.to_path_buf()
        } else {
            mount.join(own.trim_start_matches('/'))
        };
        base.join(path.trim_start_matches('/'))
    };
    Ok(match layout {
        CgroupLayout::V1 { hierarchies } => CgroupPath::V1(
            hierarchies
                .iter()
                .map(|h| V1Dir {
                    controllers: h.controllers.clone(),
                    mount: h.mount.clone(),
                    dir: dir(&h.mount, &h.own),
                })
                .collect(),
        ),
        CgroupLayout::V2 { mount, own, .. } => CgroupPath::V2(dir(mount, own)),
    })
}

/// Collects writes into one directory.
#[derive(Debug)]
struct Writes {
    out: Vec<CgroupWrite>,
}

impl Writes {
    fn put(&mut self, dir: &Path, file: &str, value: impl ToString) {
        self.out.push(CgroupWrite {
            file: dir.join(file),
            value: value.to_string(),
            or: None,
        });
    }

    fn put_opt(&mut self, dir: &Path, file: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(dir, file, value);
        }
    }

    /// Writes `first`, or `second` where the kernel has no such file.
    fn put_either(&mut self, dir: &Path, first: (&str, String), second: (&str, String)) {
        self.out.push(CgroupWrite {
            file: dir.join(first.0),
            value: first.1,
            or: Some((dir.join(second.0), second.1)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::V1Hierarchy;

    fn v1() -> CgroupLayout {
        let h = |c: &str| V1Hierarchy {
            controllers: vec![c.into()],
            mount: Path::new("/sys/fs/cgroup").join(c),
            own: "/own".into(),
        };
        CgroupLayout::V1 {
            hierarchies: vec![h("cpu"), h("memory")],
        }
    }

    #[test]
    fn absolute_is_below_the_mount_and_relative_below_ourselves() {
        for (path, expected) in [
            ("/docker/x", "/sys/fs/cgroup/cpu/docker/x"),
            ("docker/x", "/sys/fs/cgroup/cpu/own/docker/x"),
        ] {
            let CgroupPath::V1(dirs) = plan_path(path, &v1()).expect("valid") else {
                panic!("not v1")
            };
            assert_eq!(dirs[0].dir, Path::new(expected));
        }
    }

    #[test]
    fn paths_that_climb_or_name_nothing_are_refused() {
        for path in ["", "/", "/docker/../x", "./x", "system.slice:docker:x"] {
            assert!(plan_path(path, &v1()).is_err(), "{path}");
        }
    }
}
