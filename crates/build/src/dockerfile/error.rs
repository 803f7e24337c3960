//! What can be wrong with a Dockerfile, in Docker's words.

use super::node::Lines;

/// A Dockerfile that cannot be used, and where it stops making sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", self.prefix())]
pub struct SyntaxError {
    /// What is wrong.
    pub problem: Problem,
    /// The instruction it is about; line 0 when it is about the file.
    pub lines: Lines,
    /// Which step noticed.
    pub phase: Phase,
}

/// Step of parsing that refused; Docker words the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Cutting the file into instructions: `failed to parse <name>: …`, added by whoever knows the name.
    Read,
    /// Understanding an instruction: `dockerfile parse error on line 3: …`.
    Understand,
    /// Fitting instructions together: no prefix.
    Arrange,
}

impl SyntaxError {
    fn prefix(&self) -> String {
        match self.phase {
            Phase::Understand => format!("dockerfile parse error on line {}: ", self.lines.first),
            Phase::Read | Phase::Arrange => String::new(),
        }
    }

    /// The message of `POST /build`: an error of the first step names the file.
    pub fn message(&self, name: &str) -> String {
        match self.phase {
            Phase::Read => format!("failed to parse {name}: {self}"),
            Phase::Understand | Phase::Arrange => self.to_string(),
        }
    }
}

/// The lines around an error, marked, as BuildKit's clients print them.
pub fn excerpt(name: &str, source: &str, lines: Lines) -> String {
    const CONTEXT: usize = 4;
    if lines.first == 0 {
        return String::new();
    }
    let all: Vec<&str> = source.lines().collect();
    // Up to three lines of context, fewer the longer the marked part is.
    let padding = CONTEXT.saturating_sub(lines.last - lines.first).div_ceil(2);
    let from = lines.first.saturating_sub(padding).max(1);
    let to = (lines.last + padding).min(all.len());
    let mut text = format!("{name}:{}\n--------------------\n", lines.first);
    for number in from..=to {
        let mark = if (lines.first..=lines.last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let line = all.get(number - 1).copied().unwrap_or_default();
        text.push_str(&format!("{number:4} | {mark} {line}\n"));
    }
    text.push_str("--------------------\n");
    text
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each is")]
pub enum Problem {
    // The file.
    #[error("file with no instructions")]
    NoInstructions,
    #[error("dockerfile line greater than max allowed size of {0}")]
    LineTooLong(usize),
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    #[error("only one {0} parser directive can be used")]
    RepeatedDirective(String),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    #[error("no build stage in current context")]
    NoStage,

    // Arguments.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    #[error("Syntax error - can't find = in {0}. Must be of the form: name=value")]
    NoEquals(String),
    #[error("{0}")]
    Expand(String),

    // Instructions.
    #[error("unknown instruction: {name}{}", did_you_mean(.suggestion))]
    UnknownInstruction {
        name: String,
        suggestion: Option<String>,
    },
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error("invalid name for build stage: {0}, name can't start with a number or contain symbols")]
    StageName(String),
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthCommand,
    #[error("Unknown type {0} in HEALTHCHECK (try CMD)")]
    HealthType(String),
    #[error("Interval {0} cannot be less than 1ms")]
    ShortInterval(String),
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i64),
    #[error("{0}")]
    Value(String),

    // Flags.
    #[error("unknown flag: --{name}{}", did_you_mean(.suggestion))]
    UnknownFlag {
        name: String,
        suggestion: Option<String>,
    },
    #[error("duplicate flag specified: --{0}")]
    DuplicateFlag(String),
    #[error("missing a value on flag: --{0}")]
    FlagWithoutValue(String),
    #[error("expecting boolean value for flag --{0}, not: {1}")]
    FlagNotBoolean(String, String),

    // Mounts, network, security of RUN.
    #[error("failed to parse csv mounts: {0}")]
    MountCsv(String),
    #[error("unsupported mount type {value}{}", did_you_mean(.suggestion))]
    MountType {
        value: String,
        suggestion: Option<String>,
    },
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    MountKeyForType { key: String, kind: &'static str },
    #[error("invalid field '{0}' must be a key=value pair")]
    MountField(String),
    #[error("'{0}' doesn't support variable expansion, define alias stage instead")]
    MountVariable(String),
    #[error("invalid value for {0}: {1}")]
    MountValue(String, String),
    #[error("unsupported sharing value {value}{}", did_you_mean(.suggestion))]
    MountSharing {
        value: String,
        suggestion: Option<String>,
    },
    #[error("invalid value {0} for {1}")]
    MountNumber(String, &'static str),
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(.suggestion))]
    MountKey {
        key: String,
        field: String,
        suggestion: Option<String>,
    },
    #[error("{0} not allowed for \"{1}\" type mounts")]
    MountOwner(&'static str, &'static str),
    #[error("secret mount should not have a from")]
    SecretFrom,
    #[error("secret mount should not define sharing")]
    SecretSharing,
    #[error("invalid secret mount. one of source, target required")]
    SecretUnnamed,
    #[error("both source and id can't be set")]
    SecretTwoNames,
    #[error("invalid cache sharing set for {0} mount")]
    SharingNotCache(&'static str),
    #[error("invalid network mode {0}")]
    NetworkMode(String),
    #[error("security {0} is not valid")]
    Security(String),
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|word| format!(" (did you mean {word}?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_marks_the_lines() {
        assert_eq!(
            excerpt(
                "Dockerfile",
                "FROM a\n\nFOO x\nRUN y\n",
                Lines { first: 3, last: 3 }
            ),
            "Dockerfile:3\n--------------------\n   1 |     FROM a\n   2 |     \n   3 | >>> FOO x\n   4 |     RUN y\n\
             --------------------\n"
        );
    }
}
