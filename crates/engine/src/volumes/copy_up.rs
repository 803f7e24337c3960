//! A new volume takes over what the image has where it is mounted (moby `populateVolumes`).

use std::fs;
use std::io;
use std::path::Path;

use wharf_store::tree::copy_directory;

use crate::container::root_view::{RootView, path_of};

/// Copies what `root` has at `destination` into `data`, unless there is nothing there or something here.
pub fn copy_up(root: &RootView, destination: &str, data: &Path) -> io::Result<()> {
    let Ok(source) = root.open(destination) else {
        return Ok(());
    };
    // The directory itself, not the link in /proc that leads there.
    let source = path_of(&source).join(".");
    if !fs::metadata(&source)?.is_dir() || fs::read_dir(data)?.next().is_some() {
        return Ok(());
    }
    copy_directory(&source, data)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
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
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).expect("create");
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
        copy_up(&root, "/absent", &volume).expect("nothing there");
    }
}
