//! Names in requests: repositories, tags, references. Checked once, at the edge; what is checked can stand in a path of the store.

use std::fmt;

use wharf_spec::digest::Digest;
use wharf_spec::reference::{is_path, is_tag};

/// A repository name is never longer than this: with a host before it, clients allow 255 characters.
const MAX_NAME: usize = 255;

/// A repository, `a/b/c` (distribution-spec, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName(String);

impl RepoName {
    /// Checks a text.
    pub fn parse(text: &str) -> Option<RepoName> {
        (text.len() <= MAX_NAME && is_path(text)).then(|| RepoName(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag, at most 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// Checks a text.
    pub fn parse(text: &str) -> Option<Tag> {
        (!text.is_empty() && is_tag(text)).then(|| Tag(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What follows `/manifests/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tag(tag) => tag.fmt(f),
            Target::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A pattern over names: `*` stands for anything within a component, `**` for anything, `?` for one character.
pub fn matches(pattern: &str, text: &str) -> bool {
    glob(pattern.as_bytes(), text.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => {
            // `a/**` is about `a` too.
            (0..=text.len()).any(|n| glob(rest, &text[n..]))
        }
        [b'/', b'*', b'*'] if text.is_empty() => true,
        [b'*', rest @ ..] => {
            let within = text.iter().take_while(|&&b| b != b'/').count();
            (0..=within).any(|n| glob(rest, &text[n..]))
        }
        [b'?', rest @ ..] => matches!(text, [b, tail @ ..] if *b != b'/' && glob(rest, tail)),
        [literal, rest @ ..] => matches!(text, [b, tail @ ..] if b == literal && glob(rest, tail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_store_are_no_names() {
        for good in ["a", "a/b", "a-b/c__d/e.f", "library/busybox", "0/1"] {
            assert!(RepoName::parse(good).is_some(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "..", "a/..", "../a", "a/./b", "A", "a/_tags", "_a",
            "a b", "a\0b", "a\\b", "a%2e", "a/..%2f", "a:b", "a@b",
        ] {
            assert!(RepoName::parse(bad).is_none(), "{bad}");
        }
        assert!(RepoName::parse(&"a".repeat(256)).is_none());
        for bad in ["", ".", "..", "-a", "a/b", "a:b", "a\n"] {
            assert!(Tag::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("**", "a/b", true),
            ("*", "a/b", false),
            ("*", "a", true),
            ("team/*", "team/a", true),
            ("team/*", "team/a/b", false),
            ("team/**", "team/a/b", true),
            ("team/**", "team", true),
            ("team/**", "teams", false),
            ("v?.*", "v1.2", true),
            ("v?.*", "v12", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
