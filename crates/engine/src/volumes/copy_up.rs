//! A new volume takes over what the image has where it is mounted (moby `populateVolumes`).
//!
//! A note beside the data says that this is under way: after a kill the next container that brings content finishes it, and neither
//! takes a half-filled volume for one that is in use nor touches what has been written to it since.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use wharf_archive::copy::copy_tree;

use crate::container::root_view::{RootView, path_of};

/// The note, beside `_data`.
const UNDER_WAY: &str = "_populating";

/// Whether the image has a directory at `destination`: only then the volume has to be looked at.
pub fn has_directory(root: &RootView, destination: &str) -> bool {
    root.open(destination)
        .is_ok_and(|found| fs::metadata(path_of(&found)).is_ok_and(|found| found.is_dir()))
}

/// Copies what `root` has at `destination` into `data`, unless there is nothing there or something here.
pub fn copy_up(root: &RootView, destination: &str, data: &Path) -> io::Result<()> {
    let Ok(source) = root.open(destination) else {
        return Ok(());
    };
    let source = path_of(&source);
    let note = note(data);
    let unfinished = note.exists();
    if !fs::metadata(&source)?.is_dir() || (!unfinished && fs::read_dir(data)?.next().is_some()) {
        return Ok(());
    }
    let (source, target) = (fs::File::open(source)?, fs::File::open(data)?);
    fs::write(&note, "")?;
    copy_tree(source.as_fd(), target.as_fd())?;
    fs::remove_file(&note)
}

/// A volume's own directory is the engine's; where a plugin or another file system keeps the data there is no better place.
fn note(data: &Path) -> PathBuf {
    data.with_file_name(UNDER_WAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use wharf_spec::rootfs::RootfsMount;

    #[test]
    fn content_and_attributes_are_taken_over_once() {
        let dir = tempfile::tempdir().expect("dir");
        let image = dir.path().join("image");
        let from = image.join("var/lib/app");
        fs::create_dir_all(from.join("sub")).expect("create");
        fs::write(from.join("sub/file"), "text").expect("write");
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o640))
            .expect("mode");
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).expect("link");
        // An absolute link inside the image stays inside.
        std::os::unix::fs::symlink("/var/lib/app", image.join("data")).expect("link");
        let volume = dir.path().join("volume/_data");
        fs::create_dir_all(&volume).expect("create");
        let root = RootView::read_only(&RootfsMount::Directory { path: image }).expect("root");
        copy_up(&root, "/data", &volume).expect("copy");
        assert_eq!(
            fs::read_to_string(volume.join("sub/file")).expect("read"),
            "text"
        );
        assert_eq!(
            fs::metadata(volume.join("sub/file")).expect("stat").mode() & 0o777,
            0o640
        );
        assert_eq!(
            fs::read_link(volume.join("link")).expect("link"),
            Path::new("/etc/passwd")
        );
        fs::remove_file(volume.join("link")).expect("remove");
        copy_up(&root, "/data", &volume).expect("nothing to do");
        assert!(!volume.join("link").exists());
        // As after a kill in the middle.
        fs::write(note(&volume), "").expect("note");
        copy_up(&root, "/data", &volume).expect("finished");
        assert!(volume.join("link").is_symlink() && !note(&volume).exists());
        copy_up(&root, "/absent", &volume).expect("nothing there");
    }
}
