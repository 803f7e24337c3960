//! Sizes of directory trees as Docker counts them.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// Sum of the sizes of everything but directories, hard links counted once. A missing tree is empty; what vanishes meanwhile is skipped.
pub(crate) fn of_tree(root: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let root = match rustix::fs::open(root, flags, Mode::empty()) {
        Ok(root) => Rc::new(root),
        Err(rustix::io::Errno::NOENT) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut tree = Tree {
        total: 0,
        seen: HashSet::new(),
        pending: Vec::new(),
    };
    tree.add(&root)?;
    while let Some((parent, name)) = tree.pending.pop() {
        if let Ok(dir) = rustix::fs::openat(&parent, &name, flags, Mode::empty()) {
            tree.add(&Rc::new(dir))?;
        }
    }
    Ok(tree.total)
}

/// Bytes in what the tree `new` has and `old` has not, or has with other size or time, hard links counted once; mount points of the
/// engine do not count.
pub(crate) fn of_new(new: &Path, old: Option<&Path>) -> io::Result<u64> {
    of_new_below(new, old, Path::new(""), &mut HashSet::new())
}

fn of_new_below(
    new: &Path,
    old: Option<&Path>,
    below: &Path,
    seen: &mut HashSet<(u64, u64)>,
) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let of = |file: &std::fs::Metadata| (file.len(), file.mtime(), file.mtime_nsec());
    let mut total = 0;
    for entry in std::fs::read_dir(new.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let Ok(metadata) = entry.metadata() else {
            // The container goes on working.
            continue;
        };
        if metadata.is_dir() {
            total += of_new_below(new, old, &path, seen)?;
            continue;
        }
        let before = old.and_then(|old| std::fs::symlink_metadata(old.join(&path)).ok());
        let is_known = match before {
            Some(before) => of(&before) == of(&metadata),
            None => crate::initlayer::has(&path),
        };
        let is_first = metadata.nlink() < 2 || seen.insert((metadata.dev(), metadata.ino()));
        total += if !is_known && is_first {
            metadata.len()
        } else {
            0
        };
    }
    Ok(total)
}

/// A walk without recursion; only directories above pending ones stay open.
struct Tree {
    total: u64,
    seen: HashSet<(u64, u64)>,
    pending: Vec<(Rc<OwnedFd>, CString)>,
}

impl Tree {
    fn add(&mut self, fd: &Rc<OwnedFd>) -> io::Result<()> {
        let mut dir = Dir::read_from(fd)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.pending.push((fd.clone(), name.to_owned()));
            } else if stat.st_nlink <= 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
                self.total += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
        Ok(())
    }
}
