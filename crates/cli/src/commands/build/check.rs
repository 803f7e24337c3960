//! `--check`, `--call`: what a Dockerfile says, without building it.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};
use wharf_build::dockerfile::{Dockerfile, Lines, excerpt, parse};
use wharf_build::ignore::Patterns;
use wharf_build::lint::{Facts, Options, check};
use wharf_spec::platform::Platform;

use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::print;

pub(super) fn run(matches: &Matches, call: &str) -> Result<(), Failure> {
    let directory = Path::new(&matches.args[0]);
    let path = match matches.text_or_empty("file") {
        "" => directory.join("Dockerfile"),
        file => file.into(),
    };
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let bytes = std::fs::read(&path).map_err(|error| {
        Failure::new(format!("open {}: {}", path.display(), errno_text(&error)))
    })?;
    let source = String::from_utf8_lossy(&bytes).into_owned();
    let file = parse(&source).map_err(|error| {
        Failure::new(format!(
            "{}{}",
            excerpt(&name, &source, error.lines),
            error.message(&name)
        ))
    })?;
    let json = is_json(call)?;
    let sources = Sources {
        name: &name,
        text: &source,
        json,
    };
    match call.split(',').next().unwrap_or_default() {
        "check" | "lint" => lint(matches, directory, &file, &sources),
        "targets" => targets(&file, &sources),
        "outline" => outline(matches, &file, &sources),
        other => Err(Failure::new(format!("invalid call {other:?}"))),
    }
}

/// The Dockerfile, and how to speak about it.
struct Sources<'a> {
    name: &'a str,
    text: &'a str,
    json: bool,
}

impl Sources<'_> {
    /// BuildKit's JSON has sources as base64.
    fn encoded(&self) -> Value {
        json!([base64::engine::general_purpose::STANDARD.encode(self.text)])
    }

    fn print(&self, document: &Value) -> Result<(), Failure> {
        print::out(&format!("{document:#}\n"))
    }
}

/// `outline,format=json`
fn is_json(call: &str) -> Result<bool, Failure> {
    let mut json = false;
    for field in call.split(',').skip(1) {
        match field.split_once('=') {
            Some(("format", "json")) => json = true,
            Some(("format", "text")) => json = false,
            Some(("ignorestatus", _)) => {}
            _ => return Err(Failure::new(format!("invalid call option {field:?}"))),
        }
    }
    Ok(json)
}

/// Where something is, as BuildKit's JSON has it.
fn location(lines: Lines) -> Value {
    json!({"ranges": [{"start": {"line": lines.first}, "end": {"line": lines.last}}]})
}

fn lint(
    matches: &Matches,
    directory: &Path,
    file: &Dockerfile,
    sources: &Sources<'_>,
) -> Result<(), Failure> {
    let (name, source) = (sources.name, sources.text);
    let ignore = std::fs::read(directory.join(".dockerignore")).ok();
    let ignore =
        ignore.and_then(|bytes| Patterns::parse_file(&String::from_utf8_lossy(&bytes)).ok());
    let arguments: BTreeMap<String, Option<String>> = matches
        .list("build-arg")
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .collect();
    let facts = Facts {
        arguments,
        platform: Platform::host(),
        ignore,
        target: matches.text_or_empty("target").to_owned(),
    };
    let failed = |error: wharf_build::lint::OptionsError| Failure::new(error.to_string());
    let findings = check(file, &facts).map_err(failed)?;
    if sources.json {
        let warnings: Vec<Value> = findings
            .iter()
            .map(|finding| {
                json!({
                    "ruleName": finding.rule.name,
                    "description": finding.rule.description,
                    "url": finding.rule.url(),
                    "detail": finding.message,
                    "location": location(finding.lines),
                })
            })
            .collect();
        let encoded = base64::engine::general_purpose::STANDARD.encode(source);
        return sources.print(&json!({
            "warnings": warnings,
            "sources": [{"filename": name, "language": "Dockerfile", "data": encoded}],
        }));
    }
    if findings.is_empty() {
        return print::out_line("Check complete, no warnings found.");
    }
    let count = findings.len();
    let plural = if count == 1 {
        "warning has"
    } else {
        "warnings have"
    };
    let mut out = format!("Check complete, {count} {plural} been found!\n");
    for finding in &findings {
        out.push_str(&format!(
            "\nWARNING: {} - {}\n{}\n{}\n",
            finding.rule.name,
            finding.rule.url(),
            finding.rule.description,
            excerpt(name, source, finding.lines).trim_end()
        ));
        out = out.replace(
            &format!("{}\n{name}:", finding.rule.description),
            &format!("{}\n\n{name}:", finding.message),
        );
    }
    print::out(&out)?;
    let settings = file.directives.check.clone().unwrap_or_default();
    Options::parse(&settings).map_err(failed)?;
    Err(Failure::exit(1))
}

fn targets(file: &Dockerfile, sources: &Sources<'_>) -> Result<(), Failure> {
    if sources.json {
        let last = file.stages.len().saturating_sub(1);
        let listed: Vec<Value> = file
            .stages
            .iter()
            .enumerate()
            .map(|(index, stage)| {
                let mut target = json!({"base": stage.base, "location": location(stage.lines)});
                if let Some(name) = &stage.name {
                    target["name"] = json!(name);
                }
                if index == last {
                    target["default"] = json!(true);
                }
                if !stage.description.is_empty() {
                    target["description"] = json!(stage.description);
                }
                target
            })
            .collect();
        return sources.print(&json!({"targets": listed, "sources": sources.encoded()}));
    }
    let mut out = String::from("TARGET            DESCRIPTION\n");
    let last = file.stages.len().saturating_sub(1);
    for (index, stage) in file.stages.iter().enumerate() {
        let Some(name) = &stage.name else {
            if index == last {
                out.push_str(&format!("{:<18}{}\n", "(default)", stage.description));
            }
            continue;
        };
        let name = if index == last {
            format!("{name} (default)")
        } else {
            name.clone()
        };
        out.push_str(&format!("{name:<18}{}\n", stage.description));
    }
    print::out(&out)
}

/// BuildKit leaves out what is empty.
fn tell(object: &mut Value, key: &str, text: &str) {
    if !text.is_empty() {
        object[key] = json!(text);
    }
}

fn outline(matches: &Matches, file: &Dockerfile, sources: &Sources<'_>) -> Result<(), Failure> {
    let outline = wharf_build::outline::outline(file, matches.text_or_empty("target"))
        .map_err(Failure::new)?;
    if sources.json {
        let arguments: Vec<Value> = outline
            .arguments
            .iter()
            .map(|argument| {
                let mut told = json!({"name": argument.name});
                tell(&mut told, "description", &argument.description);
                tell(&mut told, "value", &argument.value);
                told
            })
            .collect();
        let named = |list: &[(String, bool)]| -> Vec<Value> {
            list.iter()
                .map(|(name, required)| match required {
                    true => json!({"name": name, "required": true}),
                    false => json!({"name": name}),
                })
                .collect()
        };
        let mut told = json!({"sources": sources.encoded()});
        tell(&mut told, "name", &outline.name);
        tell(&mut told, "description", &outline.description);
        for (key, list) in [
            ("args", arguments),
            ("secrets", named(&outline.secrets)),
            ("ssh", named(&outline.ssh)),
        ] {
            if !list.is_empty() {
                told[key] = Value::Array(list);
            }
        }
        return sources.print(&told);
    }
    let mut out = String::new();
    if !outline.name.is_empty() {
        out.push_str(&format!("TARGET:      {}\n", outline.name));
    }
    if !outline.description.is_empty() {
        out.push_str(&format!("DESCRIPTION: {}\n", outline.description));
    }
    if !outline.arguments.is_empty() {
        out.push_str("\nBUILD ARG          VALUE              DESCRIPTION\n");
        for argument in &outline.arguments {
            out.push_str(&format!(
                "{:<18} {:<18} {}\n",
                argument.name, argument.value, argument.description
            ));
        }
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if list.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{title:<18} REQUIRED\n"));
        for (name, required) in list {
            let required = if *required { "true" } else { "" };
            out.push_str(&format!("{name:<18} {required}\n"));
        }
    }
    print::out(&out)
}
