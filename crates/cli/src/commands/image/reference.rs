//! Image names as people write them. The daemon parses them; here only what is printed and sent apart.

/// A name without the parts that are understood: `docker.io/library/busybox` is `busybox`.
pub fn familiar(name: &str) -> &str {
    let name = name
        .strip_prefix("index.docker.io/")
        .or_else(|| name.strip_prefix("docker.io/"))
        .unwrap_or(name);
    match name.strip_prefix("library/") {
        Some(rest) if !rest.contains('/') => rest,
        _ => name,
    }
}

/// A name with the tag that is understood when there is neither tag nor digest.
pub fn with_tag(name: &str) -> String {
    let name = familiar(name);
    let (repository, tag) = split(name);
    if tag.is_empty() && !name.contains('@') {
        format!("{repository}:latest")
    } else {
        name.to_owned()
    }
}

/// Repository and tag. A digest stays with the repository.
pub fn split(name: &str) -> (&str, &str) {
    let last = name.rfind('/').map_or(0, |i| i + 1);
    match name[last..]
        .find('@')
        .map_or(&name[last..], |i| &name[last..last + i])
        .rfind(':')
    {
        Some(i) if !name.contains('@') => (&name[..last + i], &name[last + i + 1..]),
        _ => (name, ""),
    }
}

/// A name in full, as `pull` prints it at the end.
pub fn canonical(name: &str) -> String {
    let tagged = with_tag(name);
    let first = tagged.split('/').next().unwrap_or_default();
    let has_host = tagged.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if has_host {
        tagged
    } else if tagged.contains('/') {
        format!("docker.io/{tagged}")
    } else {
        format!("docker.io/library/{tagged}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_short_and_in_full() {
        for (given, tagged, full) in [
            (
                "busybox",
                "busybox:latest",
                "docker.io/library/busybox:latest",
            ),
            (
                "docker.io/library/busybox:1",
                "busybox:1",
                "docker.io/library/busybox:1",
            ),
            ("me/app", "me/app:latest", "docker.io/me/app:latest"),
            (
                "host:5000/app",
                "host:5000/app:latest",
                "host:5000/app:latest",
            ),
            ("localhost/app:2", "localhost/app:2", "localhost/app:2"),
            (
                "app@sha256:00",
                "app@sha256:00",
                "docker.io/library/app@sha256:00",
            ),
        ] {
            assert_eq!(
                (with_tag(given).as_str(), canonical(given).as_str()),
                (tagged, full),
                "{given}"
            );
        }
        assert_eq!(split("host:5000/app"), ("host:5000/app", ""));
        assert_eq!(split("host:5000/app:1"), ("host:5000/app", "1"));
    }
}
