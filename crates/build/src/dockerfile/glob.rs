//! The patterns of `${name#pattern}` and its relatives: `*` any text, `?` one character, no brackets (POSIX shell, section 2.13, less
//! the bracket expressions).

/// A pattern ready to match.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Many,
}

impl Glob {
    /// The error is Docker's text.
    pub(crate) fn parse(pattern: &str) -> Result<Glob, String> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(next @ ('}' | '/' | '*' | '?' | '\\')) => Token::Char(next),
                    Some(next) => return Err(format!("invalid escape '\\{next}'")),
                    None => return Err("invalid escape '\\'".to_owned()),
                },
                other => Token::Char(other),
            });
        }
        Ok(Glob { tokens })
    }

    /// Lengths, in characters, of the prefixes of `text` that match: shortest and longest.
    fn prefix_lengths(&self, text: &[char]) -> Option<(usize, usize)> {
        // The set of token positions reachable after each character.
        let mut reach = vec![false; self.tokens.len() + 1];
        reach[0] = true;
        self.skip_stars(&mut reach);
        let end = self.tokens.len();
        let mut shortest = reach[end].then_some(0);
        let mut longest = shortest;
        for (i, c) in text.iter().enumerate() {
            let mut next = vec![false; end + 1];
            for at in 0..end {
                if !reach[at] {
                    continue;
                }
                match self.tokens[at] {
                    Token::Many => next[at] = true,
                    Token::One => next[at + 1] = true,
                    Token::Char(wanted) => next[at + 1] |= wanted == *c,
                }
            }
            self.skip_stars(&mut next);
            reach = next;
            if reach[end] {
                shortest = shortest.or(Some(i + 1));
                longest = Some(i + 1);
            }
            if !reach.contains(&true) {
                break;
            }
        }
        shortest.zip(longest)
    }

    fn skip_stars(&self, reach: &mut [bool]) {
        for at in 0..self.tokens.len() {
            if reach[at] && self.tokens[at] == Token::Many {
                reach[at + 1] = true;
            }
        }
    }

    /// `text` without its shortest or longest matching prefix.
    pub(crate) fn trim_prefix(&self, text: &str, longest: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        match self.prefix_lengths(&chars) {
            Some((short, long)) => chars[if longest { long } else { short }..].iter().collect(),
            None => text.to_owned(),
        }
    }

    /// `text` without its shortest or longest matching suffix.
    pub(crate) fn trim_suffix(&self, text: &str, longest: bool) -> String {
        let backwards: String = text.chars().rev().collect();
        let mirrored = Glob {
            tokens: self.tokens.iter().rev().copied().collect(),
        };
        let rest = mirrored.trim_prefix(&backwards, longest);
        rest.chars().rev().collect()
    }

    /// `text` with its first or every match, each as long as possible, replaced.
    pub(crate) fn replace(&self, text: &str, with: &str, every: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        let mut active = true;
        while at < chars.len() {
            match self.prefix_lengths(&chars[at..]) {
                Some((_, length)) if active && length > 0 => {
                    result.push_str(with);
                    at += length;
                    active = every;
                }
                _ => {
                    result.push(chars[at]);
                    at += 1;
                }
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_and_replaces() {
        let glob = |text: &str| Glob::parse(text).expect("a pattern");
        assert_eq!(glob("*/").trim_prefix("a/b/c", false), "b/c");
        assert_eq!(glob("*/").trim_prefix("a/b/c", true), "c");
        assert_eq!(glob("/*").trim_suffix("a/b/c", false), "a/b");
        assert_eq!(glob("/*").trim_suffix("a/b/c", true), "a");
        assert_eq!(glob("b?").replace("abcabc", "X", false), "aXabc");
        assert_eq!(glob("b?").replace("abcabc", "X", true), "aXaX");
        assert_eq!(glob(r"\*").trim_prefix("*a", false), "a");
        assert_eq!(glob("x").trim_prefix("abc", true), "abc");
        assert!(Glob::parse(r"a\b").is_err());
        assert!(Glob::parse("a\\").is_err());
    }
}
