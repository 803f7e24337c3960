//! `.dockerignore`, and the patterns of `--exclude`.
//!
//! One pattern a line; `!` takes back; the last line that matches decides; a directory that matches takes all below it along.

mod pattern;

pub(crate) use pattern::Pattern;

use crate::path::clean;

/// Patterns in order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    has_exceptions: bool,
}

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `!` alone.
    #[error("illegal exclusion pattern: \"!\"")]
    BareException,
    /// Brackets or escapes that do not close.
    #[error("syntax error in pattern")]
    Syntax,
}

impl Patterns {
    /// Reads a `.dockerignore` file.
    pub fn parse_file(text: &str) -> Result<Patterns, PatternError> {
        Patterns::new(&file_lines(text))
    }

    /// Takes patterns one by one.
    pub fn new(patterns: &[String]) -> Result<Patterns, PatternError> {
        let mut found = Patterns::default();
        for text in patterns {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let pattern = Pattern::parse(&clean(text))?;
            found.has_exceptions |= pattern.exception;
            found.patterns.push(pattern);
        }
        Ok(found)
    }

    /// Whether a path, relative and clean, is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for pattern in &self.patterns {
            // A pattern can only change the answer.
            if pattern.exception == excluded && pattern.matches_or_parent(path) {
                excluded = !pattern.exception;
            }
        }
        excluded
    }

    /// Whether something below a directory that is left out could still be taken back.
    pub fn may_take_back_below(&self, directory: &str) -> bool {
        let prefix = format!("{directory}/");
        self.patterns
            .iter()
            .filter(|pattern| pattern.exception)
            .any(|pattern| pattern.may_match_below(&prefix))
    }

    /// Whether any pattern takes back.
    pub fn has_exceptions(&self) -> bool {
        self.has_exceptions
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether one pattern takes out all of the root.
    pub fn excludes_all(&self) -> bool {
        self.patterns
            .iter()
            .any(|pattern| !pattern.exception && matches!(pattern.text(), "*" | "**" | "**/*"))
    }
}

/// Lines of the file as patterns.
pub fn file_lines(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| match line.strip_prefix('!') {
            Some(rest) => format!("!{}", normal(rest.trim())),
            None => normal(line),
        })
        .collect()
}

fn normal(pattern: &str) -> String {
    if pattern.is_empty() {
        return String::new();
    }
    let cleaned = clean(pattern);
    match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => cleaned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_match_decides() {
        let file = "# comment\n\n*.md\n!README.md\n/build\n  spaced  \ndocs/**\n!docs/keep\n";
        let patterns = Patterns::parse_file(file).expect("patterns");
        let rows = [
            ("a.md", true),
            ("README.md", false),
            ("sub/a.md", false),
            ("build", true),
            ("build/x/y", true),
            ("sub/build", false),
            ("spaced", true),
            ("docs", false),
            ("docs/a", true),
            ("docs/keep", false),
            ("docs/keep/b", false),
        ];
        for (path, excluded) in rows {
            assert_eq!(patterns.excludes(path), excluded, "{path}");
        }
        assert!(patterns.may_take_back_below("docs"));
        assert!(!patterns.may_take_back_below("build"));
    }

    #[test]
    fn wildcards() {
        let rows = [
            ("**", "a/b", true),
            ("**/foo", "foo", true),
            ("**/foo", "a/b/foo", true),
            ("**/foo", "a/xfoo", false),
            ("foo/**", "foo/a", true),
            ("foo/**", "foo", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/*/b", "a/x/y/b", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("a.b", "aXb", false),
            ("*", "a", true),
            ("./a", "a", true),
            ("a/../b", "b", true),
            ("(x)", "(x)", true),
            ("**/*.go", "a/b/c.go", true),
            ("**/*.go", "c.go", true),
            (".", "a", false),
            ("ä?", "äö", true),
        ];
        for (pattern, path, excluded) in rows {
            let patterns = Patterns::new(&[pattern.to_owned()]).expect(pattern);
            assert_eq!(patterns.excludes(path), excluded, "{pattern} {path}");
        }
    }

    #[test]
    fn bad_patterns() {
        for (pattern, error) in [
            ("!", PatternError::BareException),
            ("[", PatternError::Syntax),
            ("[]", PatternError::Syntax),
            ("[a", PatternError::Syntax),
            ("a\\", PatternError::Syntax),
        ] {
            assert_eq!(
                Patterns::new(&[pattern.to_owned()]).map(|_| ()),
                Err(error),
                "{pattern}"
            );
        }
    }

    #[test]
    fn excluded_directories_are_searched_when_needed() {
        for (exception, directory, needed) in [
            ("!a/b/c", "a", true),
            ("!a/b/c", "a/b", true),
            ("!a/b/c", "x", false),
            ("!*/keep", "a", true),
            ("!**/keep", "a/b", true),
            ("!a", "a", true),
        ] {
            let patterns =
                Patterns::new(&["*".to_owned(), exception.to_owned()]).expect("patterns");
            assert_eq!(
                patterns.may_take_back_below(directory),
                needed,
                "{exception} {directory}"
            );
        }
    }
}
