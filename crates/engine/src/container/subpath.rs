//! Parts of volumes and images: looked at before a start, for errors in Docker's words (moby `daemon/volume/safepath`). What is mounted
//! is found anew by the process that mounts it, with the same rules, for a container may change it at any time.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use wharf_archive::extract::errno_text;

use crate::{Error, Result};

/// Checks that `subpath` is there, inside of `base`, which is called `shown`.
pub fn check(base: &OwnedFd, shown: &Path, subpath: &str) -> Result<()> {
    let Err(errno) = open(base, subpath) else {
        return Ok(());
    };
    if errno == Errno::XDEV {
        return Err(Error::invalid(format!(
            "path concatenation escapes the base directory, base: {}, subpath: {subpath}",
            shown.display()
        )));
    }
    let whole = shown.join(subpath);
    let missing = first_missing(base, subpath);
    Err(Error::not_found(format!(
        "cannot access path {}: lstat {}: {}",
        whole.display(),
        shown.join(missing).display(),
        errno_text(errno)
    )))
}

fn open(base: &OwnedFd, subpath: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(base, subpath, flags, Mode::empty(), inside) {
            // A rename elsewhere raced with the check of `..` (openat2(2)).
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

fn first_missing<'a>(base: &OwnedFd, subpath: &'a str) -> &'a str {
    let ends = subpath.match_indices('/').map(|(at, _)| at);
    ends.map(|end| &subpath[..end])
        .find(|part| !part.is_empty() && open(base, part).is_err())
        .unwrap_or(subpath)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_or_refused_in_dockers_words() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("created");
        for (link, target) in [
            ("in", "a"),
            ("out", "/etc"),
            ("up", "../.."),
            ("loop", "loop"),
        ] {
            std::os::unix::fs::symlink(target, dir.path().join(link)).expect("linked");
        }
        let base = OwnedFd::from(std::fs::File::open(dir.path()).expect("there"));
        for (subpath, expected) in [
            ("a/b", "ok"),
            ("in/b", "ok"),
            ("a/../a", "ok"),
            (
                "none",
                "cannot access path /v/none: lstat /v/none: no such file or directory",
            ),
            (
                "a/x/y",
                "cannot access path /v/a/x/y: lstat /v/a/x: no such file or directory",
            ),
            (
                "out",
                "path concatenation escapes the base directory, base: /v, subpath: out",
            ),
            (
                "up",
                "path concatenation escapes the base directory, base: /v, subpath: up",
            ),
            (
                "loop",
                "cannot access path /v/loop: lstat /v/loop: too many levels of symbolic links",
            ),
        ] {
            let found = check(&base, Path::new("/v"), subpath);
            let text = found.map_or_else(|error| error.to_string(), |()| "ok".into());
            assert_eq!(text, expected, "{subpath}");
        }
    }
}
