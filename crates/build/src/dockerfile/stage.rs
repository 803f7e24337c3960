//! A whole Dockerfile: arguments before the first `FROM`, then stages.

use super::arguments::Arguments;
use super::error::{Phase, Problem, SyntaxError};
use super::flags::{Flags, Kind};
use super::instruction::{Argument, Instruction, Step, description, stage_name, step};
use super::node::{Lines, Node, Warning, read};
use super::{Directives, instruction};

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Directives at its top.
    pub directives: Directives,
    /// The escape character.
    pub escape: char,
    /// `ARG` before the first stage.
    pub globals: Vec<Step>,
    /// Stages in order; may be empty.
    pub stages: Vec<Stage>,
    /// Empty continuation lines.
    pub warnings: Vec<Warning>,
}

/// `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Image, earlier stage or `scratch`, variables not expanded.
    pub base: String,
    /// Its name, in lower case.
    pub name: Option<String>,
    /// Name as written.
    pub written_name: Option<String>,
    /// `--platform`, variables not expanded; empty if not given.
    pub platform: String,
    /// The word `FROM` as written.
    pub keyword: String,
    /// The word `AS` as written.
    pub as_keyword: Option<String>,
    /// The line as written.
    pub source: String,
    /// Where the line is.
    pub lines: Lines,
    /// Comments right before it.
    pub comments: Vec<String>,
    /// From the comment `# name text`.
    pub description: String,
    /// Its instructions.
    pub steps: Vec<Step>,
}

/// Parses a Dockerfile.
pub fn parse(source: &str) -> Result<Dockerfile, SyntaxError> {
    let nodes = read(source)?;
    let mut file = Dockerfile {
        directives: nodes.directives,
        escape: nodes.escape,
        globals: Vec::new(),
        stages: Vec::new(),
        warnings: nodes.warnings,
    };
    for node in &nodes.nodes {
        let failed = |phase, problem| SyntaxError {
            problem,
            lines: node.lines,
            phase,
        };
        if node.keyword.eq_ignore_ascii_case("from") {
            let stage = stage(node).map_err(|problem| failed(Phase::Understand, problem))?;
            file.stages.push(stage);
            continue;
        }
        let step = step(node).map_err(|problem| failed(Phase::Understand, problem))?;
        match file.stages.last_mut() {
            Some(stage) => stage.steps.push(step),
            None if matches!(step.instruction, Instruction::Arg(_)) => file.globals.push(step),
            None => return Err(failed(Phase::Arrange, Problem::NoStage)),
        }
    }
    Ok(file)
}

/// Parses the one instruction of a trigger or of a change given on a command line.
pub fn parse_one(source: &str) -> Result<Step, SyntaxError> {
    let nodes = read(source)?;
    let [node] = nodes.nodes.as_slice() else {
        return Err(SyntaxError {
            problem: Problem::Value("onbuild trigger should be a single expression".to_owned()),
            lines: Lines::default(),
            phase: Phase::Arrange,
        });
    };
    instruction::step(node).map_err(|problem| SyntaxError {
        problem,
        lines: node.lines,
        phase: Phase::Arrange,
    })
}

fn stage(node: &Node) -> Result<Stage, Problem> {
    let words = match &node.arguments {
        Arguments::Words(words) => words.as_slice(),
        _ => &[],
    };
    let name = stage_name(words)?;
    let flags = Flags::parse(&node.flags, &[("platform", Kind::One)])?;
    let base = words.first().ok_or(Problem::FromArguments)?;
    Ok(Stage {
        base: base.clone(),
        platform: flags.text("platform"),
        keyword: node.keyword.clone(),
        as_keyword: words.get(1).cloned(),
        written_name: words.get(2).cloned(),
        source: node.original.trim().to_owned(),
        lines: node.lines,
        description: description(&node.comments, name.as_deref().unwrap_or_default()),
        comments: node.comments.clone(),
        steps: Vec::new(),
        name,
    })
}

impl Dockerfile {
    /// Index of the stage with that name (the last one of several) or number.
    pub fn find_stage(&self, target: &str) -> Option<usize> {
        let wanted = target.to_lowercase();
        self.stages
            .iter()
            .rposition(|stage| stage.name.as_ref() == Some(&wanted))
            .or_else(|| {
                let index: usize = target.parse().ok()?;
                (index < self.stages.len()).then_some(index)
            })
    }

    /// The arguments declared before the first stage.
    pub fn global_arguments(&self) -> impl Iterator<Item = (&Step, &Argument)> {
        self.globals.iter().flat_map(|step| {
            let arguments: &[Argument] = match &step.instruction {
                Instruction::Arg(arguments) => arguments,
                _ => &[],
            };
            arguments.iter().map(move |argument| (step, argument))
        })
    }
}
