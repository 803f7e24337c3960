//! From a cut line to an instruction.

use super::super::arguments::{Arguments, Pair};
use super::super::error::Problem;
use super::super::expand::quote;
use super::super::flags::Flags;
use super::super::node::Node;
use super::super::suggest::nearest;
use super::{Argument, Instruction, Step, copy, description, health, run};

/// The 18 instructions.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Understands any instruction but `FROM`.
pub fn step(node: &Node) -> Result<Step, Problem> {
    Ok(Step {
        keyword: node.keyword.clone(),
        source: node.original.trim().to_owned(),
        lines: node.lines,
        comments: node.comments.clone(),
        instruction: instruction(node)?,
    })
}

fn instruction(node: &Node) -> Result<Instruction, Problem> {
    let without_flags = || Flags::parse(&node.flags, &[]).map(|_| ());
    Ok(match node.keyword.to_lowercase().as_str() {
        "add" => Instruction::Add(copy::parse(node, "ADD")?),
        "arg" => Instruction::Arg(arguments(node)?),
        "cmd" => {
            without_flags()?;
            Instruction::Cmd(run::command(node))
        }
        "copy" => Instruction::Copy(copy::parse(node, "COPY")?),
        "entrypoint" => {
            without_flags()?;
            Instruction::Entrypoint(run::command(node))
        }
        "env" => {
            without_flags()?;
            Instruction::Env(pairs(node, "ENV")?)
        }
        "expose" => {
            let mut ports = at_least_one(node, "EXPOSE")?;
            without_flags()?;
            ports.sort();
            Instruction::Expose(ports)
        }
        "healthcheck" => Instruction::Healthcheck(health::parse(node)?),
        "label" => {
            without_flags()?;
            Instruction::Label {
                pairs: pairs(node, "LABEL")?,
                literal: false,
            }
        }
        "maintainer" => Instruction::Maintainer(exactly_one(node, "MAINTAINER", true)?),
        "onbuild" => Instruction::Onbuild(onbuild(node)?),
        "run" => Instruction::Run(Box::new(run::parse(node)?)),
        "shell" => {
            without_flags()?;
            Instruction::Shell(shell(node)?)
        }
        "stopsignal" => Instruction::Stopsignal(exactly_one(node, "STOPSIGNAL", false)?),
        "user" => Instruction::User(exactly_one(node, "USER", true)?),
        "volume" => {
            let paths = at_least_one(node, "VOLUME")?;
            without_flags()?;
            Instruction::Volume(volumes(paths)?)
        }
        "workdir" => Instruction::Workdir(exactly_one(node, "WORKDIR", true)?),
        _ => {
            return Err(Problem::UnknownInstruction {
                name: node.keyword.clone(),
                suggestion: nearest(&node.keyword, KEYWORDS, true),
            });
        }
    })
}

fn exactly_one(node: &Node, name: &'static str, check_flags: bool) -> Result<String, Problem> {
    let Arguments::Text(text) = &node.arguments else {
        return Err(Problem::ExactlyOne(name));
    };
    if check_flags {
        Flags::parse(&node.flags, &[])?;
    }
    Ok(text.clone())
}

fn at_least_one(node: &Node, name: &'static str) -> Result<Vec<String>, Problem> {
    match &node.arguments {
        Arguments::Words(words) | Arguments::Json(words) if !words.is_empty() => Ok(words.clone()),
        _ => Err(Problem::AtLeastOne(name)),
    }
}

fn pairs(node: &Node, name: &'static str) -> Result<Vec<Pair>, Problem> {
    let Arguments::Pairs(pairs) = &node.arguments else {
        return Err(Problem::AtLeastOne(name));
    };
    if pairs.iter().any(|pair| pair.key.is_empty()) {
        return Err(Problem::BlankName(name));
    }
    Ok(pairs.clone())
}

fn arguments(node: &Node) -> Result<Vec<Argument>, Problem> {
    at_least_one(node, "ARG")?
        .iter()
        .map(|word| {
            let (name, default) = match word.split_once('=') {
                Some(("", _)) => return Err(Problem::BlankName("ARG")),
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word.as_str(), None),
            };
            Ok(Argument {
                name: name.to_owned(),
                default,
                description: description(&node.comments, name),
            })
        })
        .collect()
}

fn volumes(paths: Vec<String>) -> Result<Vec<String>, Problem> {
    paths
        .iter()
        .map(|path| match path.trim() {
            "" => Err(Problem::EmptyVolume),
            path => Ok(path.to_owned()),
        })
        .collect()
}

fn shell(node: &Node) -> Result<Vec<String>, Problem> {
    match &node.arguments {
        Arguments::Json(words) if !words.is_empty() => Ok(words.clone()),
        Arguments::Text(_) => Err(Problem::NotJson("SHELL")),
        _ => Err(Problem::AtLeastOne("SHELL")),
    }
}

/// The text of the trigger, with the here-documents that belong to it.
fn onbuild(node: &Node) -> Result<String, Problem> {
    let Arguments::Trigger(trigger) = &node.arguments else {
        return Err(Problem::AtLeastOne("ONBUILD"));
    };
    Flags::parse(&node.flags, &[])?;
    match trigger.keyword.to_uppercase().as_str() {
        "ONBUILD" => return Err(Problem::OnbuildChain),
        name @ ("MAINTAINER" | "FROM") => {
            return Err(Problem::OnbuildTrigger(name.to_owned()));
        }
        _ => {}
    }
    let line = node.original.trim_start();
    let mut text = line[node.keyword.len()..].trim_start().to_owned();
    for doc in &node.heredocs {
        text.push('\n');
        text.push_str(&doc.content);
        text.push_str(&doc.name);
    }
    Ok(text)
}

/// The name that `FROM image AS name` gives, in lower case.
pub(crate) fn stage_name(words: &[String]) -> Result<Option<String>, Problem> {
    match words {
        [_] => Ok(None),
        [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if valid {
                Ok(Some(lower))
            } else {
                Err(Problem::StageName(quote(name)))
            }
        }
        _ => Err(Problem::FromArguments),
    }
}
