//! Names at the destination: a pure decision from what is known about both sides.

use wharf_archive::root::{asks_for_directory, base, clean};

/// What is known about a source or a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Its path; a slash or dot at the end means something.
    pub path: Vec<u8>,
    /// Something is there.
    pub exists: bool,
    /// It is a directory.
    pub is_dir: bool,
    /// What a source is to be called instead of its last name.
    pub rebase: Option<Vec<u8>>,
}

/// Where the archive is unpacked, and what its topmost entry is renamed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// A directory.
    pub directory: Vec<u8>,
    /// New name of the topmost entry; `None` keeps it.
    pub name: Option<Vec<u8>>,
}

/// Directory and last name of a path; a dot at its end is a name of its own.
pub fn split(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut cleaned = clean(path);
    if base(path) == b"." {
        if !cleaned.ends_with(b"/") {
            cleaned.push(b'/');
        }
        cleaned.push(b'.');
    }
    let name = base(&cleaned).to_vec();
    let directory = match cleaned.iter().rposition(|byte| *byte == b'/') {
        Some(0) => b"/".to_vec(),
        Some(slash) => clean(&cleaned[..slash]),
        None => b".".to_vec(),
    };
    (directory, name)
}

/// Decides, or refuses in Docker's words.
pub fn plan(source: &Info, target: &Info) -> Result<Placement, String> {
    let (directory, name) = split(&target.path);
    if target.exists && target.is_dir {
        return Ok(Placement {
            directory: target.path.clone(),
            name: source.rebase.clone(),
        });
    }
    if target.exists && source.is_dir {
        return Err("cannot copy directory".into());
    }
    if !target.exists && !source.is_dir && asks_for_directory(&target.path) {
        return Err("no such directory".into());
    }
    Ok(Placement {
        directory,
        name: Some(name),
    })
}

/// The name a source that a link led to is called by: that of the link (moby `GetRebaseName`).
pub fn follow(path: &[u8], target: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut resolved = target.to_vec();
    if base(path) == b"." && base(&resolved) != b"." {
        resolved.extend_from_slice(b"/.");
    }
    if path.ends_with(b"/") && !resolved.ends_with(b"/") {
        resolved.push(b'/');
    }
    let rebase = (base(path) != base(&resolved)).then(|| base(path).to_vec());
    (resolved, rebase)
}

/// Joins and cleans a path, and keeps a slash or dot at its end.
pub fn absolute(current: &[u8], path: &[u8]) -> Vec<u8> {
    let joined = if path.starts_with(b"/") {
        path.to_vec()
    } else {
        [current, b"/", path].concat()
    };
    let mut cleaned = clean(&joined);
    if base(path) == b"." {
        if !cleaned.ends_with(b"/") {
            cleaned.push(b'/');
        }
        cleaned.push(b'.');
    }
    if path.ends_with(b"/") && !cleaned.ends_with(b"/") {
        cleaned.push(b'/');
    }
    cleaned
}

/// Gives an entry of the archive its name below the new topmost one.
pub fn rename(name: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let old = trim(old);
    if old.is_empty() {
        let start = name.iter().position(|byte| *byte != b'/');
        let rest = start.map_or(&[][..], |start| &name[start..]);
        return [trim(new), b"/", rest].concat();
    }
    match name.strip_prefix(old) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => [trim(new), rest].concat(),
        _ => name.to_vec(),
    }
}

fn trim(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte != b'/');
    end.map_or(&[], |end| &name[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(path: &str, kind: &str) -> Info {
        Info {
            path: path.into(),
            exists: kind != "none",
            is_dir: kind == "dir",
            rebase: None,
        }
    }

    #[test]
    fn copies_land_where_docker_puts_them() {
        let rows = [
            ("/s/f", "file", "/t", "dir", Ok(("/t", None))),
            ("/s/f", "file", "/t/g", "file", Ok(("/t", Some("g")))),
            ("/s/f", "file", "/t/new", "none", Ok(("/t", Some("new")))),
            ("/s/f", "file", "/t/new/", "none", Err("no such directory")),
            ("/s/d", "dir", "/t/g", "file", Err("cannot copy directory")),
            ("/s/d", "dir", "/t/new", "none", Ok(("/t", Some("new")))),
            ("/s/d", "dir", "/t/new/", "none", Ok(("/t", Some("new")))),
            ("/s/d/.", "dir", "/t/", "dir", Ok(("/t/", None))),
            ("/s/d", "dir", "new", "none", Ok((".", Some("new")))),
        ];
        for (source, kind, target, what, expected) in rows {
            let planned = plan(&info(source, kind), &info(target, what));
            let expected =
                expected
                    .map_err(str::to_owned)
                    .map(|(directory, name): (&str, Option<&str>)| Placement {
                        directory: directory.into(),
                        name: name.map(Into::into),
                    });
            assert_eq!(planned, expected, "{source} -> {target}");
        }
    }

    #[test]
    fn paths_are_split_and_joined() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        for (path, directory, name) in [
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/", "/", "/"),
            ("x", ".", "x"),
        ] {
            let (d, n) = split(path.as_bytes());
            assert_eq!(
                (text(d).as_str(), text(n).as_str()),
                (directory, name),
                "{path}"
            );
        }
        for (path, expected) in [
            ("x/../y/", "/here/y/"),
            (".", "/here/."),
            ("/", "/"),
            ("./a", "/here/a"),
        ] {
            assert_eq!(
                text(absolute(b"/here", path.as_bytes())),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn entries_follow_their_topmost_one() {
        for (name, old, new, expected) in [
            ("d/", "d", "e", "e/"),
            ("d/x", "d", "e", "e/x"),
            ("dd/x", "d", "e", "dd/x"),
            ("./x", ".", "new", "new/x"),
            ("/etc/x", "/", "new", "new/etc/x"),
        ] {
            assert_eq!(
                rename(name.as_bytes(), old.as_bytes(), new.as_bytes()),
                expected.as_bytes()
            );
        }
    }

    #[test]
    fn what_a_link_leads_to_keeps_the_links_name() {
        assert_eq!(
            follow(b"/a/link", b"/b/real"),
            (b"/b/real".to_vec(), Some(b"link".to_vec()))
        );
        assert_eq!(
            follow(b"/a/link/.", b"/b/real"),
            (b"/b/real/.".to_vec(), None)
        );
    }
}
