//! The container's control group: where it is and what is written into it.

mod device_rules;
mod scope;
mod v1;
mod v2;

use std::path::{Path, PathBuf};

use wharf_spec::runtime::{Linux, LinuxResources};

use super::{CgroupPlan, CgroupWrite, OciExtra, PlanError};
use crate::cgroup::{CgroupPath, V1Dir};
use crate::host::{CgroupLayout, HostFacts};
use crate::systemd::Property;

use device_rules::Rule;

/// Plans the control group at `linux.cgroupsPath`.
pub(super) fn plan_cgroup(
    linux: &Linux,
    extra: &OciExtra,
    host: &HostFacts,
) -> Result<CgroupPlan, PlanError> {
    let path = linux
        .cgroups_path()
        .as_ref()
        .ok_or(PlanError::Missing("linux.cgroupsPath"))?;
    let text = super::text(path, "cgroup path")?;
    let none = LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&none);
    let rules = device_rules::plan_rules(resources)?;
    let (path, scope) = if extra.systemd {
        let (mut scope, place) = scope::plan_scope(&text, extra, &host.cgroup)?;
        let path = path_in(&host.cgroup, |mount, _| mount.join(&place));
        let is_v2 = matches!(path, CgroupPath::V2(_));
        scope.properties = scope::plan_properties(&extra.state.id, resources, &rules, is_v2)?;
        let annotations = extra.state.annotations.clone().into_iter();
        scope.properties.extend(scope::annotated(annotations)?);
        (path, Some(Box::new(scope)))
    } else {
        (plan_path(&text, &host.cgroup)?, None)
    };
    Ok(match &path {
        CgroupPath::V1(dirs) => CgroupPlan {
            writes: v1::plan_writes(dirs, resources, &rules, host),
            device_program: Vec::new(),
            path,
            scope,
        },
        CgroupPath::V2(dir) => CgroupPlan {
            writes: v2::plan_writes(dir, resources)?,
            device_program: device_rules::compile(&rules),
            path,
            scope,
        },
    })
}

/// The same limits as systemd is told them (`docker update`). Pure.
pub fn plan_update_properties(
    path: &CgroupPath,
    resources: &LinuxResources,
) -> Result<Vec<(String, Property)>, PlanError> {
    scope::plan_limits(resources, matches!(path, CgroupPath::V2(_)))
}

/// Whether a name is that of a slice (systemd.slice(5)).
pub fn is_slice(name: &str) -> bool {
    scope::expand_slice(name).is_some()
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
    if path.trim_matches('/').is_empty() || path.split('/').any(|p| p == ".." || p == ".") {
        return Err(invalid());
    }
    Ok(path_in(layout, |mount, own| {
        let base = if path.starts_with('/') {
            mount.to_path_buf()
        } else {
            mount.join(own.trim_start_matches('/'))
        };
        base.join(path.trim_start_matches('/'))
    }))
}

/// One directory per hierarchy, each given the hierarchy's mount point and our own group in it.
fn path_in(layout: &CgroupLayout, dir: impl Fn(&Path, &str) -> PathBuf) -> CgroupPath {
    match layout {
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
    }
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
        for path in ["", "/", "/docker/../x", "./x"] {
            assert!(plan_path(path, &v1()).is_err(), "{path}");
        }
    }
}
