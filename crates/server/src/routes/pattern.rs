//! Path patterns: `{name}` is one segment, `{name:.*}` is as much as fits (image names contain slashes).

/// The parameters of `path` under `pattern`, or `None` when it does not match.
#[must_use]
pub fn match_path(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    match_rest(pattern, path, &mut params).then_some(params)
}

fn match_rest(pattern: &str, path: &str, params: &mut Vec<String>) -> bool {
    let Some(open) = pattern.find('{') else {
        return pattern == path;
    };
    let Some(close) = pattern[open..].find('}').map(|at| open + at) else {
        return false;
    };
    let Some(path) = path.strip_prefix(&pattern[..open]) else {
        return false;
    };
    let (placeholder, rest) = (&pattern[open + 1..close], &pattern[close + 1..]);
    let end = if placeholder.ends_with(":.*") {
        // One greedy part per pattern, and what follows it is fixed text.
        match path.strip_suffix(rest) {
            Some(value) => value.len(),
            None => return false,
        }
    } else {
        path.find('/').unwrap_or(path.len())
    };
    if end == 0 {
        return false;
    }
    params.push(path[..end].to_owned());
    match_rest(rest, &path[end..], params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_paths() {
        let rows: &[(&str, &str, Option<&[&str]>)] = &[
            ("/version", "/version", Some(&[])),
            ("/version", "/version/", None),
            (
                "/containers/{name}/json",
                "/containers/abc/json",
                Some(&["abc"]),
            ),
            ("/containers/{name}/json", "/containers/a/b/json", None),
            ("/containers/{name}/json", "/containers//json", None),
            (
                "/containers/{name}/attach/ws",
                "/containers/abc/attach/ws",
                Some(&["abc"]),
            ),
            ("/containers/{name}", "/containers/abc", Some(&["abc"])),
            (
                "/images/{name:.*}/json",
                "/images/docker.io/library/busybox:1.36/json",
                Some(&["docker.io/library/busybox:1.36"]),
            ),
            ("/images/{name:.*}/json", "/images/json", None),
            (
                "/images/{name:.*}/json",
                "/images/json/json",
                Some(&["json"]),
            ),
            (
                "/images/{name:.*}",
                "/images/a/b@sha256:00",
                Some(&["a/b@sha256:00"]),
            ),
            (
                "/containers/{name}/checkpoints/{checkpoint}",
                "/containers/a/checkpoints/b",
                Some(&["a", "b"]),
            ),
        ];
        for (pattern, path, expected) in rows {
            let expected =
                expected.map(|list| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!(match_path(pattern, path), expected, "{pattern} {path}");
        }
    }
}
