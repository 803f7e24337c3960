//! OCI runtimes by name: this engine's own, and programs that the administrator has named (`--add-runtime`).

use std::path::{Path, PathBuf};

use serde_json::Value;
use wharf_runtime::plan::{ForeignPlan, PlanError, PlanExtra};
use wharf_runtime::seccomp;
use wharf_spec::runtime::Spec;

use super::record::Record;
use super::start::plan_error;
use crate::config::RuntimeConfig;
use crate::{Engine, Error, Result};

/// Names of the engine's own runtime.
pub const OWN: [&str; 3] = ["runc", "io.containerd.runc.v2", "wharf"];

/// Where a program is looked for beside `PATH`.
const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

impl Engine {
    /// Refuses names that nothing stands behind. Empty is the default runtime.
    pub(crate) fn check_runtime(&self, name: &str) -> Result<()> {
        if name.is_empty() || OWN.contains(&name) || self.settings().runtimes.contains_key(name) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "unknown or invalid runtime name: {name}"
        )))
    }

    /// What another runtime is told; `None`: the engine's own makes the container.
    pub(crate) fn foreign_runtime(
        &self,
        record: &Record,
        spec: &Spec,
        extra: &PlanExtra,
        cgroup_driver: &str,
    ) -> Result<Option<Box<ForeignPlan>>> {
        let name = record.host_config.runtime.as_str();
        if name.is_empty() || OWN.contains(&name) {
            return Ok(None);
        }
        let settings = self.settings();
        let Some(RuntimeConfig { path, args }) = settings.runtimes.get(name) else {
            return Err(Error::invalid(format!(
                "unknown or invalid runtime name: {name}"
            )));
        };
        let mut args = args.clone();
        if cgroup_driver == "systemd" {
            args.push("--systemd-cgroup".to_owned());
        }
        Ok(Some(Box::new(ForeignPlan {
            program: find(path).ok_or_else(|| not_found(path))?,
            args,
            root: self.config.exec_root.join(format!("runtime-{name}")),
            bundle: self.config.monitor_dir(&record.id).join("bundle"),
            id: record.id.clone(),
            init: extra.init.then(|| self.config.binary.clone()),
            config: self.foreign_config(spec, extra)?,
        })))
    }

    fn foreign_config(&self, spec: &Spec, extra: &PlanExtra) -> Result<String> {
        let failed = |error| Error::caused("write the spec", error);
        let mut config = serde_json::to_value(spec).map_err(failed)?;
        let process = spec.process().as_ref();
        let bounding = process
            .and_then(|process| process.capabilities().as_ref())
            .and_then(|caps| caps.bounding().as_ref())
            .map_or(0, wharf_runtime::plan::capability::mask);
        let filter = seccomp::to_oci(&extra.seccomp, bounding, &self.host)
            .map_err(|error| plan_error(PlanError::Seccomp(error)))?;
        if let (Some(filter), Some(linux)) = (filter, config["linux"].as_object_mut()) {
            linux.insert("seccomp".into(), filter);
        }
        // crun 1.8 refuses later ones.
        config["ociVersion"] = "1.0.2".into();
        remove_nulls(&mut config);
        Ok(config.to_string())
    }
}

fn find(path: &str) -> Option<PathBuf> {
    if path.contains('/') {
        return Path::new(path).exists().then(|| PathBuf::from(path));
    }
    let from_env = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&from_env)
        .chain(DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(path))
        .find(|program| program.is_file())
}

fn not_found(path: &str) -> Error {
    Error::invalid(format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to retrieve OCI runtime error: exec: {path:?}: executable file not found in $PATH: unknown"
    ))
}

/// Runtimes written in C read a null as a value of the wrong type.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(remove_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert_eq!(find("/bin/sh"), Some("/bin/sh".into()));
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program"), None);
        assert_eq!(find("/no/such/program"), None);
    }

    #[test]
    fn nulls_are_left_out() {
        let mut value = json!({"a": null, "b": [{"c": null, "d": 1}]});
        remove_nulls(&mut value);
        assert_eq!(value, json!({"b": [{"d": 1}]}));
    }
}
