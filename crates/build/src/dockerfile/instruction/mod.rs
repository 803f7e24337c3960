//! Instructions with their meaning.

mod command;
mod copy;
mod expand;
mod health;
mod mount;
mod parse;
mod ports;
mod run;

pub use command::CommandLine;
pub use copy::{Copy, InlineFile};
pub use expand::Expanded;
pub use mount::{Mount, MountKind, Sharing};
pub(crate) use parse::stage_name;
pub use parse::{KEYWORDS, step};
pub use ports::{Exposed, exposed_ports};
pub use run::{Network, Run, Security};

use wharf_spec::image_config::Healthcheck;

use super::arguments::Pair;
use super::node::Lines;

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// First word as written.
    pub keyword: String,
    /// The line as written, continuations joined.
    pub source: String,
    /// Where it is; zeroes for one that no file contains.
    pub lines: Lines,
    /// Comments right before it.
    pub comments: Vec<String>,
    /// What it says.
    pub instruction: Instruction,
}

/// What an instruction says. Variables in it are not expanded yet: [`Instruction::expand`] does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`.
    Add(Copy),
    /// `ARG`.
    Arg(Vec<Argument>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`, sorted.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`; not expanded if it came from outside the file.
    Label {
        /// Keys and values.
        pairs: Vec<Pair>,
        /// Values are taken as they are.
        literal: bool,
    },
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction to run in builds upon this image, here-documents included.
    Onbuild(String),
    /// `RUN`.
    Run(Box<Run>),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    Stopsignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

/// One argument that `ARG` declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its default.
    pub default: Option<String>,
    /// From the comment `# name text`.
    pub description: String,
}

impl Step {
    /// A label given from outside, at the end of the last stage.
    pub fn label(key: &str, value: &str) -> Step {
        let pair = Pair {
            key: key.to_owned(),
            value: value.to_owned(),
            old_form: false,
        };
        Step {
            keyword: "label".to_owned(),
            source: format!("LABEL {}", pair.text()),
            lines: Lines::default(),
            comments: Vec::new(),
            instruction: Instruction::Label {
                pairs: vec![pair],
                literal: true,
            },
        }
    }
}

/// The text after `name ` in the comments before an instruction.
pub(crate) fn description(comments: &[String], name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    comments
        .iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_default()
        .to_owned()
}
