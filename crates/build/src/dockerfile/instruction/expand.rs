//! Variables in instructions. `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK` leave theirs to the shell.

use std::collections::BTreeSet;

use super::super::arguments::Pair;
use super::super::error::Problem;
use super::super::expand::{Expander, Lookup};
use super::{Argument, Copy, Instruction, Mount};

/// An instruction with its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The instruction.
    pub instruction: Instruction,
    /// Mounts of a `RUN`.
    pub mounts: Vec<Mount>,
    /// Variables that were used and not set.
    pub unset: BTreeSet<String>,
}

impl Instruction {
    /// Replaces variables. Every word of one instruction sees the same values, those from before it.
    pub fn expand(&self, escape: char, lookup: Lookup<'_>) -> Result<Expanded, Problem> {
        let mut words = Words {
            expander: Expander::new(escape),
            lookup,
            unset: BTreeSet::new(),
        };
        let mut instruction = self.clone();
        let mut mounts = Vec::new();
        match &mut instruction {
            Instruction::Add(copy) | Instruction::Copy(copy) => words.copy(copy, escape)?,
            Instruction::Arg(arguments) => words.arguments(arguments)?,
            Instruction::Env(pairs) => words.pairs(pairs)?,
            Instruction::Label { pairs, literal } if !*literal => words.pairs(pairs)?,
            Instruction::Expose(ports) => *ports = words.many(ports)?,
            Instruction::Run(run) => mounts = words.mounts(&run.mounts)?,
            Instruction::Stopsignal(text)
            | Instruction::User(text)
            | Instruction::Workdir(text) => {
                words.one(text)?;
            }
            Instruction::Volume(paths) => paths.iter_mut().try_for_each(|path| words.one(path))?,
            Instruction::Label { .. }
            | Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Healthcheck(_)
            | Instruction::Maintainer(_)
            | Instruction::Onbuild(_)
            | Instruction::Shell(_) => {}
        }
        Ok(Expanded {
            instruction,
            mounts,
            unset: words.unset,
        })
    }
}

struct Words<'a> {
    expander: Expander,
    lookup: Lookup<'a>,
    unset: BTreeSet<String>,
}

impl Words<'_> {
    fn one(&mut self, text: &mut String) -> Result<(), Problem> {
        let expansion = self
            .expander
            .expand(text, self.lookup)
            .map_err(|error| Problem::Expand(error.to_string()))?;
        *text = expansion.word;
        self.unset.extend(expansion.unset);
        Ok(())
    }

    /// A value may become several words.
    fn many(&mut self, texts: &[String]) -> Result<Vec<String>, Problem> {
        let mut words = Vec::new();
        for text in texts {
            let expansion = self
                .expander
                .expand(text, self.lookup)
                .map_err(|error| Problem::Expand(error.to_string()))?;
            words.extend(expansion.words);
            self.unset.extend(expansion.unset);
        }
        Ok(words)
    }

    fn pairs(&mut self, pairs: &mut [Pair]) -> Result<(), Problem> {
        for pair in pairs {
            self.one(&mut pair.key)?;
            self.one(&mut pair.value)?;
        }
        Ok(())
    }

    fn arguments(&mut self, arguments: &mut [Argument]) -> Result<(), Problem> {
        for argument in arguments {
            self.one(&mut argument.name)?;
            if let Some(default) = &mut argument.default {
                self.one(default)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, copy: &mut Copy, escape: char) -> Result<(), Problem> {
        self.one(&mut copy.chown)?;
        self.one(&mut copy.chmod)?;
        self.one(&mut copy.checksum)?;
        copy.sources
            .iter_mut()
            .try_for_each(|source| self.one(source))?;
        self.one(&mut copy.destination)?;
        let outer = std::mem::replace(&mut self.expander, Expander::heredoc(escape));
        let result = copy
            .inline
            .iter_mut()
            .filter(|file| file.expand)
            .try_for_each(|file| self.one(&mut file.content));
        self.expander = outer;
        result
    }

    fn mounts(&mut self, texts: &[String]) -> Result<Vec<Mount>, Problem> {
        let (expander, lookup) = (self.expander, self.lookup);
        let unset = std::cell::RefCell::new(BTreeSet::new());
        let expand = |value: &str| {
            let expansion = expander
                .expand(value, lookup)
                .map_err(|error| Problem::Expand(error.to_string()))?;
            unset.borrow_mut().extend(expansion.unset);
            Ok(expansion.word)
        };
        let mounts = texts
            .iter()
            .map(|text| Mount::parse(text, &expand))
            .collect();
        self.unset.extend(unset.into_inner());
        mounts
    }
}
