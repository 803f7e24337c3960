//! Go's `path.Match`: shell patterns whose `*` and `?` stop at slashes.

/// A pattern that is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub(super) struct BadPattern;

/// Whether the whole of `name` matches.
pub(super) fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    check(&pattern)?;
    Ok(matches_from(&pattern, &name))
}

fn matches_from(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => {
            let reach = name.iter().position(|c| *c == '/').unwrap_or(name.len());
            (0..=reach).any(|skipped| matches_from(rest, &name[skipped..]))
        }
        _ => match (name.split_first(), one(pattern)) {
            (Some((c, name)), Some((accepts, used))) => {
                accepts(*c) && matches_from(&pattern[used..], name)
            }
            _ => false,
        },
    }
}

/// Whether a character fits one element.
type Test<'a> = Box<dyn Fn(char) -> bool + 'a>;

/// The first element that stands for one character: its test, and its length.
fn one(pattern: &[char]) -> Option<(Test<'_>, usize)> {
    match pattern {
        ['?', ..] => Some((Box::new(|c| c != '/'), 1)),
        ['\\', literal, ..] => Some((Box::new(move |c| c == *literal), 2)),
        ['[', ..] => class(pattern),
        [literal, ..] => Some((Box::new(move |c| c == *literal), 1)),
        [] => None,
    }
}

/// `[a-z]`, `[^a-z]`; at least one range.
fn class(pattern: &[char]) -> Option<(Test<'_>, usize)> {
    let negated = pattern.get(1) == Some(&'^');
    let mut at = if negated { 2 } else { 1 };
    let mut ranges = Vec::new();
    while pattern.get(at) != Some(&']') || ranges.is_empty() {
        let low = class_char(pattern, &mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            at += 1;
            high = class_char(pattern, &mut at)?;
        }
        ranges.push(low..=high);
    }
    Some((
        Box::new(move |c| ranges.iter().any(|range| range.contains(&c)) != negated),
        at + 1,
    ))
}

fn class_char(pattern: &[char], at: &mut usize) -> Option<char> {
    if matches!(pattern.get(*at), None | Some('-' | ']')) {
        return None;
    }
    if pattern.get(*at) == Some(&'\\') {
        *at += 1;
    }
    let c = pattern.get(*at).copied();
    *at += 1;
    c
}

fn check(mut pattern: &[char]) -> Result<(), BadPattern> {
    while !pattern.is_empty() {
        let used = match pattern {
            ['*', ..] => 1,
            ['\\'] => return Err(BadPattern),
            _ => one(pattern).ok_or(BadPattern)?.1,
        };
        pattern = &pattern[used..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
        };
        check("busybox", "busybox", true);
        check("busy*", "busybox:latest", true);
        check("*", "a/b", false);
        check("*/b", "a/b", true);
        check("a?c", "abc", true);
        check("a?c", "a/c", false);
        check("[a-c]x", "bx", true);
        check("[^a-c]x", "bx", false);
        check("a\\*", "a*", true);
        check("*:lat*", "x:latest", true);
        for bad in ["[", "[]", "[a-", "a\\", "[-x]"] {
            assert_eq!(matches(bad, "a"), Err(BadPattern), "{bad}");
        }
    }
}
