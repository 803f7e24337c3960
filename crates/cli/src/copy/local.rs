//! What is on this side: sources and destinations in the local file system.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use wharf_archive::root::{base, name};

use super::place::{Info, absolute, follow, split};
use crate::failure::{Failure, errno_text};

/// Most links at the end of a destination, as Docker follows.
const MAX_LINKS: usize = 10;

fn path(bytes: &[u8]) -> &Path {
    Path::new(name(bytes))
}

fn failed(step: &str, path: &[u8], error: &io::Error) -> Failure {
    let path = String::from_utf8_lossy(path);
    Failure::new(format!("{step} {path}: {}", errno_text(error)))
}

/// An absolute path as the user meant it.
pub fn resolve(text: &str) -> Result<Vec<u8>, Failure> {
    let current = std::env::current_dir()?;
    Ok(absolute(current.as_os_str().as_bytes(), text.as_bytes()))
}

/// A source: links before its last name are followed, with `follow_link` that one too.
pub fn source(wanted: &[u8], follow_link: bool) -> Result<Info, Failure> {
    let (resolved, rebase) = if follow_link {
        follow(wanted, &canonical(wanted)?)
    } else {
        without_links_before_the_end(wanted)?
    };
    let metadata = fs::symlink_metadata(path(&resolved))
        .map_err(|error| failed("lstat", &resolved, &error))?;
    Ok(Info {
        path: resolved,
        exists: true,
        is_dir: metadata.is_dir(),
        rebase,
    })
}

fn without_links_before_the_end(wanted: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Failure> {
    let slash = wanted.iter().rposition(|byte| *byte == b'/');
    let (directory, last) = wanted.split_at(slash.map_or(0, |slash| slash + 1));
    let mut resolved = canonical(directory)?;
    if !resolved.ends_with(b"/") {
        resolved.push(b'/');
    }
    resolved.extend_from_slice(last);
    let renamed = wanted.ends_with(b"/") && base(wanted) != base(&resolved);
    let rebase = renamed.then(|| base(wanted).to_vec());
    Ok((resolved, rebase))
}

fn canonical(wanted: &[u8]) -> Result<Vec<u8>, Failure> {
    let found = fs::canonicalize(path(wanted)).map_err(|error| failed("lstat", wanted, &error))?;
    Ok(found.into_os_string().as_bytes().to_vec())
}

/// A destination: links at its end are followed, also one to nothing; the directory it is in must exist.
pub fn destination(wanted: &[u8]) -> Result<Info, Failure> {
    let mut current = wanted.to_vec();
    for _ in 0..=MAX_LINKS {
        let metadata = match fs::symlink_metadata(path(&current)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(current),
            Err(error) => return Err(failed("lstat", &current, &error)),
        };
        if !metadata.is_symlink() {
            return Ok(Info {
                path: current,
                exists: true,
                is_dir: metadata.is_dir(),
                rebase: None,
            });
        }
        let target = fs::read_link(path(&current))?;
        let (directory, _) = split(&current);
        current = absolute(&directory, target.as_os_str().as_bytes());
    }
    let shown = String::from_utf8_lossy(wanted);
    Err(Failure::new(format!("too many symlinks in {shown}")))
}

fn absent(wanted: Vec<u8>) -> Result<Info, Failure> {
    let (directory, _) = split(&wanted);
    let metadata =
        fs::metadata(path(&directory)).map_err(|error| failed("stat", &directory, &error))?;
    if !metadata.is_dir() {
        return Err(Failure::new("not a directory"));
    }
    Ok(Info {
        path: wanted,
        ..Info::default()
    })
}

/// Refuses a destination before anything is asked of the daemon: its directory must exist, and it must not be a device.
pub fn check_output(wanted: &[u8]) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    let cleaned = wharf_archive::root::clean(wanted);
    let directory = path(&cleaned)
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default();
    if !directory.as_os_str().is_empty() && !directory.exists() {
        return Err(Failure::new(format!(
            "invalid output path: directory {:?} does not exist",
            directory.display().to_string()
        )));
    }
    let Ok(metadata) = fs::metadata(path(wanted)) else {
        return Ok(());
    };
    let kind = metadata.file_type();
    if kind.is_block_device() || kind.is_char_device() {
        let shown = String::from_utf8_lossy(wanted);
        return Err(Failure::new(format!(
            "invalid output path: {shown:?} must be a directory or a regular file: got a device"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_where_docker_does() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = fs::canonicalize(dir.path()).expect("a path");
        let at = |name: &str| top.join(name).into_os_string().as_bytes().to_vec();
        fs::create_dir(top.join("real")).expect("created");
        fs::write(top.join("real/file"), "").expect("written");
        symlink("real", top.join("link")).expect("link");
        symlink("real/file", top.join("to-file")).expect("link");
        symlink("missing", top.join("dangling")).expect("link");
        let plain = source(&at("link/file"), false).expect("found");
        assert_eq!((plain.path, plain.is_dir), (at("real/file"), false));
        let link = source(&at("link"), false).expect("found");
        assert!(!link.is_dir, "the link itself");
        let followed = source(&at("to-file"), true).expect("found");
        assert_eq!(
            (followed.path, followed.rebase),
            (at("real/file"), Some(b"to-file".to_vec()))
        );
        let slashed = source(&at("link/"), false).expect("found");
        assert_eq!(
            (slashed.is_dir, slashed.rebase),
            (true, Some(b"link".to_vec()))
        );
        assert!(source(&at("none"), false).is_err());
        let target = destination(&at("dangling")).expect("creatable");
        assert_eq!((target.path, target.exists), (at("missing"), false));
        assert!(destination(&at("none/below")).is_err());
        assert!(check_output(b"/dev/null").is_err() && check_output(&at("none/x")).is_err());
    }
}
