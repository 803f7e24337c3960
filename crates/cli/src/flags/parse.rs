//! From words to values, by the rules of the flag library that Docker's client uses (pflag): `--name value`,
//! `--name=value`, `-abc`, `-n5`, `-n=5`, `--` ends the flags. Its error texts are part of the interface.

use std::collections::HashMap;

use super::spec::{Arity, Check, Flag, Kind};

/// Why a command line is refused. The texts are pflag's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FlagError {
    /// `--nope`
    #[error("unknown flag: --{0}")]
    Unknown(String),
    /// `-z`
    #[error("unknown shorthand flag: '{0}' in -{1}")]
    UnknownShort(char, String),
    /// `--memory` at the end.
    #[error("flag needs an argument: --{0}")]
    NeedsArgument(String),
    /// `-m` at the end.
    #[error("flag needs an argument: '{0}' in -{1}")]
    ShortNeedsArgument(char, String),
    /// `--=x`
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A value of the wrong form.
    #[error("invalid argument {} for \"{flag}\" flag: {reason}", quote(.value))]
    Invalid {
        /// What was given.
        value: String,
        /// The flag as `-m, --memory`.
        flag: String,
        /// Why it does not fit.
        reason: String,
    },
}

pub use wharf_template::quote;

/// What was typed after the command's name.
#[derive(Debug, Default)]
pub struct Matches {
    values: HashMap<&'static str, Vec<String>>,
    /// The arguments that are not flags.
    pub args: Vec<String>,
    /// `--help` was among the flags.
    pub help: bool,
    /// The old `-h` was used for it.
    pub help_by_letter: bool,
}

impl Matches {
    /// Whether the flag was given at all.
    pub fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A switch: on if given and not `=false`.
    pub fn on(&self, name: &str) -> bool {
        self.on_or(name, false)
    }

    /// A switch with a default.
    pub fn on_or(&self, name: &str, default: bool) -> bool {
        self.text(name)
            .map_or(default, |value| parse_bool(value).unwrap_or(default))
    }

    /// The last value given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .and_then(|values| values.last())
            .map(String::as_str)
    }

    /// The last value given, or the empty text.
    pub fn text_or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// Every value given, in order.
    pub fn list(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// An integer, checked while parsing.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|value| parse_int(value).ok())
    }

    fn set(&mut self, flag: &'static Flag, value: &str) -> Result<(), FlagError> {
        check_value(flag, value)?;
        self.values
            .entry(flag.name)
            .or_default()
            .push(value.to_owned());
        Ok(())
    }
}

/// Reads flags and arguments.
///
/// # Errors
/// The first thing that does not fit.
pub fn parse(
    flags: &[&'static Flag],
    stop_at_first: bool,
    words: &[String],
) -> Result<Matches, FlagError> {
    let mut matches = Matches::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            matches.args.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            parse_long(flags, long, &mut rest, &mut matches)?;
        } else if word.len() > 1 && word.starts_with('-') {
            parse_letters(flags, &word[1..], &mut rest, &mut matches)?;
        } else if stop_at_first {
            matches.args.push(word.clone());
            matches.args.extend(rest.by_ref().cloned());
        } else {
            matches.args.push(word.clone());
        }
    }
    Ok(matches)
}

fn parse_long(
    flags: &[&'static Flag],
    word: &str,
    rest: &mut std::slice::Iter<'_, String>,
    matches: &mut Matches,
) -> Result<(), FlagError> {
    if word.starts_with('-') || word.starts_with('=') {
        return Err(FlagError::Syntax(format!("--{word}")));
    }
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
        if name == "help" {
            let value = value.unwrap_or("true");
            matches.help = parse_bool(value).map_err(|reason| FlagError::Invalid {
                value: value.to_owned(),
                flag: "--help".to_owned(),
                reason,
            })?;
            return Ok(());
        }
        return Err(FlagError::Unknown(name.to_owned()));
    };
    match (value, flag.kind) {
        (Some(value), _) => matches.set(flag, value),
        (None, Kind::Bool) => matches.set(flag, "true"),
        (None, _) => {
            let value = rest
                .next()
                .ok_or_else(|| FlagError::NeedsArgument(name.to_owned()))?;
            matches.set(flag, value)
        }
    }
}

fn parse_letters(
    flags: &[&'static Flag],
    letters: &str,
    rest: &mut std::slice::Iter<'_, String>,
    matches: &mut Matches,
) -> Result<(), FlagError> {
    let mut chars = letters.chars();
    while let Some(letter) = chars.next() {
        let after = chars.as_str();
        let Some(flag) = flags.iter().find(|flag| flag.short == Some(letter)) else {
            if letter == 'h' {
                matches.help = true;
                matches.help_by_letter = true;
                return Ok(());
            }
            return Err(FlagError::UnknownShort(letter, format!("{letter}{after}")));
        };
        if let Some(value) = after.strip_prefix('=') {
            return matches.set(flag, value);
        }
        if flag.kind == Kind::Bool {
            matches.set(flag, "true")?;
            continue;
        }
        if !after.is_empty() {
            return matches.set(flag, after);
        }
        let value = rest
            .next()
            .ok_or_else(|| FlagError::ShortNeedsArgument(letter, letter.to_string()))?;
        return matches.set(flag, value);
    }
    Ok(())
}

fn check_value(flag: &Flag, value: &str) -> Result<(), FlagError> {
    let kind: Check = match flag.kind {
        Kind::Bool => |value| parse_bool(value).map(drop),
        Kind::Int => |value| parse_int(value).map(drop),
        Kind::Text | Kind::List => |_| Ok(()),
    };
    kind(value)
        .and_then(|()| flag.check.map_or(Ok(()), |check| check(value)))
        .map_err(|reason| invalid(flag, value, reason))
}

/// The refusal of a flag's value.
pub fn invalid(flag: &Flag, value: &str, reason: String) -> FlagError {
    let shown = match flag.short {
        Some(letter) => format!("-{letter}, --{}", flag.name),
        None => format!("--{}", flag.name),
    };
    FlagError::Invalid {
        value: value.to_owned(),
        flag: shown,
        reason,
    }
}

/// The words Go's `strconv.ParseBool` takes.
fn parse_bool(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            quote(value)
        )),
    }
}

/// Go's `strconv.ParseInt(value, 0, 64)`, with the prefixes `0x`, `0o`, `0b` and `0`.
fn parse_int(value: &str) -> Result<i64, String> {
    let error = |what: &str| format!("strconv.ParseInt: parsing {}: {what}", quote(value));
    let (negative, digits) = match value.as_bytes().first() {
        Some(b'-') => (true, &value[1..]),
        Some(b'+') => (false, &value[1..]),
        _ => (false, value),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = if let Some(body) = lower.strip_prefix("0x") {
        (16, body)
    } else if let Some(body) = lower.strip_prefix("0b") {
        (2, body)
    } else if let Some(body) = lower.strip_prefix("0o") {
        (8, body)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if body.is_empty() || !body.chars().all(|c| c.is_digit(radix)) {
        return Err(error("invalid syntax"));
    }
    let signed = if negative {
        format!("-{body}")
    } else {
        body.to_owned()
    };
    i64::from_str_radix(&signed, radix).map_err(|_| error("value out of range"))
}

/// Refuses a wrong number of arguments; the text says what the command wants, without the command's name.
pub fn check_arity(arity: Arity, n: usize) -> Result<(), String> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    match arity {
        Arity::None if n > 0 => Err("accepts no arguments".into()),
        Arity::Exactly(want) if n != want => Err(format!("requires {want} {}", plural(want))),
        Arity::AtLeast(want) if n < want => {
            Err(format!("requires at least {want} {}", plural(want)))
        }
        Arity::AtMost(want) if n > want => Err(format!("requires at most {want} {}", plural(want))),
        Arity::Between(low, high) if n < low || n > high => Err(format!(
            "requires at least {low} and at most {high} {}",
            plural(high)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{int, list, switch, text};
    use super::*;

    static FLAGS: [Flag; 6] = [
        switch("rm", "").short('r'),
        switch("tty", "").short('t'),
        switch("interactive", "").short('i'),
        list("publish", "").short('p'),
        int("number", "").short('n'),
        text("name", ""),
    ];

    fn run(words: &[&str], stop: bool) -> Result<Matches, FlagError> {
        let flags: Vec<&'static Flag> = FLAGS.iter().collect();
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        parse(&flags, stop, &words)
    }

    #[test]
    fn takes_every_spelling_of_a_value() {
        for words in [
            &["-it", "-p80:80", "--name", "a", "x"][..],
            &["-i", "-t=true", "-p=80:80", "--name=a", "x"],
            &["-tip", "80:80", "--name", "b", "--name=a", "x"],
            &[
                "--interactive",
                "--tty=1",
                "--publish",
                "80:80",
                "x",
                "--name=a",
            ],
        ] {
            let m = run(words, false).expect("fits");
            assert!(
                m.on("tty") && m.on("interactive") && !m.on("rm"),
                "{words:?}"
            );
            assert_eq!(m.list("publish"), ["80:80"], "{words:?}");
            assert_eq!(m.text("name"), Some("a"), "{words:?}");
            assert_eq!(m.args, ["x"], "{words:?}");
        }
    }

    #[test]
    fn first_argument_ends_flags_of_run() {
        let m = run(&["--rm", "image", "sh", "-t", "--", "--name"], true).expect("fits");
        assert_eq!(m.args, ["image", "sh", "-t", "--", "--name"]);
        assert!(!m.on("tty"));
        let m = run(&["--rm", "--", "-t"], true).expect("fits");
        assert_eq!(m.args, ["-t"]);
    }

    #[test]
    fn refuses_in_the_words_scripts_know() {
        for (words, expected) in [
            (&["--foo"][..], "unknown flag: --foo"),
            (&["-z"], "unknown shorthand flag: 'z' in -z"),
            (&["-tz"], "unknown shorthand flag: 'z' in -z"),
            (&["--name"], "flag needs an argument: --name"),
            (&["-p"], "flag needs an argument: 'p' in -p"),
            (&["--=x"], "bad flag syntax: --=x"),
            (
                &["--rm=maybe"],
                "invalid argument \"maybe\" for \"-r, --rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                &["-n", "abc"],
                "invalid argument \"abc\" for \"-n, --number\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax",
            ),
        ] {
            assert_eq!(
                run(words, false).expect_err("refused").to_string(),
                expected
            );
        }
    }

    #[test]
    fn integers_as_go_reads_them() {
        for (given, expected) in [
            ("10", Some(10)),
            ("-1", Some(-1)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("", None),
        ] {
            assert_eq!(parse_int(given).ok(), expected, "{given}");
        }
    }

    #[test]
    fn arity_in_the_words_of_the_client() {
        assert_eq!(
            check_arity(Arity::AtLeast(1), 0),
            Err("requires at least 1 argument".into())
        );
        assert_eq!(
            check_arity(Arity::Exactly(2), 1),
            Err("requires 2 arguments".into())
        );
        assert_eq!(
            check_arity(Arity::None, 1),
            Err("accepts no arguments".into())
        );
        assert_eq!(check_arity(Arity::AtLeast(1), 3), Ok(()));
    }
}
