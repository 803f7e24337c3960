//! What a target takes: arguments, secrets, agents.

use std::collections::{BTreeMap, BTreeSet};

use wharf_spec::platform::Platform;

use crate::dockerfile::Dockerfile;
use crate::dockerfile::instruction::{Instruction, Mount, MountKind};
use crate::dockerfile::scope::Scope;
use crate::graph::graph;

/// What a target takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Its stage's name.
    pub name: String,
    /// What the comment before it says.
    pub description: String,
    /// Arguments, in the order of the file.
    pub arguments: Vec<OutlineArgument>,
    /// Secrets, and whether each must be given.
    pub secrets: Vec<(String, bool)>,
    /// Agents likewise.
    pub ssh: Vec<(String, bool)>,
}

/// One argument.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutlineArgument {
    /// Its name.
    pub name: String,
    /// Its default.
    pub value: String,
    /// What the comment before it says.
    pub description: String,
}

/// Looks through all that `target`, the last stage if empty, is made from.
pub fn outline(file: &Dockerfile, target: &str) -> Result<Outline, String> {
    let host = Platform::host();
    let mut scope = Scope::new(BTreeMap::new(), &host, &host);
    for step in &file.globals {
        scope
            .declare_global(step, file.escape)
            .map_err(|problem| problem.to_string())?;
    }
    let graph = graph(file, &scope, target, &BTreeSet::new()).map_err(|error| error.text)?;
    let stage = &file.stages[graph.target];
    let mut outline = Outline {
        name: stage.name.clone().unwrap_or_default(),
        description: stage.description.clone(),
        ..Outline::default()
    };
    let needed = graph
        .stages
        .iter()
        .zip(&file.stages)
        .filter(|(vertex, _)| vertex.needed);
    let steps = file
        .globals
        .iter()
        .chain(needed.flat_map(|(_, stage)| &stage.steps));
    let mut seen = BTreeSet::new();
    let (mut secrets, mut ssh) = (BTreeMap::new(), BTreeMap::new());
    for step in steps {
        match &step.instruction {
            Instruction::Arg(arguments) => {
                for argument in arguments {
                    if seen.insert(argument.name.clone()) {
                        outline.arguments.push(OutlineArgument {
                            name: argument.name.clone(),
                            value: argument.default.clone().unwrap_or_default(),
                            description: argument.description.clone(),
                        });
                    }
                }
            }
            Instruction::Run(run) => {
                for text in &run.mounts {
                    let Ok(mount) = Mount::parse(text, &|value| Ok(value.to_owned())) else {
                        continue;
                    };
                    let name = |default: &str| {
                        let given = [&mount.id, &mount.source];
                        let given = given.into_iter().find(|text| !text.is_empty());
                        given.cloned().unwrap_or_else(|| default.to_owned())
                    };
                    match mount.kind {
                        MountKind::Secret => {
                            let last = mount.target.rsplit('/').next().unwrap_or_default();
                            *secrets.entry(name(last)).or_insert(false) |= mount.required;
                        }
                        MountKind::Ssh => {
                            *ssh.entry(name("default")).or_insert(false) |= mount.required;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    outline.secrets = secrets.into_iter().collect();
    outline.ssh = ssh.into_iter().collect();
    Ok(outline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    #[test]
    fn only_what_the_target_needs_is_told() {
        let text = "# A first\nARG A=1\nFROM x AS other\nARG UNUSED\n# out the result\nFROM x AS out\nARG A\nARG B=2\n\
                    RUN --mount=type=secret,id=s,required --mount=type=ssh true\n";
        let outline = outline(&parse(text).expect("parses"), "").expect("an outline");
        let names: Vec<&str> = outline
            .arguments
            .iter()
            .map(|argument| argument.name.as_str())
            .collect();
        assert_eq!(names, ["A", "B"]);
        assert_eq!(
            (outline.name.as_str(), outline.description.as_str()),
            ("out", "the result")
        );
        assert_eq!(outline.arguments[0].description, "first");
        assert_eq!(outline.secrets, [("s".to_owned(), true)]);
        assert_eq!(outline.ssh, [("default".to_owned(), false)]);
    }
}
