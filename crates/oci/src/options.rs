//! Command lines as runc takes them: `--name value`, `--name=value`, one dash as good as two, flags before arguments.

use std::ffi::OsString;

use crate::failure::Failure;

/// One flag a command knows.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// One letter for it, or none.
    pub short: Option<char>,
    /// What its value is called in the help; `None` for a switch.
    pub value: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// A switch.
pub const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        value: None,
        help,
    }
}

/// A flag with a value.
pub const fn valued(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        value: Some(value),
        help,
    }
}

impl Flag {
    /// With a letter.
    pub const fn short(self, letter: char) -> Flag {
        Flag {
            short: Some(letter),
            ..self
        }
    }
}

/// What was typed.
#[derive(Debug, Default)]
pub struct Parsed {
    values: Vec<(&'static str, String)>,
    /// What is not a flag.
    pub args: Vec<String>,
    /// `--help` was among the flags.
    pub help: bool,
}

impl Parsed {
    /// A switch is on.
    pub fn on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|v| v != "false")
    }

    /// The last value given.
    pub fn text(&self, name: &str) -> Option<&str> {
        let mut given = self.values.iter().rev();
        given.find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Every value given, in order.
    pub fn list<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(n, _)| *n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Failure::usage(format!("invalid value {text:?} for flag -{name}")))
        };
        self.text(name).map(parse).transpose()
    }

    /// The only argument: a container's id.
    pub fn id(&self, command: &str) -> Result<&str, Failure> {
        match self.args.as_slice() {
            [id] => Ok(id),
            _ => Err(Failure::usage(format!(
                "{command}: exactly 1 argument required, the container's ID"
            ))),
        }
    }
}

/// Reads flags up to the first argument; `interspersed` goes on behind it.
pub fn parse(
    flags: &[Flag],
    words: impl Iterator<Item = OsString>,
    interspersed: bool,
) -> Result<(Parsed, Vec<OsString>), Failure> {
    let mut parsed = Parsed::default();
    let mut words = words;
    while let Some(word) = words.next() {
        let text = utf8(&word)?;
        if text == "--" {
            break;
        }
        if !text.starts_with('-') || text == "-" {
            if !interspersed {
                return Ok((parsed, std::iter::once(word).chain(words).collect()));
            }
            parsed.args.push(text);
            continue;
        }
        let name = text.trim_start_matches('-');
        let (name, inline) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (name, None),
        };
        if matches!(name, "h" | "help") {
            parsed.help = true;
            continue;
        }
        let flag = find(flags, name)
            .ok_or_else(|| Failure::usage(format!("flag provided but not defined: -{name}")))?;
        let value = match (flag.value, inline) {
            (_, Some(value)) => value,
            (None, None) => "true".into(),
            (Some(_), None) => utf8(
                &words
                    .next()
                    .ok_or_else(|| Failure::usage(format!("flag needs an argument: -{name}")))?,
            )?,
        };
        parsed.values.push((flag.name, value));
    }
    Ok((parsed, words.collect()))
}

fn find(flags: &[Flag], name: &str) -> Option<Flag> {
    let is_it = |f: &&Flag| f.name == name || f.short.is_some_and(|s| name == s.to_string());
    flags.iter().find(is_it).copied()
}

fn utf8(word: &OsString) -> Result<String, Failure> {
    word.to_str()
        .map(String::from)
        .ok_or_else(|| Failure::usage(format!("{word:?} is not valid UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 3] = [
        switch("force", "").short('f'),
        valued("bundle", "DIR", "").short('b'),
        valued("env", "K=V", "").short('e'),
    ];

    fn read(line: &str, interspersed: bool) -> Result<(Parsed, Vec<OsString>), Failure> {
        parse(
            &FLAGS,
            line.split_whitespace().map(OsString::from),
            interspersed,
        )
    }

    #[test]
    fn dashes_and_values() {
        let (parsed, rest) =
            read("-force --bundle=/x -e A=1 --env B=2 id sh -c", false).expect("ok");
        assert!(parsed.on("force"));
        assert_eq!(parsed.text("bundle"), Some("/x"));
        assert_eq!(parsed.list("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(rest, ["id", "sh", "-c"]);
        let (parsed, _) = read("id -f -b /y", true).expect("ok");
        assert_eq!(parsed.args, ["id"]);
        assert!(parsed.on("force"));
        let (parsed, _) = read("--force=false", true).expect("ok");
        assert!(!parsed.on("force"));
    }

    #[test]
    fn mistakes_are_named() {
        for line in ["--nope", "--bundle"] {
            assert!(read(line, true).is_err(), "{line}");
        }
    }
}
