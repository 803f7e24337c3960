//! The Container Device Interface (CNCF CDI specification): devices by name, `vendor.com/class=name`, described by files that
//! their vendors install.
//!
//! Reading order: [`document`] (one file) → [`Devices`] (all files) → [`edits`] (what a device changes in a spec).

pub mod document;
pub mod edits;
pub mod gpus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wharf_api::container::DeviceRequest;
use wharf_spec::runtime::Spec;

use crate::{Error, Result};
use document::{Document, Edits};

/// Where vendors put their files; a later directory wins (CDI, "Conflict resolution").
pub const DEFAULT_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// All devices that the directories describe, read at each use: installing a driver needs no restart.
#[derive(Debug, Default)]
pub struct Devices {
    devices: BTreeMap<String, Found>,
    /// Files that could not be used, with the reason.
    pub problems: Vec<String>,
}

/// One device: edits of its own, and those of every device of its file.
#[derive(Debug, Clone)]
struct Found {
    own: Edits,
    common: Edits,
    file: PathBuf,
    /// Position of its directory.
    priority: usize,
    /// Two files of one directory describe it: neither can be chosen.
    ambiguous: bool,
}

impl Devices {
    /// Reads the directories; those that do not exist are empty.
    pub fn load(dirs: &[String]) -> Devices {
        let mut all = Devices::default();
        for (priority, dir) in dirs.iter().enumerate() {
            let Ok(entries) = std::fs::read_dir(dir) else {
                continue;
            };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files.iter().filter(|file| is_document(file)) {
                match Document::read(file) {
                    Ok(document) => all.add(file, priority, document),
                    Err(reason) => all.problems.push(format!("{}: {reason}", file.display())),
                }
            }
        }
        all
    }

    fn add(&mut self, file: &Path, priority: usize, document: Document) {
        let common = document.container_edits;
        for device in document.devices {
            let name = format!("{}={}", document.kind, device.name);
            let found = Found {
                own: device.container_edits,
                common: common.clone(),
                file: file.to_owned(),
                priority,
                ambiguous: false,
            };
            match self.devices.get_mut(&name) {
                Some(earlier) if earlier.priority == priority => {
                    self.problems.push(format!(
                        "conflicting device {name:?} ({}, {})",
                        earlier.file.display(),
                        file.display()
                    ));
                    earlier.ambiguous = true;
                }
                _ => drop(self.devices.insert(name, found)),
            }
        }
    }

    /// Full names, for `info`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let usable = self.devices.iter().filter(|(_, found)| !found.ambiguous);
        usable.map(|(name, _)| name.as_str())
    }

    /// Whether a vendor's class (`nvidia.com/gpu`) has any device.
    fn has_kind(&self, kind: &str) -> bool {
        self.names().any(|name| {
            name.strip_prefix(kind)
                .is_some_and(|rest| rest.starts_with('='))
        })
    }

    /// Makes the named devices part of `spec`; gives the groups that the process must be in to use them.
    fn inject(&self, spec: &mut Spec, names: &[String]) -> Result<Vec<u32>> {
        let usable = |name: &String| self.devices.get(name).filter(|found| !found.ambiguous);
        let missing: Vec<&str> = names
            .iter()
            .filter(|name| usable(name).is_none())
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Err(Error::internal(format!(
                "CDI device injection failed: unresolvable CDI devices {}",
                missing.join(", ")
            )));
        }
        let mut groups = Vec::new();
        let mut files: Vec<&Path> = Vec::new();
        for found in names.iter().filter_map(usable) {
            // Once per file, however many of its devices are asked for.
            if !files.contains(&found.file.as_path()) {
                files.push(&found.file);
                groups.extend(edits::apply(spec, &found.common)?);
            }
            groups.extend(edits::apply(spec, &found.own)?);
        }
        Ok(groups)
    }
}

fn is_document(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("json" | "yaml" | "yml"))
}

/// Makes every device that `requests` ask for part of `spec` (moby `handleDevice`); gives the further groups of the process.
pub fn fulfil(spec: &mut Spec, requests: &[DeviceRequest], dirs: &[String]) -> Result<Vec<u32>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let devices = Devices::load(dirs);
    for problem in &devices.problems {
        tracing::warn!(problem, "CDI specification not used");
    }
    let mut groups = Vec::new();
    for request in requests {
        let names = match request.driver.as_str() {
            "cdi" => plain(request)?,
            _ => gpus::names(request, &devices).ok_or_else(|| unknown_driver(request))?,
        };
        groups.extend(devices.inject(spec, &names)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

fn plain(request: &DeviceRequest) -> Result<Vec<String>> {
    if request.count != 0 {
        return Err(Error::invalid("unexpected count in CDI device request"));
    }
    if request.options.as_ref().is_some_and(|map| !map.is_empty()) {
        return Err(Error::invalid("unexpected options in CDI device request"));
    }
    Ok(request.device_ids.clone().unwrap_or_default())
}

fn unknown_driver(request: &DeviceRequest) -> Error {
    let sets: Vec<String> = request
        .capabilities
        .iter()
        .flatten()
        .map(|set| format!("[{}]", set.join(" ")))
        .collect();
    Error::invalid(format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VENDOR: &str = "cdiVersion: 0.6.0
kind: vendor.com/thing
containerEdits:
  env: [ALL=1]
devices:
  - name: a
    containerEdits:
      env: [WHICH=a]
      additionalGids: [44]
      deviceNodes: [{path: /dev/thing, hostPath: /dev/null, permissions: r}]
      mounts: [{hostPath: /etc/hostname, containerPath: /thing, options: [ro, bind]}]
  - name: b
    containerEdits: {env: [WHICH=b]}
";

    fn cdi(name: &str) -> DeviceRequest {
        DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(vec![name.into()]),
            ..DeviceRequest::default()
        }
    }

    fn dirs(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("written");
        }
        let list = vec![dir.path().display().to_string(), "/nonexistent".into()];
        (dir, list)
    }

    #[test]
    fn a_device_brings_its_own_edits_and_its_files() {
        let (_dir, dirs) = dirs(&[("vendor.yaml", VENDOR)]);
        let mut spec = Spec::default();
        let groups = fulfil(&mut spec, &[cdi("vendor.com/thing=a")], &dirs).expect("there");
        assert_eq!(groups, [44]);
        let env = spec.process().as_ref().and_then(|p| p.env().clone());
        let env = env.expect("some");
        assert!(
            env.ends_with(&["ALL=1".to_owned(), "WHICH=a".to_owned()]),
            "{env:?}"
        );
        let linux = spec.linux().as_ref().expect("some");
        let node = linux.devices().iter().flatten().next().expect("one");
        assert_eq!((node.major(), node.minor()), (1, 3));
        let mounts = spec.mounts().as_ref().expect("some");
        assert!(
            mounts
                .iter()
                .any(|m| m.destination().as_os_str() == "/thing")
        );
    }

    #[test]
    fn what_is_not_there_or_not_clear_is_refused() {
        let (_dir, dirs) = dirs(&[("1.yaml", VENDOR), ("2.json", "{}"), ("3.yaml", VENDOR)]);
        let refused = |request: DeviceRequest| {
            let outcome = fulfil(&mut Spec::default(), &[request], &dirs);
            outcome.expect_err("refused").to_string()
        };
        assert_eq!(
            refused(cdi("vendor.com/thing=a")),
            "CDI device injection failed: unresolvable CDI devices vendor.com/thing=a"
        );
        let gpu = DeviceRequest {
            count: -1,
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        };
        assert_eq!(
            refused(gpu),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
        assert_eq!(Devices::load(&dirs).problems.len(), 3);
    }
}
