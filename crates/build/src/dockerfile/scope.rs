//! Build arguments: who gives them, where they are visible.
//!
//! Arguments declared before the first `FROM` are visible in `FROM` lines, and give a stage's `ARG name` its value. A stage sees an
//! argument from its declaration on; variables of the image's environment win over it.

use std::collections::{BTreeMap, BTreeSet};

use wharf_spec::platform::Platform;

use super::error::Problem;
use super::expand::Expander;
use super::instruction::{Argument, Instruction, Step};

/// Arguments that need no declaration and leave no trace in cache keys and history.
pub const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Build arguments as seen from one point of a Dockerfile.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Given by the client; without a value, a declaration's default stands.
    given: BTreeMap<String, Option<String>>,
    /// Before the first stage.
    globals: BTreeMap<String, Option<String>>,
    /// In this stage.
    declared: BTreeMap<String, Option<String>>,
    /// Declared anywhere so far.
    referenced: BTreeSet<String>,
}

impl Scope {
    /// Before a Dockerfile's first line.
    pub fn new(
        given: BTreeMap<String, Option<String>>,
        target: &Platform,
        build: &Platform,
    ) -> Scope {
        let mut globals = BTreeMap::new();
        for (prefix, platform) in [("TARGET", target), ("BUILD", build)] {
            let parts = [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", platform.variant.clone()),
            ];
            for (part, value) in parts {
                globals.insert(format!("{prefix}{part}"), Some(value));
            }
        }
        Scope {
            given,
            globals,
            ..Scope::default()
        }
    }

    /// Takes an `ARG` from before the first stage; its values may use those before it.
    pub fn declare_global(&mut self, step: &Step, escape: char) -> Result<(), Problem> {
        let Instruction::Arg(arguments) = &step.instruction else {
            return Ok(());
        };
        for argument in arguments {
            let expander = Expander::new(escape);
            let expand = |text: &str| {
                expander
                    .word(text, &|name| self.global(name))
                    .map_err(|error| Problem::Expand(error.to_string()))
            };
            let name = expand(&argument.name)?;
            let default = argument.default.as_deref().map(expand).transpose()?;
            self.referenced.insert(name.clone());
            // A declaration without a value must not hide a platform's variable.
            if default.is_some() || !self.globals.contains_key(&name) {
                self.globals.insert(name, default);
            }
        }
        Ok(())
    }

    /// The scope at the start of a stage: nothing declared but what the stage it is based on declared.
    pub fn stage(&self, base: Option<&Scope>) -> Scope {
        let mut scope = self.clone();
        scope.declared = base.map(|base| base.declared.clone()).unwrap_or_default();
        scope
    }

    /// Takes an expanded argument of a stage.
    pub fn declare(&mut self, argument: &Argument) {
        self.referenced.insert(argument.name.clone());
        self.declared
            .insert(argument.name.clone(), argument.default.clone());
    }

    /// Notes what a stage declared, so that the client is not warned about it.
    pub fn merge_references(&mut self, stage: &Scope) {
        self.referenced.extend(stage.referenced.iter().cloned());
    }

    /// A variable in a `FROM` line.
    pub fn global(&self, name: &str) -> Option<String> {
        if !self.globals.contains_key(name) && !PREDEFINED.contains(&name) {
            return None;
        }
        self.resolve(name, self.globals.get(name))
    }

    /// Names usable in `FROM` lines.
    pub fn global_names(&self) -> impl Iterator<Item = &str> {
        self.globals.keys().map(String::as_str)
    }

    /// An argument inside the stage.
    pub fn argument(&self, name: &str) -> Option<String> {
        if !self.declared.contains_key(name) && !PREDEFINED.contains(&name) {
            return None;
        }
        self.resolve(name, self.declared.get(name))
    }

    /// Whether the stage declares it, with a value or without.
    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.contains_key(name)
    }

    fn resolve(&self, name: &str, default: Option<&Option<String>>) -> Option<String> {
        if let Some(Some(value)) = self.given.get(name) {
            return Some(value.clone());
        }
        match default {
            Some(Some(value)) => Some(value.clone()),
            _ => self.globals.get(name).cloned().flatten(),
        }
    }

    /// `NAME=value` of the arguments visible here, sorted, but those that `environment` sets.
    pub fn visible(&self, environment: &[String]) -> Vec<String> {
        let set: BTreeSet<&str> = environment
            .iter()
            .map(|entry| {
                entry
                    .split_once('=')
                    .map_or(entry.as_str(), |(name, _)| name)
            })
            .collect();
        let names: BTreeSet<&str> = self
            .declared
            .keys()
            .map(String::as_str)
            .chain(PREDEFINED)
            .collect();
        names
            .into_iter()
            .filter(|name| !set.contains(name))
            .filter_map(|name| Some(format!("{name}={}", self.argument(name)?)))
            .collect()
    }

    /// Those of [`Scope::visible`] that belong into cache key and history.
    pub fn remembered(&self, visible: &[String]) -> Vec<String> {
        visible
            .iter()
            .filter(|entry| {
                let name = entry
                    .split_once('=')
                    .map_or(entry.as_str(), |(name, _)| name);
                self.declared.contains_key(name) || !PREDEFINED.contains(&name)
            })
            .cloned()
            .collect()
    }

    /// Arguments the client gave and no `ARG` asked for, sorted.
    pub fn unused(&self) -> Vec<String> {
        self.given
            .keys()
            .filter(|name| !self.referenced.contains(*name) && !PREDEFINED.contains(&name.as_str()))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn scope(given: &[(&str, Option<&str>)], text: &str) -> Scope {
        let given = given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect();
        let platform = Platform::parse("linux/arm64").expect("a platform");
        let file = parse(text).expect(text);
        let mut scope = Scope::new(given, &platform, &platform);
        for step in &file.globals {
            scope.declare_global(step, '\\').expect("expands");
        }
        let mut stage = scope.stage(None);
        for step in &file.stages[0].steps {
            if let Instruction::Arg(arguments) = &step.instruction {
                arguments
                    .iter()
                    .for_each(|argument| stage.declare(argument));
            }
        }
        scope.merge_references(&stage);
        stage.referenced = scope.referenced.clone();
        stage
    }

    #[test]
    fn values_come_from_client_declaration_and_globals_in_that_order() {
        let text = "ARG A=1 B=$A-x C\nFROM x\nARG A\nARG B=own\nARG D=4\nARG C\nARG TARGETARCH\n";
        let plain = scope(&[], text);
        assert_eq!(plain.global("B").as_deref(), Some("1-x"));
        assert_eq!(plain.argument("A").as_deref(), Some("1"));
        assert_eq!(plain.argument("B").as_deref(), Some("own"));
        assert_eq!(plain.argument("C"), None);
        assert_eq!(plain.argument("TARGETARCH").as_deref(), Some("arm64"));
        assert_eq!(plain.argument("TARGETOS"), None);
        let given = scope(&[("A", Some("9")), ("D", None), ("E", Some("5"))], text);
        assert_eq!(given.global("B").as_deref(), Some("9-x"));
        assert_eq!(given.argument("A").as_deref(), Some("9"));
        assert_eq!(given.argument("D").as_deref(), Some("4"));
        assert_eq!(given.unused(), ["E"]);
    }

    #[test]
    fn the_environment_hides_arguments_and_proxies_leave_no_trace() {
        let scope = scope(&[("HTTP_PROXY", Some("p"))], "FROM x\nARG A=1 B=2\n");
        let visible = scope.visible(&["A=env".to_owned()]);
        assert_eq!(visible, ["B=2", "HTTP_PROXY=p"]);
        assert_eq!(scope.remembered(&visible), ["B=2"]);
    }
}
