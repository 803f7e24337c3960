//! Removing a tree by descriptor: a directory swapped for a link meanwhile is unlinked, never entered.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Deeper trees than any path can name are left.
const MAX_DEPTH: usize = 2048;

/// Removes `name` in a directory and all below it. What is not there is fine; what is mounted on is busy.
pub fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    remove_at(parent, name, MAX_DEPTH)
}

fn remove_at(parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    if depth == 0 {
        return Err(Errno::NAMETOOLONG);
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())?;
    let mut entries = Dir::read_from(&dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if !matches!(child, b"." | b"..") {
            remove_at(std::os::fd::AsFd::as_fd(&dir), child, depth - 1)?;
        }
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn links_are_removed_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tree, kept) = (dir.path().join("tree/a/b"), dir.path().join("kept"));
        std::fs::create_dir_all(&tree).expect("created");
        std::fs::create_dir(&kept).expect("created");
        std::fs::write(kept.join("file"), "").expect("written");
        std::os::unix::fs::symlink(&kept, tree.join("link")).expect("link");
        let parent = std::fs::File::open(dir.path()).expect("open");
        remove_all(parent.as_fd(), b"tree").expect("removed");
        remove_all(parent.as_fd(), b"tree").expect("nothing there is fine");
        assert!(!dir.path().join("tree").exists() && kept.join("file").exists());
    }
}
