//! A layer in overlay's form laid onto a whole tree: what a kernel does when it looks, done once for drivers without a union mount.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::io::Errno;

use crate::tree::{Copier, copy_attributes};
use crate::unpack::OPAQUE_XATTR;

/// Lays the layer `diff` onto `tree`. Files are moved where both lie on one file system; `diff` is worth nothing afterwards.
pub(super) fn apply(diff: &Path, tree: &Path) -> io::Result<()> {
    contents(diff, tree, &mut Copier::default())
}

/// Takes overlay's marks out of a layer with nothing below it.
pub(super) fn strip(diff: &Path) -> io::Result<()> {
    for entry in fs::read_dir(diff)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if is_whiteout(&metadata) {
            fs::remove_file(&path)?;
        } else if metadata.is_dir() {
            if is_opaque(&path) {
                rustix::fs::lremovexattr(&path, OPAQUE_XATTR)?;
            }
            strip(&path)?;
        }
    }
    Ok(())
}

fn contents(diff: &Path, tree: &Path, copier: &mut Copier) -> io::Result<()> {
    for entry in fs::read_dir(diff)? {
        let entry = entry?;
        apply_entry(&entry.path(), &tree.join(entry.file_name()), copier)?;
    }
    Ok(())
}

fn apply_entry(source: &Path, target: &Path, copier: &mut Copier) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    if is_whiteout(&metadata) {
        return remove(target);
    }
    if !metadata.is_dir() {
        remove(target)?;
        return match rustix::fs::rename(source, target) {
            Err(Errno::XDEV) => copier.entry(source, target),
            result => Ok(result?),
        };
    }
    let is_directory = fs::symlink_metadata(target).is_ok_and(|old| old.is_dir());
    if !is_directory || is_opaque(source) {
        remove(target)?;
        fs::create_dir(target)?;
    }
    contents(source, target, copier)?;
    // Last, because what happens inside changes its times.
    copy_attributes(source, target, &metadata)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    super::super::gone(removed)
}

fn is_whiteout(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(path, OPAQUE_XATTR, value.as_mut_slice()) == Ok(1) && value == *b"y"
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, XattrFlags};

    fn whiteout(path: &Path) {
        let mode = Mode::from_raw_mode(0);
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, 0).expect("mknod");
    }

    fn layer(root: &Path) {
        fs::create_dir_all(root.join("opaque")).expect("mkdir");
        fs::create_dir_all(root.join("kept")).expect("mkdir");
        rustix::fs::lsetxattr(root.join("opaque"), OPAQUE_XATTR, b"y", XattrFlags::empty())
            .expect("setxattr");
        fs::write(root.join("opaque/new"), "new").expect("write");
        fs::write(root.join("kept/new"), "new").expect("write");
        fs::write(root.join("was-directory"), "file").expect("write");
        whiteout(&root.join("kept/gone"));
        whiteout(&root.join("never-there"));
    }

    #[test]
    fn a_layer_covers_what_a_union_mount_would_hide() {
        let dir = tempfile::tempdir().expect("dir");
        let (diff, tree) = (dir.path().join("diff"), dir.path().join("tree"));
        fs::create_dir_all(tree.join("opaque/old")).expect("mkdir");
        fs::create_dir_all(tree.join("kept")).expect("mkdir");
        fs::create_dir_all(tree.join("was-directory/deep")).expect("mkdir");
        fs::write(tree.join("kept/old"), "old").expect("write");
        fs::write(tree.join("kept/gone"), "old").expect("write");
        layer(&diff);
        apply(&diff, &tree).expect("applied");
        let exists = |path: &str| tree.join(path).symlink_metadata().is_ok();
        let expected = [
            ("opaque/new", true),
            ("opaque/old", false),
            ("kept/new", true),
            ("kept/old", true),
            ("kept/gone", false),
            ("never-there", false),
        ];
        for (path, there) in expected {
            assert_eq!(exists(path), there, "{path}");
        }
        assert!(tree.join("was-directory").is_file());
        assert!(!is_opaque(&tree.join("opaque")));
    }

    #[test]
    fn a_bottom_layer_loses_its_marks() {
        let dir = tempfile::tempdir().expect("dir");
        layer(dir.path());
        strip(dir.path()).expect("stripped");
        assert!(!dir.path().join("kept/gone").exists());
        assert!(!is_opaque(&dir.path().join("opaque")));
        assert!(dir.path().join("opaque/new").exists());
    }
}
