//! Here-documents: `<<EOF`, `<<-EOF`, `3<<"EOF"`.

use super::error::Problem;
use super::expand::Expander;

/// A here-document of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Descriptor it is for, 0 if not given.
    pub descriptor: u32,
    /// Its name was not quoted: variables in it are expanded by `COPY` and `ADD`.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines go.
    pub chomp: bool,
    /// Its lines, each with its line ending.
    pub content: String,
}

impl Heredoc {
    /// Content, without leading tabs if it was written `<<-`.
    pub fn text(&self) -> String {
        if self.chomp {
            chomp(&self.content)
        } else {
            self.content.clone()
        }
    }
}

/// Takes tabs at the start of lines away.
pub fn chomp(content: &str) -> String {
    content
        .split_inclusive('\n')
        .map(|line| line.trim_start_matches('\t'))
        .collect()
}

/// The here-documents a line announces, in order, still empty.
pub(crate) fn announced(line: &str) -> Result<Vec<Heredoc>, Problem> {
    let raw = Expander {
        keep_quotes: true,
        keep_escapes: true,
        keep_unset: true,
        ..Expander::new('\\')
    };
    // A line whose quotes do not close is the shell's to refuse.
    let words = raw
        .expand(line, &|_| None)
        .map(|expansion| expansion.words)
        .unwrap_or_default();
    let mut found = Vec::new();
    for word in words {
        found.extend(parse(&word)?);
    }
    Ok(found)
}

/// One word as the announcement of a here-document.
pub(crate) fn parse(word: &str) -> Result<Option<Heredoc>, Problem> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let plain = Expander {
        keep_unset: true,
        ..Expander::new('\\')
    };
    let quoted = Expander {
        keep_quotes: true,
        ..plain
    };
    let failed = |error: super::expand::ExpandError| Problem::Expand(error.to_string());
    let bare = plain.expand(rest, &|_| None).map_err(failed)?.words;
    let [name] = bare.as_slice() else {
        return Ok(None);
    };
    let with_quotes = quoted
        .expand(rest, &|_| None)
        .map_err(failed)?
        .words
        .concat();
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Heredoc {
        name: name.clone(),
        descriptor: word[..digits].parse().unwrap_or_default(),
        expand: quotes(name) == quotes(&with_quotes),
        chomp,
        content: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements() {
        type Announced = (&'static str, u32, bool, bool);
        let rows: &[(&str, Option<Announced>)] = &[
            ("<<EOF", Some(("EOF", 0, true, false))),
            ("<<-EOF", Some(("EOF", 0, true, true))),
            ("3<<EOF", Some(("EOF", 3, true, false))),
            ("<<\"EOF\"", Some(("EOF", 0, false, false))),
            ("<<'E O'", Some(("E O", 0, false, false))),
            ("<<E'O'F", Some(("EOF", 0, false, false))),
            ("<< EOF", Some(("EOF", 0, true, false))),
            ("<<", None),
            ("<<<EOF", None),
            ("a<<EOF", None),
            ("EOF", None),
        ];
        for (word, expected) in rows {
            let got = parse(word).expect(word);
            let got = got
                .as_ref()
                .map(|doc| (doc.name.as_str(), doc.descriptor, doc.expand, doc.chomp));
            assert_eq!(got, *expected, "{word}");
        }
    }

    #[test]
    fn tabs_go_from_every_line() {
        assert_eq!(chomp("\ta\n\t\tb\n c\n"), "a\nb\n c\n");
    }
}
