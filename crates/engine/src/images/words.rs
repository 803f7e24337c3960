//! Words of Dockerfile instructions: quotes, escapes and variables (BuildKit `frontend/dockerfile/shell`).

use std::iter::Peekable;
use std::str::Chars;

/// A word that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordError {
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    Quote(&'static str),
    #[error("syntax error: missing '}}'")]
    Brace,
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    #[error("{0}")]
    Required(String),
}

/// Replaces variables and removes quotes; `env` has `KEY=value` entries.
pub(super) fn expand(word: &str, env: &[String]) -> Result<String, WordError> {
    let mut reader = Expander {
        chars: word.chars().peekable(),
        env,
    };
    reader.until(None)
}

struct Expander<'a> {
    chars: Peekable<Chars<'a>>,
    env: &'a [String],
}

impl Expander<'_> {
    /// Reads up to `end`, which is consumed, or to the end of the text.
    fn until(&mut self, end: Option<char>) -> Result<String, WordError> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                _ if Some(c) == end => return Ok(out),
                '\'' => self.single(&mut out)?,
                '"' => self.double(&mut out)?,
                '$' => self.variable(&mut out)?,
                // A backslash at the very end stands for nothing.
                '\\' => out.extend(self.chars.next()),
                c => out.push(c),
            }
        }
        if end.is_some() {
            Err(WordError::Brace)
        } else {
            Ok(out)
        }
    }

    fn single(&mut self, out: &mut String) -> Result<(), WordError> {
        for c in self.chars.by_ref() {
            match c {
                '\'' => return Ok(()),
                c => out.push(c),
            }
        }
        Err(WordError::Quote("single"))
    }

    fn double(&mut self, out: &mut String) -> Result<(), WordError> {
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return Ok(()),
                '$' => self.variable(out)?,
                '\\' => match self.chars.next() {
                    Some(c @ ('"' | '$' | '\\')) => out.push(c),
                    Some(c) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err(WordError::Quote("double"))
    }

    fn variable(&mut self, out: &mut String) -> Result<(), WordError> {
        if self.chars.next_if_eq(&'{').is_some() {
            return self.braced(out);
        }
        let name = self.name();
        if name.is_empty() {
            out.push('$');
        }
        out.push_str(self.value(&name).unwrap_or_default());
        Ok(())
    }

    /// `${NAME}`, `${NAME:-word}`, `${NAME-word}`, `${NAME:+word}`, `${NAME+word}`, `${NAME:?word}`, `${NAME?word}`.
    fn braced(&mut self, out: &mut String) -> Result<(), WordError> {
        let name = self.name();
        if self.chars.next_if_eq(&'}').is_some() {
            out.push_str(self.value(&name).unwrap_or_default());
            return Ok(());
        }
        let colon = self.chars.next_if_eq(&':').is_some();
        let Some(modifier) = self.chars.next() else {
            return Err(WordError::Brace);
        };
        let word = self.until(Some('}'))?;
        let value = self
            .value(&name)
            .filter(|value| !(colon && value.is_empty()));
        match (modifier, value) {
            ('-' | '?', Some(value)) => out.push_str(value),
            ('-', None) | ('+', Some(_)) => out.push_str(&word),
            ('+', None) => {}
            ('?', None) if word.is_empty() => {
                return Err(WordError::Required(format!(
                    "{name}: is not allowed to be empty"
                )));
            }
            ('?', None) => return Err(WordError::Required(format!("{name}: {word}"))),
            (other, _) => return Err(WordError::Modifier(other.to_string())),
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self
            .chars
            .next_if(|c| c.is_ascii_alphanumeric() || *c == '_')
        {
            name.push(c);
        }
        name
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut entries = self.env.iter().filter_map(|entry| entry.split_once('='));
        entries
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// Splits at blanks outside quotes; quotes and escapes stay.
pub(super) fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            // Inside single quotes a backslash is a backslash.
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_a_dockerfile_does() {
        let env = ["A=1".to_owned(), "EMPTY=".to_owned(), "P=/x y".to_owned()];
        let check = |word: &str, expected: &str| {
            assert_eq!(expand(word, &env).as_deref(), Ok(expected), "{word}")
        };
        check("plain", "plain");
        check("$A-${A}", "1-1");
        check("'$A'", "$A");
        check("\"$P\"z", "/x yz");
        check("\\$A", "$A");
        check("${B:-def}", "def");
        check("${EMPTY:-def}${EMPTY-no}", "def");
        check("${A:+yes}${B:+no}", "yes");
        check("${B:-${A}}", "1");
        check("\"a\\\"b\\n\"", "a\"b\\n");
        check("$", "$");
        assert_eq!(expand("'a", &env), Err(WordError::Quote("single")));
        assert_eq!(expand("${A", &env), Err(WordError::Brace));
        assert_eq!(
            expand("${B:?no b}", &env),
            Err(WordError::Required("B: no b".into()))
        );
    }

    #[test]
    fn splits_outside_quotes() {
        assert_eq!(
            split(r#"a="b c" d\ e 'f g'h"#),
            [r#"a="b c""#, r"d\ e", "'f g'h"]
        );
        assert_eq!(split("  "), Vec::<String>::new());
    }
}
