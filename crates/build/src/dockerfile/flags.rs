//! Flags of instructions: `--name`, `--name=value`.

use super::error::Problem;
use super::suggest::nearest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    One,
    Many,
}

/// The flags of one instruction, in the order they were given.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    given: Vec<(&'static str, String)>,
}

impl Flags {
    /// Checks `words` against what the instruction knows.
    pub(crate) fn parse(
        words: &[String],
        known: &[(&'static str, Kind)],
    ) -> Result<Flags, Problem> {
        let mut flags = Flags::default();
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let name = name.strip_prefix("--").unwrap_or(name);
            let Some((name, kind)) = known.iter().find(|(known, _)| *known == name) else {
                return Err(Problem::UnknownFlag {
                    name: name.to_owned(),
                    suggestion: nearest(name, known.iter().map(|(name, _)| *name), false),
                });
            };
            if *kind != Kind::Many && flags.has(name) {
                return Err(Problem::DuplicateFlag((*name).to_owned()));
            }
            flags.given.push((name, check(name, *kind, value)?));
        }
        Ok(flags)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value, empty if the flag was not given.
    pub(crate) fn text(&self, name: &str) -> String {
        self.values(name).into_iter().next().unwrap_or_default()
    }

    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        self.given
            .iter()
            .filter(|(given, _)| *given == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// `None` if the flag was not given.
    pub(crate) fn optional_bool(&self, name: &str) -> Option<bool> {
        self.has(name).then(|| self.text(name) == "true")
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        self.optional_bool(name) == Some(true)
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.given.iter().map(|(name, _)| *name).collect()
    }
}

fn check(name: &str, kind: Kind, value: Option<&str>) -> Result<String, Problem> {
    match (kind, value) {
        (Kind::Bool, None) => Ok("true".to_owned()),
        (Kind::Bool, Some("")) | (Kind::One | Kind::Many, None) => {
            Err(Problem::FlagWithoutValue(name.to_owned()))
        }
        (Kind::Bool, Some(value)) => match value.to_lowercase().as_str() {
            "true" => Ok("true".to_owned()),
            "false" => Ok("false".to_owned()),
            _ => Err(Problem::FlagNotBoolean(name.to_owned(), value.to_owned())),
        },
        (Kind::One | Kind::Many, Some(value)) => Ok(value.to_owned()),
    }
}
