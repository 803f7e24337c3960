//! What `cp` copies where, under which names.
//!
//! A copy is a tar whose topmost entry gets the name it shall have at its destination; the rules are those of `cp -R` as Docker
//! documents them (moby `go-archive/copy.go`).

pub mod local;
pub mod place;
pub mod upload;

/// One side of a `cp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The container, if it is one's path.
    pub container: Option<String>,
    /// The path.
    pub path: String,
}

/// Takes `CONTAINER:PATH` apart. A local path with a colon starts with `/` or `.`.
pub fn split(text: &str) -> Side {
    let local = Side {
        container: None,
        path: text.to_owned(),
    };
    if text.starts_with('/') {
        return local;
    }
    match text.split_once(':') {
        Some((container, path)) if !container.starts_with('.') => Side {
            container: (!container.is_empty()).then(|| container.to_owned()),
            path: path.to_owned(),
        },
        _ => local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_paths() {
        for (text, container, path) in [
            ("web:/etc", Some("web"), "/etc"),
            ("/a:b", None, "/a:b"),
            ("./a:b", None, "./a:b"),
            ("plain", None, "plain"),
            ("web:", Some("web"), ""),
            ("-", None, "-"),
        ] {
            let side = split(text);
            assert_eq!(
                (side.container.as_deref(), side.path.as_str()),
                (container, path),
                "{text}"
            );
        }
    }
}
