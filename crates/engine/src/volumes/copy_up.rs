//! A new volume takes over what the image has where it is mounted (moby `populateVolumes`).

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, chownat, makedev, mknodat,
    utimensat,
};

use crate::container::root_view::{RootView, path_of};

/// Copies what `root` has at `destination` into `data`, unless there is nothing there or something here.
pub fn copy_up(root: &RootView, destination: &str, data: &Path) -> io::Result<()> {
    let Ok(source) = root.open(destination) else {
        return Ok(());
    };
    let source = path_of(&source);
    if !fs::metadata(&source)?.is_dir() || fs::read_dir(data)?.next().is_some() {
        return Ok(());
    }
    copy_directory(&source, data)
}

/// Copies the contents and the attributes of a directory. Both exist.
fn copy_directory(source: &Path, target: &Path) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        copy_entry(&entry.path(), &target.join(entry.file_name()))?;
    }
    copy_attributes(source, target, &fs::metadata(source)?)
}

fn copy_entry(source: &Path, target: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        fs::create_dir(target)?;
        return copy_directory(source, target);
    }
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        fs::copy(source, target)?;
    } else {
        make_node(target, &metadata)?;
    }
    copy_attributes(source, target, &metadata)
}

fn make_node(target: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let kind = if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else {
        // A socket without its owner is of no use.
        FileType::Socket
    };
    let number = metadata.rdev();
    let device = makedev(rustix::fs::major(number), rustix::fs::minor(number));
    mknodat(
        CWD,
        target,
        kind,
        Mode::from_raw_mode(metadata.mode() & 0o7777),
        device,
    )?;
    Ok(())
}

fn copy_attributes(source: &Path, target: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    chownat(
        CWD,
        target,
        Some(user),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if metadata.file_type().is_symlink() {
        return Ok(());
    }
    // After the owner: changing it takes set-user-id bits away.
    fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    copy_xattrs(source, target)?;
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn copy_xattrs(source: &Path, target: &Path) -> io::Result<()> {
    let mut names = vec![0; 4096];
    let length = match rustix::fs::listxattr(source, names.as_mut_slice()) {
        Ok(length) => length,
        // Not every file system has them.
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 65536];
        let length = rustix::fs::getxattr(source, name, value.as_mut_slice())?;
        rustix::fs::setxattr(
            target,
            name,
            &value[..length],
            rustix::fs::XattrFlags::empty(),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
