//! Copies of files and directory trees with everything that belongs to them: owner, mode, times, extended attributes, devices,
//! hard links among the copied.
//!
//! For trees that nobody else changes meanwhile; paths are followed as they are.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, chownat, lgetxattr, llistxattr,
    lsetxattr, makedev, mknodat, utimensat,
};
use rustix::io::Errno;

/// OverlayFS' own marks: they say how a layer lies upon others, not what a file is.
const OVERLAY_MARKS: &[u8] = b"trusted.overlay.";

/// Copies the contents and the attributes of a directory. Both exist.
pub fn copy_directory(source: &Path, target: &Path) -> io::Result<()> {
    Copier::default().directory(source, target)
}

/// A series of copies, in which hard links between sources become hard links between targets.
#[derive(Debug, Default)]
pub(crate) struct Copier {
    /// Device and inode of a source, and where its first copy is.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    /// Copies the contents and the attributes of a directory. Both exist.
    pub(crate) fn directory(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            self.entry(&entry.path(), &target.join(entry.file_name()))?;
        }
        copy_attributes(source, target, &fs::symlink_metadata(source)?)
    }

    /// Copies one thing to a name that is free.
    pub(crate) fn entry(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(source)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            fs::create_dir(target)?;
            return self.directory(source, target);
        }
        if self.is_linked(&metadata, target)? {
            return Ok(());
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            // Shares blocks where the file system can (`copy_file_range(2)`).
            fs::copy(source, target)?;
        } else {
            make_node(target, &metadata)?;
        }
        copy_attributes(source, target, &metadata)
    }

    /// Links `target` to an earlier copy of the same file, if there is one.
    fn is_linked(&mut self, metadata: &fs::Metadata, target: &Path) -> io::Result<bool> {
        if metadata.nlink() < 2 {
            return Ok(false);
        }
        let key = (metadata.dev(), metadata.ino());
        if let Some(first) = self.links.get(&key) {
            fs::hard_link(first, target)?;
            return Ok(true);
        }
        self.links.insert(key, target.to_owned());
        Ok(false)
    }
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

/// Gives `target` the owner, mode, extended attributes and times of `source`, whose metadata the caller has.
pub(crate) fn copy_attributes(
    source: &Path,
    target: &Path,
    metadata: &fs::Metadata,
) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    chownat(
        CWD,
        target,
        Some(user),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if !metadata.file_type().is_symlink() {
        // After the owner: changing it takes set-user-id bits away.
        fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
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
    let length = loop {
        match llistxattr(source, names.as_mut_slice()) {
            Ok(length) => break length,
            // Not every file system has them.
            Err(Errno::NOTSUP) => return Ok(()),
            Err(Errno::RANGE) if names.len() < 65536 => names.resize(65536, 0),
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut value = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(OVERLAY_MARKS) {
            continue;
        }
        let name = OsStr::from_bytes(name);
        value.resize(65536, 0);
        let length = lgetxattr(source, name, value.as_mut_slice())?;
        lsetxattr(
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

    #[test]
    fn keeps_links_modes_owners_times_and_attributes() {
        let dir = tempfile::tempdir().expect("dir");
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        fs::create_dir_all(source.join("sub")).expect("mkdir");
        fs::create_dir(&target).expect("mkdir");
        fs::write(source.join("sub/file"), "text").expect("write");
        fs::hard_link(source.join("sub/file"), source.join("again")).expect("link");
        std::os::unix::fs::symlink("nowhere", source.join("symlink")).expect("symlink");
        fs::set_permissions(source.join("again"), fs::Permissions::from_mode(0o4711))
            .expect("chmod");
        fs::set_permissions(source.join("sub"), fs::Permissions::from_mode(0o2770)).expect("chmod");
        rustix::fs::lsetxattr(
            source.join("sub"),
            "trusted.mark",
            b"v",
            rustix::fs::XattrFlags::empty(),
        )
        .expect("setxattr");
        copy_directory(&source, &target).expect("copied");
        let of = |path: &str| {
            let metadata = fs::symlink_metadata(target.join(path)).expect(path);
            (metadata.mode() & 0o7777, metadata.nlink(), metadata.mtime())
        };
        assert_eq!(of("again"), of("sub/file"));
        assert_eq!((of("again").0, of("again").1), (0o4711, 2));
        assert_eq!(of("sub").0, 0o2770);
        let mtime = fs::symlink_metadata(source.join("symlink"))
            .expect("symlink")
            .mtime();
        assert_eq!(of("symlink").2, mtime);
        let mut value = [0; 8];
        let length = lgetxattr(target.join("sub"), "trusted.mark", value.as_mut_slice());
        assert_eq!(&value[..length.expect("an attribute")], b"v");
    }
}
