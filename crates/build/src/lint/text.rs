//! Checks that need nothing but the text: casing, names, descriptions.

use std::collections::BTreeSet;

use super::check::Report;
use crate::dockerfile::expand::quote;
use crate::dockerfile::instruction::{Instruction, Step};
use crate::dockerfile::{Dockerfile, Lines, Stage};

pub(super) fn check(file: &Dockerfile, report: &mut Report) {
    for warning in &file.warnings {
        let lines = Lines {
            first: warning.line,
            last: warning.line,
        };
        report.add(
            "NoEmptyContinuation",
            lines,
            &[],
            "Empty continuation line".to_owned(),
        );
    }
    for step in &file.globals {
        check_step(step, report);
    }
    for stage in &file.stages {
        check_from(stage, report);
        for step in &stage.steps {
            check_step(step, report);
        }
    }
    check_stage_names(file, report);
    check_casing(file, report);
}

fn check_step(step: &Step, report: &mut Report) {
    match &step.instruction {
        Instruction::Maintainer(_) => report.add(
            "MaintainerDeprecated",
            step.lines,
            &step.comments,
            "Maintainer instruction is deprecated in favor of using label".to_owned(),
        ),
        Instruction::Arg(arguments) => {
            let names: Vec<&str> = arguments
                .iter()
                .map(|argument| argument.name.as_str())
                .collect();
            check_description("ARG", &names, step.lines, &step.comments, report);
        }
        _ => {}
    }
}

fn check_from(stage: &Stage, report: &mut Report) {
    if let Some(name) = &stage.written_name
        && *name != name.to_lowercase()
    {
        let message = format!("Stage name '{name}' should be lowercase");
        report.add("StageNameCasing", stage.lines, &stage.comments, message);
    }
    if let Some(word) = &stage.as_keyword {
        let from = &stage.keyword;
        let same = if *from == from.to_lowercase() {
            *word == word.to_lowercase()
        } else if *from == from.to_uppercase() {
            *word == word.to_uppercase()
        } else {
            // Mixed case is reported by another rule.
            true
        };
        if !same {
            let message = format!("'{word}' and '{from}' keywords' casing do not match");
            report.add("FromAsCasing", stage.lines, &stage.comments, message);
        }
    }
    if let Some(name) = &stage.name {
        check_description("FROM", &[name], stage.lines, &stage.comments, report);
    }
}

fn check_description(
    instruction: &str,
    names: &[&str],
    lines: Lines,
    comments: &[String],
    report: &mut Report,
) {
    let (Some(comment), Some(first)) = (comments.last(), names.first()) else {
        return;
    };
    let word = comment.split(' ').next().unwrap_or_default();
    if names.contains(&word) {
        return;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { first };
    let message =
        format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    report.add("InvalidDefinitionDescription", lines, comments, message);
}

fn check_stage_names(file: &Dockerfile, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for stage in &file.stages {
        let Some(name) = &stage.name else { continue };
        if matches!(name.as_str(), "context" | "scratch") {
            let message = format!(
                "Stage name should not use the same name as reserved stage {}",
                quote(name)
            );
            report.add("ReservedStageName", stage.lines, &[], message);
        }
        if !seen.insert(name.as_str()) {
            let message = format!(
                "Duplicate stage name {}, stage names should be unique",
                quote(name)
            );
            report.add("DuplicateStageName", stage.lines, &[], message);
        }
    }
}

/// The majority decides; a tie is for upper case.
fn check_casing(file: &Dockerfile, report: &mut Report) {
    let words = || {
        file.stages.iter().flat_map(|stage| {
            let steps = stage
                .steps
                .iter()
                .map(|step| (step.keyword.as_str(), step.lines));
            std::iter::once((stage.keyword.as_str(), stage.lines)).chain(steps)
        })
    };
    let lower = words()
        .filter(|(word, _)| *word == word.to_lowercase())
        .count();
    let upper = words()
        .filter(|(word, _)| *word == word.to_uppercase())
        .count();
    for (word, lines) in words() {
        let (wanted, name) = if lower > upper {
            (word.to_lowercase(), "lowercase")
        } else {
            (word.to_uppercase(), "uppercase")
        };
        if word != wanted {
            let message =
                format!("Command '{word}' should match the case of the command majority ({name})");
            report.add("ConsistentInstructionCasing", lines, &[], message);
        }
    }
}
