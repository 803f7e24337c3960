//! "Did you mean": the nearest word of a list.

/// The option at an edit distance below three from `word`, unless one equals it. With `fold_case`, case does not count and the answer
/// takes over the case of `word` when that is uniform.
pub fn nearest<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
    fold_case: bool,
) -> Option<String> {
    let wanted = if fold_case {
        word.to_lowercase()
    } else {
        word.to_owned()
    };
    let mut best: Option<(usize, String)> = None;
    for option in options {
        let option = if fold_case {
            option.to_lowercase()
        } else {
            option.to_owned()
        };
        if option == wanted {
            return None;
        }
        let distance = distance(&wanted, &option);
        let limit = best.as_ref().map_or(3, |(distance, _)| *distance);
        if distance < limit {
            best = Some((distance, option));
        }
    }
    let (_, found) = best?;
    if fold_case && word == word.to_uppercase() && word != word.to_lowercase() {
        return Some(found.to_uppercase());
    }
    Some(found)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_near_words_only() {
        let options = ["RUN", "FROM", "COPY"];
        assert_eq!(nearest("RNU", options, true).as_deref(), Some("RUN"));
        assert_eq!(nearest("form", options, true).as_deref(), Some("from"));
        assert_eq!(nearest("HELLO", options, true), None);
        assert_eq!(nearest("run", options, true), None);
        assert_eq!(nearest("", ["ab"], false).as_deref(), Some("ab"));
    }
}
