//! Changes between two whole trees, by what `stat(2)` says of each file: Docker's way for drivers without a union mount.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Kind;
use crate::initlayer;

/// Every changed path with its kind. `old` is `None` for an image without layers.
pub(super) fn changes(new: &Path, old: Option<&Path>) -> io::Result<BTreeMap<PathBuf, Kind>> {
    let mut found = BTreeMap::new();
    compare(new, old, Path::new(""), &mut found)?;
    add_parents(&mut found);
    Ok(found)
}

/// Directories above a change count as modified.
fn add_parents(found: &mut BTreeMap<PathBuf, Kind>) {
    let parents: Vec<PathBuf> = found
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .map(Path::to_owned)
        .collect();
    for parent in parents {
        if parent != Path::new("/") {
            found.entry(parent).or_insert(Kind::Modified);
        }
    }
}

fn compare(
    new: &Path,
    old: Option<&Path>,
    below: &Path,
    found: &mut BTreeMap<PathBuf, Kind>,
) -> io::Result<()> {
    let was_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|old| old.is_dir());
    let old_here = old
        .map(|old| old.join(below))
        .filter(|path| was_directory(path));
    for entry in fs::read_dir(new.join(below))? {
        let path = below.join(entry?.file_name());
        let now = fs::symlink_metadata(new.join(&path))?;
        let before = old_here
            .as_ref()
            .and_then(|_| fs::symlink_metadata(old?.join(&path)).ok());
        let kind = match &before {
            // A mount point that the engine made; what is in such a directory may still be the container's.
            None if initlayer::has(&path) => None,
            None => Some(Kind::Added),
            Some(before) => is_changed(&now, before).then_some(Kind::Modified),
        };
        if let Some(kind) = kind {
            found.insert(Path::new("/").join(&path), kind);
        }
        if now.is_dir() {
            compare(new, old, &path, found)?;
        }
    }
    let Some(old_here) = old_here else {
        return Ok(());
    };
    for entry in fs::read_dir(old_here)? {
        let path = below.join(entry?.file_name());
        if fs::symlink_metadata(new.join(&path)).is_err() {
            found.insert(Path::new("/").join(&path), Kind::Deleted);
        }
    }
    Ok(())
}

/// Sizes and times of directories change with what is in them and say nothing of themselves (moby `statDifferent`).
fn is_changed(now: &fs::Metadata, before: &fs::Metadata) -> bool {
    let of = |file: &fs::Metadata| (file.mode(), file.uid(), file.gid(), file.rdev());
    let content = |file: &fs::Metadata| (file.len(), file.mtime(), file.mtime_nsec());
    of(now) != of(before) || (!now.is_dir() && content(now) != content(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_told_apart_by_their_files() {
        let dir = tempfile::tempdir().expect("dir");
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        for root in [&new, &old] {
            fs::create_dir_all(root.join("etc")).expect("mkdir");
            fs::create_dir_all(root.join("same/deep")).expect("mkdir");
        }
        fs::write(old.join("etc/gone"), "").expect("write");
        fs::write(old.join("etc/passwd"), "old").expect("write");
        fs::write(new.join("etc/passwd"), "newer").expect("write");
        fs::write(new.join("same/deep/file"), "").expect("write");
        // Made by the engine.
        fs::write(new.join("etc/hosts"), "").expect("write");
        fs::write(new.join(".dockerenv"), "").expect("write");
        let found = changes(&new, Some(&old)).expect("changes");
        let expected = [
            ("/etc", Kind::Modified),
            ("/etc/gone", Kind::Deleted),
            ("/etc/passwd", Kind::Modified),
            ("/same", Kind::Modified),
            ("/same/deep", Kind::Modified),
            ("/same/deep/file", Kind::Added),
        ];
        let found: Vec<(&str, Kind)> = found
            .iter()
            .map(|(path, kind)| (path.to_str().expect("plain"), *kind))
            .collect();
        assert_eq!(found, expected);
    }
}
