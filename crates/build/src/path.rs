//! Slash-separated paths as text.

/// Go's `path.Clean`: the shortest equal path, `.` for the empty one.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        let rows = [
            ("", "."),
            ("a//b/./c/", "a/b/c"),
            ("/..//a", "/a"),
            ("../a/..", ".."),
            ("a/../..", ".."),
            ("/", "/"),
            ("./", "."),
        ];
        for (path, expected) in rows {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
