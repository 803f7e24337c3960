//! Programs that the spec wants run at points of a container's life (runtime-spec, config, "POSIX-platform Hooks").

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_spec::runtime::{Hook as OciHook, Hooks as OciHooks, Spec};

use super::PlanError;

/// All hooks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// What they are told on standard input.
    pub state: HookState,
    /// Run by the launching process, in its namespaces, before the root is entered (deprecated).
    pub prestart: Vec<Hook>,
    /// Likewise, after those.
    pub create_runtime: Vec<Hook>,
    /// Run in the container's namespaces before the root is entered.
    pub create_container: Vec<Hook>,
    /// Run inside the container, right before the program.
    pub start_container: Vec<Hook>,
    /// Run by whoever started the container, after the program has begun.
    pub poststart: Vec<Hook>,
    /// Run by whoever deleted the container.
    pub poststop: Vec<Hook>,
}

/// What stays the same in the state that hooks are told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookState {
    /// Version of the specification that the bundle follows.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// `argv`, name included; empty means just the path.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// It is killed, and has failed, after so many seconds.
    pub timeout: Option<u32>,
}

impl Hooks {
    /// Whether anything is to be run between the finished root and entering it.
    pub fn any_before_root(&self) -> bool {
        !self.prestart.is_empty()
            || !self.create_runtime.is_empty()
            || !self.create_container.is_empty()
    }
}

/// Plans the hooks of a spec.
pub(super) fn plan_hooks(spec: &Spec, state: HookState) -> Result<Hooks, PlanError> {
    let none = OciHooks::default();
    let hooks = spec.hooks().as_ref().unwrap_or(&none);
    // Deprecated in favour of the three that follow it, but still run.
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    Ok(Hooks {
        state,
        prestart: plan_list(prestart)?,
        create_runtime: plan_list(hooks.create_runtime())?,
        create_container: plan_list(hooks.create_container())?,
        start_container: plan_list(hooks.start_container())?,
        poststart: plan_list(hooks.poststart())?,
        poststop: plan_list(hooks.poststop())?,
    })
}

fn plan_list(hooks: &Option<Vec<OciHook>>) -> Result<Vec<Hook>, PlanError> {
    hooks.iter().flatten().map(plan_hook).collect()
}

fn plan_hook(hook: &OciHook) -> Result<Hook, PlanError> {
    if !hook.path().is_absolute() {
        return Err(PlanError::Invalid {
            what: "hook path, which must be absolute,",
            value: hook.path().display().to_string(),
        });
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => Some(u32::try_from(seconds).ok().filter(|s| *s > 0).ok_or(
            PlanError::Invalid {
                what: "hook timeout",
                value: seconds.to_string(),
            },
        )?),
    };
    Ok(Hook {
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(hooks: &str) -> Spec {
        let text = format!(r#"{{"ociVersion":"1.0.2","hooks":{hooks}}}"#);
        serde_json::from_str(&text).expect("a spec")
    }

    #[test]
    fn prestart_is_a_list_of_its_own() {
        let spec = spec(
            r#"{"createRuntime":[{"path":"/b","timeout":3}],"prestart":[{"path":"/a","args":["a","x"]}]}"#,
        );
        let hooks = plan_hooks(&spec, HookState::default()).expect("valid");
        assert_eq!(hooks.prestart[0].path, PathBuf::from("/a"));
        assert_eq!(hooks.create_runtime[0].path, PathBuf::from("/b"));
        assert_eq!(hooks.create_runtime[0].timeout, Some(3));
        assert!(hooks.any_before_root());
    }

    #[test]
    fn paths_are_absolute_and_timeouts_positive() {
        for hook in [r#"{"path":"a"}"#, r#"{"path":"/a","timeout":0}"#] {
            let spec = spec(&format!(r#"{{"poststop":[{hook}]}}"#));
            assert!(plan_hooks(&spec, HookState::default()).is_err(), "{hook}");
        }
    }
}
