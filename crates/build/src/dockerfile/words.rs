//! Cutting a line into keyword, flags and words. Quotes stay: they are taken away when variables are expanded.

/// Blanks between arguments.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// First word and the rest, without the blanks between them.
pub(crate) fn split_first(text: &str) -> (&str, Option<&str>) {
    match text.find(is_blank) {
        Some(at) => {
            let rest = text[at..].trim_start_matches(is_blank);
            (&text[..at], Some(rest))
        }
        None => (text, None),
    }
}

/// Words between blanks, quotes meaning nothing.
pub(crate) fn plain(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(is_blank)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `--flag` words at the start and what follows them. Quotes and escapes in them are resolved.
pub(crate) fn take_flags(line: &str, escape: char) -> (Vec<String>, String) {
    let mut flags = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest.to_owned());
        }
        let (word, quoted, after) = flag_word(rest, escape);
        rest = after;
        if word == "--" {
            return (flags, rest.to_owned());
        }
        if quoted || !word.is_empty() {
            flags.push(word);
        }
    }
}

/// One word with quotes resolved; whether it had some; the rest.
fn flag_word(text: &str, escape: char) -> (String, bool, &str) {
    let mut word = String::new();
    let mut quoted = false;
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, quoted, &text[at..]),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                quoted = true;
            }
            Some(open) if c == open => quote = None,
            _ if c == escape => {
                if let Some((_, next)) = chars.next() {
                    word.push(next);
                }
            }
            _ => word.push(c),
        }
    }
    (word, quoted, "")
}

/// Words that may be quoted or escaped; quotes and escapes stay in them.
pub(crate) fn quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        // Nothing can be escaped between single quotes; an escape character at the very end is dropped.
        if c == escape && quote != Some('\'') {
            let Some(next) = chars.next() else { break };
            word.push(c);
            word.push(next);
            continue;
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
    fn words_keep_their_quotes() {
        let rows: &[(&str, &[&str])] = &[
            ("a=b c=d", &["a=b", "c=d"]),
            (r#"a="b c" d"#, &[r#"a="b c""#, "d"]),
            (r"a=b\ c d", &[r"a=b\ c", "d"]),
            (r"a='b\' c'", &[r"a='b\'", "c'"]),
            (r#"a="b\" c""#, &[r#"a="b\" c""#]),
            (r"a=b\", &["a=b"]),
            ("", &[]),
        ];
        for (text, words) in rows {
            assert_eq!(quoted(text, '\\'), *words, "{text}");
        }
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        let rows: &[(&str, &[&str], &str)] = &[
            ("--a --b=c d --e", &["--a", "--b=c"], "d --e"),
            ("--a=\"x y\" z", &["--a=x y"], "z"),
            ("-- --a", &[], " --a"),
            ("--a=x\\ y z", &["--a=x y"], "z"),
            ("- a", &[], "- a"),
            ("--only", &["--only"], ""),
        ];
        for (text, flags, rest) in rows {
            let (got, left) = take_flags(text, '\\');
            assert_eq!(got, *flags, "{text}");
            assert_eq!(left, *rest, "{text}");
        }
    }
}
