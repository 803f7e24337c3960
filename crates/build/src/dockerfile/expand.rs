//! Variables and quotes, resolved: `$v`, `${v}`, `${v:-w}`, `-`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/`, `//`.
//!
//! The grammar is the frontend's, a part of POSIX shell's word expansion; section numbers in comments are of POSIX.1-2017, volume XCU.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use super::glob::Glob;

/// Where values come from.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What to do with quotes, escapes and unset variables.
#[derive(Debug, Clone, Copy)]
pub struct Expander {
    /// The escape character.
    pub escape: char,
    /// Leave quotes in the result.
    pub keep_quotes: bool,
    /// Leave escape characters in the result.
    pub keep_escapes: bool,
    /// Leave references to unset variables as they are.
    pub keep_unset: bool,
    /// Quotes are ordinary characters (in here-documents).
    pub ignore_quotes: bool,
}

/// A text after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// As one word.
    pub word: String,
    /// Cut at blanks that are not quoted.
    pub words: Vec<String>,
    /// Variables that were looked up and set.
    pub used: BTreeSet<String>,
    /// Variables that were looked up and not set.
    pub unset: BTreeSet<String>,
}

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {source_text}: {reason}")]
pub struct ExpandError {
    source_text: String,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    #[error("syntax error: missing '{0}'")]
    Missing(&'static str),
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern { pattern: String, reason: String },
    #[error("{name}: {message}")]
    Demanded { name: String, message: String },
    #[error("nested too deeply")]
    Depth,
}

/// How deep `${a:-${b:-…}}` may go.
const MAX_DEPTH: usize = 100;

impl Expander {
    /// Expands instructions' arguments.
    pub fn new(escape: char) -> Expander {
        Expander {
            escape,
            keep_quotes: false,
            keep_escapes: false,
            keep_unset: false,
            ignore_quotes: false,
        }
    }

    /// Expands contents of here-documents: quotes and backslashes before other characters stay.
    pub fn heredoc(escape: char) -> Expander {
        Expander {
            keep_quotes: true,
            keep_escapes: false,
            ignore_quotes: true,
            ..Expander::new(escape)
        }
    }

    /// The text with variables replaced.
    pub fn expand(&self, text: &str, lookup: Lookup<'_>) -> Result<Expansion, ExpandError> {
        let mut run = Run {
            options: *self,
            chars: text.chars().peekable(),
            lookup,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
            depth: 0,
        };
        let (word, words) = run
            .until(None, self.keep_escapes)
            .map_err(|reason| ExpandError {
                source_text: quote(text),
                reason,
            })?;
        Ok(Expansion {
            word,
            words,
            used: run.used,
            unset: run.unset,
        })
    }

    /// Only the word.
    pub fn word(&self, text: &str, lookup: Lookup<'_>) -> Result<String, ExpandError> {
        self.expand(text, lookup).map(|expansion| expansion.word)
    }
}

/// A string in double quotes, as Go's `%q` writes it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Words as they grow: blanks end a word, unless they are quoted.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Run<'a> {
    options: Expander,
    chars: Peekable<Chars<'a>>,
    lookup: Lookup<'a>,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
    depth: usize,
}

impl Run<'_> {
    /// Expands up to `stop`, which is consumed, or to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>), Reason> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Reason::Depth);
        }
        let outer = std::mem::replace(&mut self.options.keep_escapes, keep_escapes);
        let result = self.run_until(stop);
        self.options.keep_escapes = outer;
        self.depth -= 1;
        result
    }

    fn run_until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), Reason> {
        let mut word = String::new();
        let mut words = Words::default();
        while let Some(c) = self.chars.next() {
            if stop == Some(c) {
                return Ok((word, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    word.push_str(&value);
                    value.chars().for_each(|c| words.push(c));
                }
                '<' if self.chars.peek() == Some(&'<') => {
                    // Blanks between `<<` and the name of a here-document do not part them.
                    let mut marker = String::from("<");
                    marker.extend(self.chars.next());
                    while let Some(blank) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                        marker.push(blank);
                    }
                    word.push_str(&marker);
                    words.current.push_str(&marker);
                }
                '\'' | '"' if !self.options.ignore_quotes => {
                    let text = if c == '"' {
                        self.double_quoted()?
                    } else {
                        self.single_quoted()?
                    };
                    word.push_str(&text);
                    words.current.push_str(&text);
                }
                c if c == self.options.escape => {
                    if self.options.keep_escapes {
                        word.push(c);
                        words.current.push(c);
                    }
                    let Some(next) = self.chars.next() else { break };
                    word.push(next);
                    words.current.push(next);
                }
                c => {
                    word.push(c);
                    words.push(c);
                }
            }
        }
        match stop {
            Some('/') => Err(Reason::Unclosed("/")),
            Some(_) => Err(Reason::Unclosed("}")),
            None => Ok((word, words.finish())),
        }
    }

    /// 2.2.2: nothing is special but the closing quote.
    fn single_quoted(&mut self) -> Result<String, Reason> {
        let mut text = String::new();
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(self.quoted(text, '\''));
            }
            text.push(c);
        }
        Err(Reason::Unclosed("single-quote"))
    }

    /// 2.2.3: `$` is special, and the escape character before `"`, `$` and itself.
    fn double_quoted(&mut self) -> Result<String, Reason> {
        let mut text = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return Ok(self.quoted(text, '"')),
                '$' => text.push_str(&self.dollar()?),
                c if c == self.options.escape => {
                    if self.options.keep_escapes {
                        text.push(c);
                    }
                    let escape = self.options.escape;
                    match self
                        .chars
                        .next_if(|c| *c == '"' || *c == '$' || *c == escape)
                    {
                        Some(escaped) => text.push(escaped),
                        None if self.chars.peek().is_none() => {}
                        None => text.push(c),
                    }
                }
                c => text.push(c),
            }
        }
        Err(Reason::Unclosed("double-quote"))
    }

    fn quoted(&self, text: String, quote: char) -> String {
        if self.options.keep_quotes {
            format!("{quote}{text}{quote}")
        } else {
            text
        }
    }

    /// After a `$`.
    fn dollar(&mut self) -> Result<String, Reason> {
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(&name) {
                None if self.options.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.chars.next();
        match self.chars.peek() {
            None => return Err(Reason::Missing("}")),
            Some('{' | '}' | ':') => return Err(Reason::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            Some('}') => Ok(match self.value(&name) {
                None if self.options.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => {
                let operator = self.chars.next();
                match operator {
                    Some(operator @ ('-' | '+' | '?')) => self.modified(&name, operator, true),
                    other => Err(Reason::Modifier(format!(
                        ":{}",
                        other.unwrap_or(char::REPLACEMENT_CHARACTER)
                    ))),
                }
            }
            Some(operator @ ('-' | '+' | '?')) => self.modified(&name, operator, false),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator),
            Some('/') => self.replaced(&name),
            other => Err(Reason::Modifier(
                other.unwrap_or(char::REPLACEMENT_CHARACTER).to_string(),
            )),
        }
    }

    /// 2.6.2, `-`, `+` and `?`, with `:` if an empty value counts as none.
    fn modified(&mut self, name: &str, operator: char, colon: bool) -> Result<String, Reason> {
        let word = self.operand('}', false)?;
        let value = self.value(name);
        if self.options.keep_unset && value.is_none() {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let unset = value.is_none();
        let present = value.filter(|value| !(colon && value.is_empty()));
        match operator {
            '-' => Ok(present.unwrap_or(word)),
            '+' => Ok(present.map(|_| word).unwrap_or_default()),
            _ => present.ok_or_else(|| Reason::Demanded {
                name: name.to_owned(),
                message: match (word.is_empty(), unset) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be unset".to_owned(),
                    (true, false) => "is not allowed to be empty".to_owned(),
                },
            }),
        }
    }

    /// 2.6.2, `#`, `##`, `%`, `%%`.
    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, Reason> {
        let word = self.operand('}', true)?;
        let Some(value) = self.value(name) else {
            if self.options.keep_unset {
                return Ok(format!("${{{name}{operator}{word}}}"));
            }
            return Ok(String::new());
        };
        let (pattern, longest) = match word.strip_prefix(operator) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        let glob = parse_glob(pattern)?;
        Ok(if operator == '#' {
            glob.trim_prefix(&value, longest)
        } else {
            glob.trim_suffix(&value, longest)
        })
    }

    /// `${name/pattern/text}` replaces the first match, `//` every one (not in POSIX; as in bash).
    fn replaced(&mut self, name: &str) -> Result<String, Reason> {
        let every = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.operand('/', true)?;
        let text = self.operand('}', true)?;
        let Some(value) = self.value(name) else {
            if self.options.keep_unset {
                return Ok(format!("${{{name}/{pattern}/{text}}}"));
            }
            return Ok(String::new());
        };
        Ok(parse_glob(&pattern)?.replace(&value, &text, every))
    }

    fn operand(&mut self, stop: char, keep_escapes: bool) -> Result<String, Reason> {
        match self.until(Some(stop), keep_escapes) {
            Ok((word, _)) => Ok(word),
            Err(_) if self.chars.peek().is_none() && stop == '/' => Err(Reason::MissingSlash),
            Err(_) if self.chars.peek().is_none() => Err(Reason::Missing("}")),
            Err(reason) => Err(reason),
        }
    }

    /// Letters, digits and `_`; or digits alone; or one of the special parameters (2.5.2).
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(digit) = self.chars.next_if(|c| c.is_numeric()) {
                    name.push(digit);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let seen = match value {
            Some(_) => &mut self.used,
            None => &mut self.unset,
        };
        seen.insert(name.to_owned());
        value
    }
}

fn parse_glob(pattern: &str) -> Result<Glob, Reason> {
    Glob::parse(pattern).map_err(|reason| Reason::Pattern {
        pattern: pattern.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "HOME" => "/root",
            "EMPTY" => "",
            "PORTS" => "80 443",
            "FILE" => "a/b/c.tar.gz",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn words_are_expanded() {
        let rows: &[(&str, Option<&str>)] = &[
            ("plain", Some("plain")),
            ("pl'ai'n", Some("plain")),
            ("pl'ain", None),
            (r"pl\'ain", Some("pl'ain")),
            (r"a\tb", Some("atb")),
            (r#""a\tb""#, Some(r"a\tb")),
            (r#""a\\tb""#, Some(r"a\tb")),
            (r"'a\tb'", Some(r"a\tb")),
            (r"end\", Some("end")),
            (r"end\\", Some(r"end\")),
            ("\"open", None),
            ("x$HOME", Some("x/root")),
            (r"x\$HOME", Some("x$HOME")),
            ("'$HOME'", Some("$HOME")),
            ("\"'$HOME'\"", Some("'/root'")),
            ("$.", Some("$.")),
            ("a$1b", Some("ab")),
            ("$@@", Some("@")),
            ("${}", None),
            ("${.}", None),
            ("${HOME", None),
            ("${HOME}x", Some("/rootx")),
            ("${NONE:-d}", Some("d")),
            ("${NONE:-$HOME}", Some("/root")),
            ("${NONE:-${ALSO:-d}}", Some("d")),
            ("${EMPTY:-d}", Some("d")),
            ("${EMPTY-d}", Some("")),
            ("${NONE-d}", Some("d")),
            ("${EMPTY:+d}", Some("")),
            ("${EMPTY+d}", Some("d")),
            ("${HOME:+d}", Some("d")),
            ("${NONE+d}", Some("")),
            ("${NONE?}", None),
            ("${NONE:?}", None),
            ("${EMPTY:?}", None),
            ("${EMPTY?}", Some("")),
            ("${HOME:?}", Some("/root")),
            ("${HOME:=x}", None),
            ("${HOME:x}", None),
            ("${FILE#*/}", Some("b/c.tar.gz")),
            ("${FILE##*/}", Some("c.tar.gz")),
            ("${FILE%.*}", Some("a/b/c.tar")),
            ("${FILE%%.*}", Some("a/b/c")),
            (r"${FILE/\//-}", Some("a-b/c.tar.gz")),
            (r"${FILE//\//-}", Some("a-b-c.tar.gz")),
            ("${FILE/b}", None),
            ("${aaa}}", Some("}")),
            ("${{aaa}", None),
            ("${NONE:-{x}", Some("{x")),
        ];
        for (text, expected) in rows {
            let got = Expander::new('\\').word(text, &lookup);
            assert_eq!(got.ok().as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn errors_name_the_text() {
        let rows = [
            (
                "${NONE:?}",
                "failed to process \"${NONE:?}\": NONE: is not allowed to be unset",
            ),
            (
                "${EMPTY:?}",
                "failed to process \"${EMPTY:?}\": EMPTY: is not allowed to be empty",
            ),
            (
                "${NONE:?say it}",
                "failed to process \"${NONE:?say it}\": NONE: say it",
            ),
            (
                "${HOME:x}",
                "failed to process \"${HOME:x}\": unsupported modifier (:x) in substitution",
            ),
            (
                "${}",
                "failed to process \"${}\": syntax error: bad substitution",
            ),
            (
                "${HOME:-x",
                "failed to process \"${HOME:-x\": syntax error: missing '}'",
            ),
            (
                "'x",
                "failed to process \"'x\": unexpected end of statement while looking for matching single-quote",
            ),
        ];
        for (text, expected) in rows {
            let error = Expander::new('\\').word(text, &lookup).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn unquoted_values_are_cut_into_words() {
        let rows: &[(&str, &[&str])] = &[
            ("$PORTS", &["80", "443"]),
            ("\"$PORTS\"", &["80 443"]),
            ("8${NONE:-0}", &["80"]),
            (r"a\ b c", &["a b", "c"]),
            ("<< EOF x", &["<< EOF", "x"]),
        ];
        for (text, expected) in rows {
            let got = Expander::new('\\').expand(text, &lookup).expect(text);
            assert_eq!(got.words, *expected, "{text}");
        }
    }

    #[test]
    fn another_escape_character() {
        let got = Expander::new('`').word(r"C:\x `$HOME", &lookup);
        assert_eq!(got.as_deref(), Ok(r"C:\x $HOME"));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}{}", "${A:-".repeat(5000), "}".repeat(5000));
        assert!(Expander::new('\\').word(&deep, &lookup).is_err());
    }
}
