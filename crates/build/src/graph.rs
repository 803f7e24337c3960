//! Which stages there are, what each needs, and which of them a target needs.

use std::collections::BTreeSet;

use wharf_spec::platform::Platform;

use crate::dockerfile::expand::{Expander, quote};
use crate::dockerfile::instruction::{Instruction, Mount};
use crate::dockerfile::scope::Scope;
use crate::dockerfile::{Dockerfile, Lines, Stage};

/// Stages and what they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// In the order of the file.
    pub stages: Vec<Vertex>,
    /// Index of the one that is wanted.
    pub target: usize,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// What it begins with.
    pub base: Base,
    /// Platform of the base, if `--platform` was given.
    pub platform: Option<Platform>,
    /// Other stages it copies from or mounts.
    pub sources: BTreeSet<usize>,
    /// The target needs it.
    pub needed: bool,
    /// A named context took the stage's place: its instructions do not count.
    pub replaced: bool,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Another stage.
    Stage(usize),
    /// An image.
    Image(String),
    /// A named context.
    Context(String),
}

/// Why stages do not fit together, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct GraphError {
    /// What is wrong.
    pub text: String,
    /// Where; line 0 when it is about the request.
    pub lines: Lines,
}

/// Resolves names. `target` is a stage's name or number, or empty for the last; `contexts` are the names of contexts, which take the place
/// of images and stages of the same name.
pub fn graph(
    file: &Dockerfile,
    scope: &Scope,
    target: &str,
    contexts: &BTreeSet<String>,
) -> Result<Graph, GraphError> {
    let count = file.stages.len();
    if count == 0 {
        return Err(refuse(
            "dockerfile contains no stages to build",
            Lines::default(),
        ));
    }
    let target = if target.is_empty() {
        count - 1
    } else {
        file.find_stage(target).ok_or_else(|| {
            refuse(
                format!("target stage {} could not be found", quote(target)),
                Lines::default(),
            )
        })?
    };
    let mut stages = Vec::with_capacity(count);
    for (index, stage) in file.stages.iter().enumerate() {
        stages.push(match replacement(stage, contexts) {
            Some(context) => Vertex {
                base: Base::Context(context),
                platform: None,
                sources: BTreeSet::new(),
                needed: false,
                replaced: true,
            },
            None => vertex(file, scope, index, stage, contexts)?,
        });
    }
    let mut graph = Graph { stages, target };
    graph.mark_needed(file)?;
    Ok(graph)
}

fn refuse(text: impl Into<String>, lines: Lines) -> GraphError {
    GraphError {
        text: text.into(),
        lines,
    }
}

/// The context that takes a stage's place.
fn replacement(stage: &Stage, contexts: &BTreeSet<String>) -> Option<String> {
    let name = stage.name.as_ref()?;
    contexts.contains(name).then(|| name.clone())
}

fn vertex(
    file: &Dockerfile,
    scope: &Scope,
    index: usize,
    stage: &Stage,
    contexts: &BTreeSet<String>,
) -> Result<Vertex, GraphError> {
    let expand = |text: &str| {
        Expander::new(file.escape)
            .word(text, &|name| scope.global(name))
            .map_err(|error| refuse(error.to_string(), stage.lines))
    };
    let name = expand(&stage.base)?;
    if name.is_empty() {
        let text = format!("base name ({}) should not be blank", stage.base);
        return Err(refuse(text, stage.lines));
    }
    let base = match stage_named(file, &name, index) {
        Some(base) => Base::Stage(base),
        None if contexts.contains(&name.to_lowercase()) => Base::Context(name.to_lowercase()),
        None if name == "scratch" => Base::Scratch,
        None => Base::Image(name),
    };
    let platform = match expand(&stage.platform)?.as_str() {
        "" => None,
        text => Some(Platform::parse(text).map_err(|error| {
            refuse(
                format!("failed to parse platform {text}: {error}"),
                stage.lines,
            )
        })?),
    };
    Ok(Vertex {
        base,
        platform,
        sources: sources(file, index, stage),
        needed: false,
        replaced: false,
    })
}

/// The last stage of that name before `before`.
fn stage_named(file: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let wanted = name.to_lowercase();
    file.stages[..before]
        .iter()
        .rposition(|stage| stage.name.as_ref() == Some(&wanted))
}

/// The stage that `--from` means; `None` if it means an image. Names of later stages count too.
pub fn source_stage(file: &Dockerfile, index: usize, from: &str) -> Result<Option<usize>, String> {
    if from.is_empty() {
        return Ok(None);
    }
    if let Some(found) =
        stage_named(file, from, index).or_else(|| stage_named(file, from, file.stages.len()))
    {
        return Ok(Some(found));
    }
    match from.parse::<usize>() {
        Ok(number) if number == index => Err(format!(
            "invalid from flag value {from}: refers to current build stage"
        )),
        Ok(number) if number < file.stages.len() => Ok(Some(number)),
        Ok(_) => Err(format!(
            "invalid from flag value {from}: index out of bounds"
        )),
        Err(_) => Ok(None),
    }
}

fn sources(file: &Dockerfile, index: usize, stage: &Stage) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for step in &stage.steps {
        let froms: Vec<String> = match &step.instruction {
            Instruction::Copy(copy) => vec![copy.from.clone()],
            Instruction::Run(run) => run
                .mounts
                .iter()
                .filter_map(|text| {
                    // What is wrong with a mount is said when it is used.
                    Mount::parse(text, &|value| Ok(value.to_owned())).ok()
                })
                .map(|mount| mount.from)
                .collect(),
            _ => continue,
        };
        for from in froms {
            // A number that means no stage is refused when its step is reached, as Docker does.
            found.extend(source_stage(file, index, &from).ok().flatten());
        }
    }
    found
}

impl Graph {
    fn mark_needed(&mut self, file: &Dockerfile) -> Result<(), GraphError> {
        let mut path = Vec::new();
        self.visit(self.target, file, &mut path)
    }

    fn visit(
        &mut self,
        index: usize,
        file: &Dockerfile,
        path: &mut Vec<usize>,
    ) -> Result<(), GraphError> {
        if path.contains(&index) {
            let stage = &file.stages[index];
            let name = match &stage.name {
                Some(name) => name.clone(),
                None => format!("stage-{index}"),
            };
            let text = format!("circular dependency detected on stage: {name}");
            return Err(refuse(text, stage.lines));
        }
        if self.stages[index].needed {
            return Ok(());
        }
        path.push(index);
        for needed in self.stages[index].needs() {
            self.visit(needed, file, path)?;
        }
        path.pop();
        self.stages[index].needed = true;
        Ok(())
    }
}

impl Vertex {
    /// All stages it needs.
    pub fn needs(&self) -> Vec<usize> {
        let mut needs: Vec<usize> = self.sources.iter().copied().collect();
        if let Base::Stage(base) = self.base {
            needs.push(base);
        }
        needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;
    use std::collections::BTreeMap;

    fn graph_of(text: &str, target: &str) -> Result<Graph, String> {
        let file = parse(text).expect(text);
        let platform = Platform::host();
        let mut scope = Scope::new(BTreeMap::new(), &platform, &platform);
        for step in &file.globals {
            scope.declare_global(step, file.escape).expect("expands");
        }
        let contexts = BTreeSet::from(["given".to_owned()]);
        graph(&file, &scope, target, &contexts).map_err(|error| error.text)
    }

    #[test]
    fn only_what_the_target_needs_is_built() {
        let text = "ARG B=one\nFROM x AS one\nFROM ${B} AS two\nFROM x AS unused\nFROM scratch\nCOPY --from=two a b\n\
                    RUN --mount=from=one,target=/m true\n";
        let graph = graph_of(text, "").expect("a graph");
        let needed: Vec<bool> = graph.stages.iter().map(|stage| stage.needed).collect();
        assert_eq!(needed, [true, true, false, true]);
        assert_eq!(graph.stages[1].base, Base::Stage(0));
        assert_eq!(graph.stages[3].sources, BTreeSet::from([0, 1]));
        let graph = graph_of(text, "ONE").expect("a graph");
        assert_eq!(graph.target, 0);
        assert!(!graph.stages[1].needed);
        assert_eq!(graph_of(text, "2").expect("a graph").target, 2);
    }

    #[test]
    fn contexts_take_places() {
        let text = "FROM x AS one\nFROM one AS given\nCOPY --from=one a b\nFROM given\n";
        let graph = graph_of(text, "").expect("a graph");
        assert_eq!(graph.stages[1].base, Base::Context("given".to_owned()));
        assert!(graph.stages[1].replaced && !graph.stages[0].needed);
        let graph = graph_of("FROM given\n", "").expect("a graph");
        assert_eq!(graph.stages[0].base, Base::Context("given".to_owned()));
        assert!(!graph.stages[0].replaced);
    }

    #[test]
    fn refusals() {
        for (text, target, expected) in [
            (
                "FROM a\n",
                "none",
                "target stage \"none\" could not be found",
            ),
            ("ARG X\nFROM $X\n", "", "base name ($X) should not be blank"),
            (
                "FROM a AS one\nCOPY --from=two a b\nFROM a AS two\nCOPY --from=one a b\n",
                "",
                "circular dependency detected on stage: two",
            ),
            ("ARG A\n", "", "dockerfile contains no stages to build"),
        ] {
            assert_eq!(graph_of(text, target), Err(expected.to_owned()), "{text}");
        }
    }
}
