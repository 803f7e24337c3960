//! One pattern: Go's `filepath.Match` and `**` for any number of directories.

use super::PatternError;

/// A pattern ready to match.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// Written with `!`.
    pub(crate) exception: bool,
    text: String,
    how: How,
}

/// Simple forms are compared as text, which is also what decides how `**` at an end of them is read.
#[derive(Debug, Clone)]
enum How {
    Exact,
    /// `text**`
    Prefix(String),
    /// `**text`
    Suffix(String),
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `**` before something: any directories, or none.
    Directories,
    /// `**` at the end.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// `text` is clean and not empty.
    pub(crate) fn parse(text: &str) -> Result<Pattern, PatternError> {
        let (exception, text) = match text.strip_prefix('!') {
            Some("") => return Err(PatternError::BareException),
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Ok(Pattern {
            exception,
            how: compile(text)?,
            text: text.to_owned(),
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the path or a directory on the way to it.
    pub(super) fn matches_or_parent(&self, path: &str) -> bool {
        self.matches(path)
            || path
                .match_indices('/')
                .any(|(at, _)| self.matches(&path[..at]))
    }

    /// Whether it matches the path itself.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match &self.how {
            How::Exact => path == self.text,
            How::Prefix(prefix) => path.starts_with(prefix.as_str()),
            How::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            How::Tokens(tokens) => run(tokens, path),
        }
    }

    /// Whether a path that begins with `prefix` could match: true rather than false when in doubt.
    pub(super) fn may_match_below(&self, prefix: &str) -> bool {
        let literal = self
            .text
            .find(['*', '?', '[', '\\'])
            .map_or(self.text.as_str(), |at| &self.text[..at]);
        let whole = literal.len() == self.text.len();
        if whole {
            let below = format!("{literal}/");
            return below.starts_with(prefix) || prefix.starts_with(&below);
        }
        literal.starts_with(prefix) || prefix.starts_with(literal)
    }
}

fn compile(text: &str) -> Result<How, PatternError> {
    let mut tokens = Vec::new();
    let mut wild = false;
    let mut deep_start = false;
    let mut deep_end = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                deep_start |= tokens.is_empty();
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    deep_end = true;
                    tokens.push(Token::Rest);
                } else {
                    wild |= !tokens.is_empty();
                    tokens.push(Token::Directories);
                }
            }
            '*' => {
                wild = true;
                tokens.push(Token::Many);
            }
            '?' => {
                wild = true;
                tokens.push(Token::One);
            }
            '[' => {
                wild = true;
                tokens.push(class(&mut chars)?);
            }
            '\\' => {
                wild = true;
                tokens.push(Token::Char(chars.next().ok_or(PatternError::Syntax)?));
            }
            c => tokens.push(Token::Char(c)),
        }
    }
    Ok(match (wild, deep_start, deep_end) {
        (false, false, false) => How::Exact,
        (false, true, _) => How::Suffix(text[2..].trim_end_matches("**").to_owned()),
        (false, false, true) => How::Prefix(text.trim_end_matches("**").to_owned()),
        (true, ..) => How::Tokens(tokens),
    })
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, PatternError> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() {
            class_char(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, PatternError> {
    match chars.next() {
        None | Some('-' | ']') => Err(PatternError::Syntax),
        Some('\\') => chars.next().ok_or(PatternError::Syntax),
        Some(c) => Ok(c),
    }
}

/// Runs all alternatives side by side, so that no pattern takes more than its length times the path's.
fn run(tokens: &[Token], path: &str) -> bool {
    let end = tokens.len();
    let mut reach = vec![false; end + 1];
    reach[0] = true;
    // Directories may be passed only at a boundary: at their start, or after a slash that they took.
    skip(tokens, &mut reach, None);
    for c in path.chars() {
        let mut next = vec![false; end + 1];
        let mut after_slash = vec![false; end + 1];
        for (at, token) in tokens.iter().enumerate() {
            if !reach[at] {
                continue;
            }
            match token {
                Token::Char(wanted) => next[at + 1] |= *wanted == c,
                Token::One => next[at + 1] |= c != '/',
                Token::Many => next[at] |= c != '/',
                Token::Rest => next[at] = true,
                Token::Directories => {
                    next[at] = true;
                    after_slash[at + 1] |= c == '/';
                }
                Token::Class { negated, ranges } => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    next[at + 1] |= inside != *negated;
                }
            }
        }
        skip(tokens, &mut next, Some((&reach, &after_slash)));
        reach = next;
    }
    reach[end]
}

/// Passes tokens that match nothing. A `Directories` entered just now may be passed at once; one that has begun only after a slash.
fn skip(tokens: &[Token], reach: &mut [bool], before: Option<(&[bool], &[bool])>) {
    for at in 0..tokens.len() {
        if let Some((_, after_slash)) = before
            && after_slash[at]
        {
            reach[at] = true;
        }
        if !reach[at] {
            continue;
        }
        match tokens[at] {
            Token::Many | Token::Rest => reach[at + 1] = true,
            Token::Directories => {
                let entered_now = before.is_none_or(|(reached, _)| !reached[at]);
                reach[at + 1] |= entered_now;
            }
            _ => {}
        }
    }
    if let Some((_, after_slash)) = before
        && after_slash[tokens.len()]
    {
        reach[tokens.len()] = true;
    }
}
