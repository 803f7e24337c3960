//! All checks of a file, in the order BuildKit runs them: the text, then names, then stage by stage.

use std::collections::BTreeMap;

use wharf_spec::platform::Platform;

use super::options::{Options, OptionsError};
use super::{Finding, rule, stage, text};
use crate::dockerfile::{Dockerfile, Lines};
use crate::ignore::Patterns;

/// What the checks know besides the file.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Build arguments of the client.
    pub arguments: BTreeMap<String, Option<String>>,
    /// The platform built for.
    pub platform: Platform,
    /// The `.dockerignore` in force.
    pub ignore: Option<Patterns>,
    /// Only what this stage needs is looked at; the last stage if empty.
    pub target: String,
}

/// Runs every check.
pub fn check(file: &Dockerfile, facts: &Facts) -> Result<Vec<Finding>, OptionsError> {
    let given = facts
        .arguments
        .get("BUILDKIT_DOCKERFILE_CHECK")
        .cloned()
        .flatten();
    let settings = given
        .or_else(|| file.directives.check.clone())
        .unwrap_or_default();
    let options = Options::parse(&settings)?;
    let mut report = Report {
        options,
        findings: Vec::new(),
    };
    text::check(file, &mut report);
    stage::check(file, facts, &mut report);
    report.findings.sort_by_key(|finding| finding.lines.first);
    Ok(report.findings)
}

/// Collects what rules that are wanted find.
pub(super) struct Report {
    options: Options,
    findings: Vec<Finding>,
}

impl Report {
    /// Notes a finding unless the file or a comment before the instruction turned the rule off.
    pub(super) fn add(&mut self, name: &str, lines: Lines, comments: &[String], message: String) {
        let Some(rule) = rule(name) else { return };
        if self.options.with_comments(comments).wants(rule) {
            self.findings.push(Finding {
                rule,
                message,
                lines,
            });
        }
    }
}
