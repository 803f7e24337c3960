//! What a command and its flags are: plain data, from which the parser, the help text and the completions are made.

use super::parse::Matches;
use crate::failure::Failure;
use crate::session::Session;

/// How a flag's value is taken and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Needs no value; `--flag=false` is possible.
    Bool,
    /// One text; the last one wins.
    Text,
    /// May be repeated; every value counts.
    List,
    /// A decimal integer; the last one wins.
    Int,
}

/// Checks one value while parsing; the error is what follows `invalid argument "x" for "--flag" flag: `.
pub type Check = fn(&str) -> Result<(), String>;

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name after `--`.
    pub name: &'static str,
    /// The letter after `-`.
    pub short: Option<char>,
    /// How its value is taken.
    pub kind: Kind,
    /// The word for the value in help (`bytes`, `list`); empty for a switch.
    pub value: &'static str,
    /// The default as help shows it; empty means none is shown.
    pub default: &'static str,
    /// One sentence for help.
    pub about: &'static str,
    /// Checks each value, if it has a form of its own.
    pub check: Option<Check>,
    /// Parsed but not shown in help: old spellings and what has no meaning on Linux.
    pub hidden: bool,
}

impl Flag {
    const fn new(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Flag {
        Flag {
            name,
            short: None,
            kind,
            value,
            default: "",
            about,
            check: None,
            hidden: false,
        }
    }

    /// The letter after `-`.
    pub const fn short(mut self, letter: char) -> Flag {
        self.short = Some(letter);
        self
    }

    /// The word for the value in help.
    pub const fn value(mut self, word: &'static str) -> Flag {
        self.value = word;
        self
    }

    /// The default that help shows, as it is to be printed.
    pub const fn default(mut self, shown: &'static str) -> Flag {
        self.default = shown;
        self
    }

    /// Checks each value while parsing.
    pub const fn check(mut self, check: Check) -> Flag {
        self.check = Some(check);
        self
    }

    /// Leaves the flag out of help.
    pub const fn hidden(mut self) -> Flag {
        self.hidden = true;
        self
    }
}

/// A flag without a value.
pub const fn switch(name: &'static str, about: &'static str) -> Flag {
    Flag::new(name, Kind::Bool, "", about)
}

/// A flag with one text value.
pub const fn text(name: &'static str, about: &'static str) -> Flag {
    Flag::new(name, Kind::Text, "string", about)
}

/// A flag that may be repeated.
pub const fn list(name: &'static str, about: &'static str) -> Flag {
    Flag::new(name, Kind::List, "list", about)
}

/// A flag with an integer value.
pub const fn int(name: &'static str, about: &'static str) -> Flag {
    Flag::new(name, Kind::Int, "int", about)
}

/// How many arguments a command takes besides its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// None at all.
    None,
    /// This many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// At most this many.
    AtMost(usize),
    /// Between the two.
    Between(usize, usize),
}

/// What carries a command out.
pub type Run = fn(&Session, &Matches) -> Result<(), Failure>;

/// One command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Every way to say it, the first one being its proper name: `container ls`, `container ps`, `ps`.
    pub paths: &'static [&'static str],
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// One sentence for help.
    pub about: &'static str,
    /// How many arguments it takes.
    pub arity: Arity,
    /// Its flags, in groups that several commands may share.
    pub flags: &'static [&'static [Flag]],
    /// The first argument ends the flags, because what follows is another program's command line.
    pub stops_at_first_argument: bool,
    /// What carries it out.
    pub run: Run,
}

impl Command {
    /// Every flag, in the order of definition.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().flat_map(|group| group.iter())
    }
}
