//! `GET /containers/{id}/changes`: what a container has added, changed and deleted, read from its read-write layer, or by
//! comparing its tree with the image's where the storage driver has no such layer.

mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use wharf_api::container::FilesystemChange;
use wharf_store::drivers::Difference;

use crate::{Engine, Error, Result};

/// Docker's numbers.
const MODIFIED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;

/// Files that `fuse-overlayfs` keeps beside overlay's marks; no image can have such a name.
const BOOKKEEPING: &[u8] = b".wh.";

impl Engine {
    /// Changes against the image, by path.
    pub async fn container_changes(&self, name: &str) -> Result<Vec<FilesystemChange>> {
        let container = self.containers.get(name)?;
        // Some drivers have the container's tree only while it is made ready.
        self.store.rootfs(&container.id)?;
        let difference = self.store.difference(&container.id)?;
        crate::blocking(move || {
            let found = match &difference {
                Difference::Upper { upper, lower } => changes(upper, lower),
                Difference::Trees { new, old } => trees::changes(new, old.as_deref()),
            };
            let found = found.map_err(|error| Error::caused("read changes", error))?;
            Ok(found
                .into_iter()
                .map(|(path, kind)| FilesystemChange {
                    kind,
                    path: path.display().to_string(),
                })
                .collect())
        })
        .await
    }
}

/// Every changed path with its kind; directories above a change count as modified.
fn changes(upper: &Path, lower: &[PathBuf]) -> io::Result<BTreeMap<PathBuf, u8>> {
    let mut found = BTreeMap::new();
    walk(upper, lower, Path::new(""), &mut found)?;
    add_parents(&mut found);
    Ok(found)
}

/// Directories above a change count as modified.
fn add_parents(found: &mut BTreeMap<PathBuf, u8>) {
    let parents: Vec<PathBuf> = found
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .map(Path::to_owned)
        .collect();
    for parent in parents {
        if parent != Path::new("/") {
            found.entry(parent).or_insert(MODIFIED);
        }
    }
}

fn walk(
    upper: &Path,
    lower: &[PathBuf],
    below: &Path,
    found: &mut BTreeMap<PathBuf, u8>,
) -> io::Result<()> {
    for entry in fs::read_dir(upper.join(below))? {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(BOOKKEEPING) {
            continue;
        }
        let path = below.join(name);
        let own = fs::symlink_metadata(upper.join(&path))?;
        let shown = Path::new("/").join(&path);
        if is_whiteout(&own) {
            found.insert(shown, DELETED);
            continue;
        }
        match in_lower(lower, &path) {
            None => {
                found.insert(shown, ADDED);
            }
            Some(image) if own.is_dir() && is_same_directory(&own, &image) => {}
            Some(_) => {
                found.insert(shown, MODIFIED);
            }
        }
        if own.is_dir() {
            walk(upper, lower, &path, found)?;
        }
    }
    Ok(())
}

/// Overlayfs marks what is gone by a character device 0:0 (kernel's overlayfs.rst, "whiteouts and opaque directories").
fn is_whiteout(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// A directory that was only copied up to hold a change below it.
fn is_same_directory(own: &fs::Metadata, image: &fs::Metadata) -> bool {
    image.is_dir()
        && (own.mode(), own.uid(), own.gid(), own.mtime())
            == (image.mode(), image.uid(), image.gid(), image.mtime())
}

/// What the image has at a path: the topmost layer that knows it decides.
fn in_lower(lower: &[PathBuf], path: &Path) -> Option<fs::Metadata> {
    let topmost = lower.iter().find_map(|layer| lookup(layer, path));
    topmost.flatten()
}

/// `None`: this layer does not know the path. `Some(None)`: it says that the path, or a directory above it, is gone.
fn lookup(layer: &Path, path: &Path) -> Option<Option<fs::Metadata>> {
    for part in path
        .ancestors()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .skip(1)
    {
        let metadata = fs::symlink_metadata(layer.join(part)).ok()?;
        if is_whiteout(&metadata) {
            return Some(None);
        }
        if part == path {
            return Some(Some(metadata));
        }
        if !metadata.is_dir() {
            return Some(None);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_changed_and_kept_paths_are_told_apart() {
        let dir = tempfile::tempdir().expect("dir");
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in [
            upper.join("etc/new"),
            upper.join("home"),
            lower.join("etc"),
            lower.join("home"),
        ] {
            fs::create_dir_all(path).expect("create");
        }
        fs::write(upper.join("etc/passwd"), "new").expect("write");
        fs::write(lower.join("etc/passwd"), "old").expect("write");
        fs::write(upper.join("etc/new/file"), "x").expect("write");
        let same = fs::metadata(lower.join("home"))
            .expect("stat")
            .modified()
            .expect("time");
        fs::File::open(upper.join("home"))
            .expect("open")
            .set_modified(same)
            .expect("time");
        let found = changes(&upper, &[lower]).expect("changes");
        let shown: Vec<(String, u8)> = found
            .into_iter()
            .map(|(path, kind)| (path.display().to_string(), kind))
            .collect();
        let expected = [
            ("/etc", MODIFIED),
            ("/etc/new", ADDED),
            ("/etc/new/file", ADDED),
            ("/etc/passwd", MODIFIED),
        ];
        assert_eq!(shown, expected.map(|(path, kind)| (path.to_owned(), kind)));
    }
}
