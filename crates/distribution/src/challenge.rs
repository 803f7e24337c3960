//! `WWW-Authenticate` (RFC 9110, 11.6.1).

/// What a registry wants before it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Nothing.
    None,
    /// User name and password.
    Basic,
    /// A token from another server.
    Bearer {
        realm: String,
        service: String,
        scope: String,
    },
}

impl Challenge {
    /// Reads the headers; a bearer challenge is preferred.
    pub(crate) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Challenge {
        let mut found = Challenge::None;
        for header in headers {
            let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let value = |name: &str| parameter(rest, name).unwrap_or_default();
                return Challenge::Bearer {
                    realm: value("realm"),
                    service: value("service"),
                    scope: value("scope"),
                };
            }
            if scheme.eq_ignore_ascii_case("basic") {
                found = Challenge::Basic;
            }
        }
        found
    }
}

/// The value of `name="…"` or `name=…`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_matches([' ', ',']);
        let (value, next) = value(after);
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = next;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut out = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (out, &quoted[at + 1..]),
            '\\' => out.extend(characters.next().map(|(_, escaped)| escaped)),
            other => out.push(other),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = r#"Bearer realm="https://auth/token?a=b",service="reg",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::parse(["Basic realm=x", bearer].into_iter()),
            Challenge::Bearer {
                realm: "https://auth/token?a=b".into(),
                service: "reg".into(),
                scope: "repository:a/b:pull,push".into()
            }
        );
        assert_eq!(
            Challenge::parse([r#"basic realm="Registry""#].into_iter()),
            Challenge::Basic
        );
        assert_eq!(Challenge::parse(["Negotiate"].into_iter()), Challenge::None);
        assert_eq!(
            parameter(r#"realm=x, service="a\"b""#, "service").as_deref(),
            Some("a\"b")
        );
    }
}
