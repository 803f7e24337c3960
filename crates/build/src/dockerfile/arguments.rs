//! The arguments of an instruction, cut according to its name.

use super::error::Problem;
use super::expand::quote;
use super::node::{Node, node_from_line};
use super::{json, words};

/// Arguments after flags were taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arguments {
    /// Nothing there, or an unknown instruction.
    None,
    /// All of the line.
    Text(String),
    /// Separate words.
    Words(Vec<String>),
    /// A JSON array of strings.
    Json(Vec<String>),
    /// `key=value` or the old `key value`.
    Pairs(Vec<Pair>),
    /// Kind of a health check and its command.
    Health(String, Box<Arguments>),
    /// What `ONBUILD` is to do.
    Trigger(Box<Node>),
}

/// A key and its value, quotes still in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Before the `=`.
    pub key: String,
    /// After it.
    pub value: String,
    /// Written without `=`, in the old form.
    pub old_form: bool,
}

impl Pair {
    /// As it appears in an image's history: with `=`, whatever the form was.
    pub fn text(&self) -> String {
        format!("{}={}", self.key, self.value)
    }
}

impl Arguments {
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Arguments::Json(_) => true,
            Arguments::Health(_, command) => command.is_json(),
            _ => false,
        }
    }
}

/// Cuts `rest`, which has no blanks around it.
pub(crate) fn parse(keyword: &str, rest: &str, escape: char) -> Result<Arguments, Problem> {
    Ok(match keyword.to_ascii_lowercase().as_str() {
        "add" | "copy" | "volume" => match json::strings(rest)? {
            Some(list) => Arguments::Json(list),
            None => Arguments::Words(words::plain(rest)),
        },
        "cmd" | "entrypoint" | "run" | "shell" => text_or_json(rest)?,
        "expose" | "from" => Arguments::Words(words::plain(rest)),
        "maintainer" | "stopsignal" | "user" | "workdir" => text(rest),
        "arg" => Arguments::Words(words::quoted(rest, escape)),
        "env" => pairs("ENV", rest, escape)?,
        "label" => pairs("LABEL", rest, escape)?,
        "healthcheck" => health(rest)?,
        "onbuild" if rest.is_empty() => Arguments::None,
        "onbuild" => Arguments::Trigger(Box::new(node_from_line(rest, escape)?)),
        _ => Arguments::None,
    })
}

fn text(rest: &str) -> Arguments {
    if rest.is_empty() {
        Arguments::None
    } else {
        Arguments::Text(rest.to_owned())
    }
}

fn text_or_json(rest: &str) -> Result<Arguments, Problem> {
    Ok(match json::strings(rest)? {
        Some(list) => Arguments::Json(list),
        None => text(rest),
    })
}

fn health(rest: &str) -> Result<Arguments, Problem> {
    let at = rest.find(char::is_whitespace).unwrap_or(rest.len());
    if at == 0 {
        return Ok(Arguments::None);
    }
    let command = text_or_json(rest[at..].trim_start())?;
    Ok(Arguments::Health(rest[..at].to_owned(), Box::new(command)))
}

/// A space before the first `=` makes it the old form, in which the rest of the line is the value.
fn pairs(name: &'static str, rest: &str, escape: char) -> Result<Arguments, Problem> {
    let found = words::quoted(rest, escape);
    let Some(first) = found.first() else {
        return Ok(Arguments::None);
    };
    if !first.contains('=') {
        let (key, Some(value)) = words::split_first(rest) else {
            return Err(Problem::TwoArguments(name));
        };
        return Ok(Arguments::Pairs(vec![Pair {
            key: key.to_owned(),
            value: value.to_owned(),
            old_form: true,
        }]));
    }
    found
        .iter()
        .map(|word| {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| Problem::NoEquals(quote(word)))?;
            Ok(Pair {
                key: key.to_owned(),
                value: value.to_owned(),
                old_form: false,
            })
        })
        .collect::<Result<_, _>>()
        .map(Arguments::Pairs)
}
