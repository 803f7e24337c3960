//! Checks that follow variables and settings through the stages.

use std::collections::{BTreeMap, BTreeSet};

use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;

use super::check::{Facts, Report};
use crate::dockerfile::expand::{Expander, quote};
use crate::dockerfile::instruction::{Copy, Instruction, Step, exposed_ports};
use crate::dockerfile::scope::Scope;
use crate::dockerfile::{Dockerfile, Lines, Stage, nearest};
use crate::ignore::Patterns;
use crate::path::clean;

pub(super) fn check(file: &Dockerfile, facts: &Facts, report: &mut Report) {
    let host = Platform::host();
    let scope = |given: BTreeMap<String, Option<String>>| {
        let mut scope = Scope::new(given, &facts.platform, &host);
        for step in &file.globals {
            // What cannot be expanded fails the build, which says so better.
            let _ = scope.declare_global(step, file.escape);
        }
        scope
    };
    let defaults = scope(BTreeMap::new());
    let given = scope(facts.arguments.clone());
    for step in &file.globals {
        check_secret_arguments(step, report);
    }
    let mut known: BTreeMap<String, State> = BTreeMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let checker = StageCheck {
            file,
            facts,
            defaults: &defaults,
            given: &given,
        };
        let state = checker.stage(stage, &known, report);
        known.insert(index.to_string(), state.clone());
        if let Some(name) = &stage.name {
            known.insert(name.clone(), state);
        }
    }
}

/// What a stage has set up to some point.
#[derive(Debug, Clone, Default)]
struct State {
    scope: Scope,
    environment: BTreeMap<String, String>,
    workdir_set: bool,
    shell_set: bool,
    /// Where each instruction that counts only once stood last.
    once: BTreeMap<&'static str, Lines>,
}

struct StageCheck<'a> {
    file: &'a Dockerfile,
    facts: &'a Facts,
    defaults: &'a Scope,
    given: &'a Scope,
}

impl StageCheck<'_> {
    fn stage(&self, stage: &Stage, known: &BTreeMap<String, State>, report: &mut Report) -> State {
        let base = self.from(stage, report);
        let before = known.get(&base.to_lowercase());
        let mut state = State {
            scope: self.given.stage(before.map(|state| &state.scope)),
            environment: before
                .map(|state| state.environment.clone())
                .unwrap_or_default(),
            workdir_set: before.is_some_and(|state| state.workdir_set),
            shell_set: before.is_some_and(|state| state.shell_set),
            once: BTreeMap::new(),
        };
        for step in &stage.steps {
            self.step(step, &mut state, report);
        }
        state
    }

    /// Checks a `FROM` line and gives back its base.
    fn from(&self, stage: &Stage, report: &mut Report) -> String {
        let expander = Expander::new(self.file.escape);
        let add = |report: &mut Report, name, message| {
            report.add(name, stage.lines, &stage.comments, message);
        };
        if let Ok(name) = expander.word(&stage.base, &|name| self.defaults.global(name))
            && Reference::parse(&name).is_err()
        {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            report.add("InvalidDefaultArgInFrom", stage.lines, &[], message);
        }
        let lookup = |name: &str| self.given.global(name);
        let base = expander.expand(&stage.base, &lookup).unwrap_or_default();
        let platform = expander
            .expand(&stage.platform, &lookup)
            .unwrap_or_default();
        for name in base.unset.iter().chain(&platform.unset) {
            if self.given.global_names().any(|known| known == name) {
                continue;
            }
            let hint = nearest(name, self.given.global_names(), false)
                .map(|word| format!(" (did you mean {word}?)"))
                .unwrap_or_default();
            add(
                report,
                "UndefinedArgInFrom",
                format!("FROM argument '{name}' is not declared{hint}"),
            );
        }
        if !stage.platform.is_empty() {
            let only = platform.used.len() == 1 && platform.unset.is_empty();
            if only
                && platform.used.contains("TARGETPLATFORM")
                && Some(&platform.word) == lookup("TARGETPLATFORM").as_ref()
            {
                let message = format!(
                    "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                    stage.platform
                );
                add(report, "RedundantTargetPlatform", message);
            }
            if platform.used.is_empty() && platform.unset.is_empty() {
                check_constant_platform(stage, &platform.word, report);
            }
        }
        base.word
    }

    fn step(&self, step: &Step, state: &mut State, report: &mut Report) {
        self.check_variables(step, state, report);
        let mut add = |name, message| report.add(name, step.lines, &step.comments, message);
        match &step.instruction {
            Instruction::Env(pairs) => {
                for pair in pairs {
                    if pair.old_form {
                        add("LegacyKeyValueFormat", legacy(&step.keyword));
                    }
                    if is_secret(&pair.key) {
                        add("SecretsUsedInArgOrEnv", secret("ENV", &pair.key));
                    }
                    let value = pair.value.clone();
                    state.environment.insert(pair.key.clone(), value);
                }
            }
            Instruction::Label { pairs, .. } => {
                for _ in pairs.iter().filter(|pair| pair.old_form) {
                    add("LegacyKeyValueFormat", legacy(&step.keyword));
                }
            }
            Instruction::Arg(arguments) => {
                check_secret_arguments(step, report);
                for argument in arguments {
                    state.scope.declare(argument);
                }
            }
            Instruction::Workdir(path) => {
                if !state.workdir_set && !path.starts_with('/') && !path.starts_with('$') {
                    add(
                        "WorkdirRelativePath",
                        format!(
                            "Relative workdir {} can have unexpected results if the base image changes",
                            quote(path)
                        ),
                    );
                }
                state.workdir_set = true;
            }
            Instruction::Shell(_) => state.shell_set = true,
            Instruction::Cmd(command) => {
                self.once("CMD", step, state, report);
                if command.shell && !state.shell_set {
                    report.add(
                        "JSONArgsRecommended",
                        step.lines,
                        &step.comments,
                        json(&step.keyword),
                    );
                }
            }
            Instruction::Entrypoint(command) => {
                self.once("ENTRYPOINT", step, state, report);
                if command.shell && !state.shell_set {
                    report.add(
                        "JSONArgsRecommended",
                        step.lines,
                        &step.comments,
                        json(&step.keyword),
                    );
                }
            }
            Instruction::Healthcheck(_) => self.once("HEALTHCHECK", step, state, report),
            Instruction::Expose(ports) => {
                for port in ports {
                    let Ok(exposed) = exposed_ports(port) else {
                        continue;
                    };
                    if exposed.odd_case {
                        add(
                            "ExposeProtoCasing",
                            format!(
                                "Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                            ),
                        );
                    }
                    if exposed.names_host {
                        add(
                            "ExposeInvalidFormat",
                            format!(
                                "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                            ),
                        );
                    }
                }
            }
            Instruction::Copy(copy) => self.ignored("Copy", copy, step, report),
            Instruction::Add(copy) => self.ignored("Add", copy, step, report),
            _ => {}
        }
    }

    /// The one before counts for nothing, so it is the one that is reported.
    fn once(&self, name: &'static str, step: &Step, state: &mut State, report: &mut Report) {
        if let Some(before) = state.once.insert(name, step.lines) {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                step.keyword
            );
            report.add(
                "MultipleInstructionsDisallowed",
                before,
                &step.comments,
                message,
            );
        }
    }

    fn check_variables(&self, step: &Step, state: &State, report: &mut Report) {
        let lookup = |name: &str| {
            state
                .environment
                .get(name)
                .cloned()
                .or_else(|| state.scope.argument(name))
                .or_else(|| (name == "PATH").then(String::new))
        };
        let Ok(expanded) = step.instruction.expand(self.file.escape, &lookup) else {
            return;
        };
        for name in &expanded.unset {
            if state.scope.is_declared(name) || name.starts_with("BUILDKIT_SBOM_SCAN_") {
                continue;
            }
            let options = state.environment.keys().map(String::as_str);
            let hint = nearest(name, options.chain(["PATH"]), false)
                .map(|word| format!(" (did you mean ${word}?)"))
                .unwrap_or_default();
            let message = format!("Usage of undefined variable '${name}'{hint}");
            report.add("UndefinedVar", step.lines, &step.comments, message);
        }
    }

    /// A pattern that takes back makes the answer too uncertain.
    fn ignored(&self, verb: &str, copy: &Copy, step: &Step, report: &mut Report) {
        let Some(ignore) = self.usable_patterns(copy) else {
            return;
        };
        for source in &copy.sources {
            if source.starts_with("http://") || source.starts_with("https://") {
                continue;
            }
            let path = clean(source);
            let path = path.strip_prefix('/').unwrap_or(&path);
            let root = path.is_empty() || path == ".";
            if (root && !ignore.excludes_all()) || !(ignore.excludes(path) || root) {
                continue;
            }
            let message = format!(
                "Attempting to {verb} file {} that is excluded by .dockerignore",
                quote(path)
            );
            report.add("CopyIgnoredFile", step.lines, &step.comments, message);
        }
    }

    fn usable_patterns(&self, copy: &Copy) -> Option<&Patterns> {
        let ignore = self.facts.ignore.as_ref()?;
        (copy.from.is_empty() && !ignore.has_exceptions()).then_some(ignore)
    }
}

fn check_constant_platform(stage: &Stage, platform: &str, report: &mut Report) {
    let Ok(parsed) = Platform::parse(platform) else {
        return;
    };
    let name = stage.name.as_deref().unwrap_or_default();
    if name.contains(&parsed.os) || name.contains(&parsed.architecture) {
        return;
    }
    let message = format!(
        "FROM --platform flag should not use constant value {}",
        quote(platform)
    );
    report.add(
        "FromPlatformFlagConstDisallowed",
        stage.lines,
        &stage.comments,
        message,
    );
}

fn check_secret_arguments(step: &Step, report: &mut Report) {
    let Instruction::Arg(arguments) = &step.instruction else {
        return;
    };
    let names: BTreeSet<&str> = arguments
        .iter()
        .map(|argument| argument.name.as_str())
        .collect();
    for name in names.into_iter().filter(|name| is_secret(name)) {
        report.add(
            "SecretsUsedInArgOrEnv",
            step.lines,
            &step.comments,
            secret("ARG", name),
        );
    }
}

/// Whether a part of the name, between underscores, speaks of a secret and none of something public.
fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const PUBLIC: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&PUBLIC)
}

fn secret(instruction: &str, name: &str) -> String {
    format!(
        "Do not use ARG or ENV instructions for sensitive data ({instruction} {})",
        quote(name)
    )
}

fn legacy(keyword: &str) -> String {
    format!(
        "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
    )
}

fn json(keyword: &str) -> String {
    format!(
        "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
    )
}
