//! Intel RDT and AMD's like: shares of cache and memory bandwidth, by the kernel's `resctrl` file system
//! (runtime-spec, config-linux, "IntelRdt"; the kernel's `filesystems/resctrl.rst`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharf_spec::runtime::Linux;

use crate::plan::PlanError;

/// A container's class of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResctrlPlan {
    /// Its directory below the mount of `resctrl`.
    pub class: PathBuf,
    /// The class is the container's own and goes with it; one named by `closID` stays.
    pub own: bool,
    /// Lines of its `schemata`.
    pub schemata: Vec<String>,
    /// The container's directory below `mon_groups`, when its use is to be counted.
    pub monitor: Option<PathBuf>,
}

/// Why a class cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ResctrlError {
    /// `closID` alone names what must be there.
    #[error("intelRdt: the class {} does not exist, and no schema is given to make it with", .0.display())]
    NoClass(PathBuf),
    /// Somebody else's class has other shares.
    #[error("intelRdt: the class {} has other shares than {wanted:?}", .class.display())]
    Differs {
        /// The class.
        class: PathBuf,
        /// A line that it was to have.
        wanted: String,
    },
    /// The kernel's word.
    #[error("intelRdt: {what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

/// Plans the class; `mount` is where `resctrl` is mounted, `id` the container's.
pub(crate) fn plan_resctrl(
    linux: &Linux,
    id: &str,
    mount: Option<&Path>,
) -> Result<Option<Box<ResctrlPlan>>, PlanError> {
    let Some(rdt) = linux.intel_rdt() else {
        return Ok(None);
    };
    let Some(mount) = mount else {
        return Err(PlanError::Unsupported(
            "Intel RDT (linux.intelRdt) without a mounted resctrl file system".into(),
        ));
    };
    let named = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
    let name = named.unwrap_or(id);
    // The specification's words: no `/`, and neither `.` nor `..`.
    if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
        return Err(PlanError::Invalid {
            what: "intelRdt closID",
            value: name.into(),
        });
    }
    let schemas = [rdt.l3_cache_schema(), rdt.mem_bw_schema()];
    let schemata = lines(schemas.into_iter().flatten().map(String::as_str));
    let counted = rdt.enable_cmt() == &Some(true) || rdt.enable_mbm() == &Some(true);
    let class = mount.join(name);
    Ok(Some(Box::new(ResctrlPlan {
        own: named.is_none(),
        monitor: counted.then(|| class.join("mon_groups").join(id)),
        schemata,
        class,
    })))
}

/// The lines of schemas, of which one may hold several.
pub fn lines<'a>(schemas: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines = schemas.flat_map(str::lines).map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

impl ResctrlPlan {
    /// Makes the class unless it is there, and puts a process into it. Children follow.
    pub(crate) fn join(&self, pid: i32) -> Result<(), ResctrlError> {
        if !self.class.is_dir() {
            if !self.own && self.schemata.is_empty() {
                return Err(ResctrlError::NoClass(self.class.clone()));
            }
            make(&self.class)?;
            self.write(&self.schemata)?;
        } else if self.own {
            self.write(&self.schemata)?;
        } else {
            self.check()?;
        }
        let pid = pid.to_string();
        write(&self.class.join("tasks"), &pid)?;
        if let Some(monitor) = &self.monitor {
            make(monitor)?;
            write(&monitor.join("tasks"), &pid)?;
        }
        Ok(())
    }

    /// Changes the shares of the class.
    pub fn write(&self, lines: &[String]) -> Result<(), ResctrlError> {
        let file = self.class.join("schemata");
        lines
            .iter()
            .try_for_each(|line| write(&file, &format!("{line}\n")))
    }

    fn check(&self) -> Result<(), ResctrlError> {
        let file = self.class.join("schemata");
        let text = fs::read_to_string(&file).map_err(|source| ResctrlError::Io {
            what: format!("read {}", file.display()),
            source,
        })?;
        match self.schemata.iter().find(|line| !has(&text, line)) {
            None => Ok(()),
            Some(wanted) => Err(ResctrlError::Differs {
                class: self.class.clone(),
                wanted: wanted.clone(),
            }),
        }
    }

    /// Removes what is the container's own. What is gone already is no error.
    pub fn remove(&self) -> Result<(), ResctrlError> {
        let dirs = [
            self.monitor.as_deref(),
            self.own.then_some(self.class.as_path()),
        ];
        for dir in dirs.into_iter().flatten() {
            match fs::remove_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ResctrlError::Io {
                        what: format!("remove {}", dir.display()),
                        source: error,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn make(dir: &Path) -> Result<(), ResctrlError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(ResctrlError::Io {
            what: format!("make {}", dir.display()),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// One call, and no file that the kernel does not have.
fn write(file: &Path, text: &str) -> Result<(), ResctrlError> {
    let written = fs::File::options()
        .write(true)
        .open(file)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|source| ResctrlError::Io {
        what: format!("write {:?} to {}", text.trim_end(), file.display()),
        source,
    })
}

/// Resource and its domains of a line: `L3:0=00ff;1=f` → `L3`, `{0: ff, 1: f}`.
fn parse(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (resource, domains) = line.trim().split_once(':')?;
    let domains = domains.split(';').filter_map(|domain| {
        let (number, value) = domain.trim().split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        Some((number.trim(), value))
    });
    Some((resource.trim(), domains.collect()))
}

/// Whether the class's text says what `wanted` says, domain by domain.
fn has(text: &str, wanted: &str) -> bool {
    let Some((resource, domains)) = parse(wanted) else {
        return false;
    };
    let there = text.lines().filter_map(parse);
    let there: Vec<_> = there.filter(|(name, _)| *name == resource).collect();
    domains.iter().all(|(number, value)| {
        there
            .iter()
            .any(|(_, domains)| domains.get(number) == Some(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(rdt: &str) -> Linux {
        serde_json::from_str(&format!(r#"{{"intelRdt":{rdt}}}"#)).expect("linux")
    }

    fn planned(rdt: &str, mount: &Path) -> ResctrlPlan {
        let plan = plan_resctrl(&linux(rdt), "box", Some(mount)).expect("valid");
        *plan.expect("a class")
    }

    /// The kernel makes the files of a class with its directory.
    fn class(dir: &Path, schemata: &str) {
        fs::create_dir_all(dir).expect("a directory");
        fs::write(dir.join("tasks"), "").expect("a file");
        fs::write(dir.join("schemata"), schemata).expect("a file");
    }

    #[test]
    fn a_class_is_named_or_the_containers_own() {
        let mount = Path::new("/sys/fs/resctrl");
        let own = planned(
            r#"{"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20"}"#,
            mount,
        );
        assert_eq!(
            (own.class.as_path(), own.own),
            (mount.join("box").as_path(), true)
        );
        assert_eq!(own.schemata, ["L3:0=f", "MB:0=20"]);
        let named = planned(r#"{"closID":"gold","enableMbm":true}"#, mount);
        assert_eq!((named.class, named.own), (mount.join("gold"), false));
        assert_eq!(named.monitor, Some(mount.join("gold/mon_groups/box")));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mount = Some(Path::new("/sys/fs/resctrl"));
        for name in ["a/b", "..", "."] {
            let linux = linux(&format!(r#"{{"closID":"{name}"}}"#));
            assert!(plan_resctrl(&linux, "box", mount).is_err(), "{name}");
        }
        let error = plan_resctrl(&linux("{}"), "box", None).expect_err("no mount");
        assert!(error.to_string().contains("without a mounted resctrl"));
        let none = plan_resctrl(&Linux::default(), "box", None);
        assert!(none.is_ok_and(|plan| plan.is_none()));
    }

    #[test]
    fn a_named_class_must_agree() {
        let mount = tempfile::tempdir().expect("a directory");
        let alone = planned(r#"{"closID":"gold"}"#, mount.path());
        assert!(matches!(alone.join(1), Err(ResctrlError::NoClass(_))));
        class(
            &mount.path().join("gold"),
            "    MB:0=100\n    L3:0=00ff;1=0f\n",
        );
        alone.join(7).expect("it is there");
        let tasks = fs::read_to_string(mount.path().join("gold/tasks")).expect("a file");
        assert_eq!(tasks, "7");
        let same = planned(
            r#"{"closID":"gold","l3CacheSchema":"L3:1=f;0=FF"}"#,
            mount.path(),
        );
        same.join(8).expect("it agrees");
        let other = planned(
            r#"{"closID":"gold","l3CacheSchema":"L3:0=1"}"#,
            mount.path(),
        );
        assert!(matches!(other.join(9), Err(ResctrlError::Differs { .. })));
        same.remove().expect("nothing to do");
        assert!(mount.path().join("gold").is_dir());
    }

    #[test]
    fn lines_are_one_by_one() {
        assert_eq!(
            lines(["L3:0=f\n\n MB:0=20", ""].into_iter()),
            ["L3:0=f", "MB:0=20"]
        );
    }
}
