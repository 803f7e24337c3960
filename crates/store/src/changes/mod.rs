//! What a container has added, changed and deleted: read from its read-write layer, or by comparing its tree with the image's where the
//! storage driver has no such layer.
//!
//! The rules are those of Docker's overlay2 driver (moby `go-archive/changes.go`), odd ones included: a directory that was only
//! copied up is left out when mode, size and time are the image's, and its parent appears when something below came or went.

mod trees;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::drivers::Difference;
use crate::error::StoreError;
use crate::store::Store;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The image has it too, otherwise.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// Absolute, without a slash at its end.
    pub path: Vec<u8>,
}

/// Files that `fuse-overlayfs` keeps beside overlay's marks; no image can have such a name.
const BOOKKEEPING: &[u8] = b".wh.";

impl Store {
    /// Changes of a container against its image, parents before what is in them.
    pub fn changes(&self, container_id: &str) -> Result<Vec<Change>, StoreError> {
        // Some drivers have the container's tree only while it is made ready.
        self.rootfs(container_id)?;
        let difference = self.difference(container_id)?;
        let (path, found) = match &difference {
            Difference::Upper { upper, lower } => (upper, of_upper(upper, lower)),
            Difference::Trees { new, old } => (new, of_trees(new, old.as_deref())),
        };
        found.map_err(StoreError::io("read changes in", path))
    }
}

/// Changes between two whole trees.
pub(crate) fn of_trees(new: &Path, old: Option<&Path>) -> io::Result<Vec<Change>> {
    use std::os::unix::ffi::OsStrExt;
    let found = trees::changes(new, old)?;
    let change = |(path, kind): (PathBuf, Kind)| Change {
        kind,
        path: path.as_os_str().as_bytes().to_vec(),
    };
    Ok(found.into_iter().map(change).collect())
}

/// A directory of the read-write layer and its like in the layers below, topmost first.
struct Level {
    upper: OwnedFd,
    lower: Vec<Rc<OwnedFd>>,
    names: std::vec::IntoIter<CString>,
    /// Starts with a slash and ends in none, but for the root, which is empty.
    path: Vec<u8>,
    /// It is among the changes.
    told: bool,
}

fn of_upper(upper: &Path, lower: &[PathBuf]) -> io::Result<Vec<Change>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
    let upper = open(upper)?;
    let lower = lower
        .iter()
        .map(|layer| open(layer).map(Rc::new))
        .collect::<Result<Vec<_>, Errno>>()?;
    let mut found = Vec::new();
    let mut levels = vec![Level {
        names: names(&upper)?,
        upper,
        lower,
        path: Vec::new(),
        told: true,
    }];
    while let Some(level) = levels.last_mut() {
        match level.names.next() {
            None => drop(levels.pop()),
            Some(name) => {
                let below = visit(level, &name, &mut found)?;
                levels.extend(below);
            }
        }
    }
    Ok(found)
}

/// Tells about one entry; a directory comes back to be walked.
fn visit(level: &mut Level, name: &CString, found: &mut Vec<Change>) -> io::Result<Option<Level>> {
    let own = match statat(&level.upper, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(own) => own,
        // The container goes on working.
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let path = [level.path.as_slice(), b"/", name.to_bytes()].concat();
    let is_dir = kind(&own) == FileType::Directory;
    let upper = if is_dir {
        open_dir(&level.upper, name).map(Some)?
    } else {
        None
    };
    let below = in_lower(&level.lower, name);
    let hides = upper.as_ref().is_some_and(is_opaque)
        && below
            .as_ref()
            .is_some_and(|below| kind(below) == FileType::Directory);
    let change = match &below {
        _ if is_whiteout(&own) || hides => Some(Kind::Deleted),
        None => Some(Kind::Added),
        Some(below) if is_dir && is_same_directory(&own, below) => None,
        Some(_) => Some(Kind::Modified),
    };
    if matches!(change, Some(Kind::Added | Kind::Deleted)) && !level.told {
        tell(found, &level.path, Kind::Modified);
        level.told = true;
    }
    if let Some(change) = change {
        tell(found, &path, change);
    }
    let Some(upper) = upper else {
        return Ok(None);
    };
    Ok(Some(Level {
        names: names(&upper)?,
        lower: directories(&level.lower, name),
        upper,
        path,
        told: change.is_some(),
    }))
}

fn tell(found: &mut Vec<Change>, path: &[u8], kind: Kind) {
    found.push(Change {
        kind,
        path: path.to_vec(),
    });
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Overlayfs marks what is gone by a character device 0:0 (kernel's overlayfs.rst, "whiteouts and opaque directories").
fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0; 4];
    rustix::fs::fgetxattr(dir, "trusted.overlay.opaque", &mut value[..])
        .is_ok_and(|length| value[..length] == *b"y")
}

/// A directory that was only copied up to hold a change below it.
fn is_same_directory(own: &Stat, image: &Stat) -> bool {
    kind(image) == FileType::Directory
        && own.st_mode == image.st_mode
        && own.st_size == image.st_size
        && is_same_time(own, image)
}

/// Times out of archives have no fraction, so one without it matches any.
fn is_same_time(one: &Stat, other: &Stat) -> bool {
    one.st_mtime == other.st_mtime
        && (one.st_mtime_nsec == other.st_mtime_nsec
            || one.st_mtime_nsec == 0
            || other.st_mtime_nsec == 0)
}

/// What the image has: the topmost layer that knows the name decides.
fn in_lower(lower: &[Rc<OwnedFd>], name: &CString) -> Option<Stat> {
    let stat = |dir: &Rc<OwnedFd>| statat(&**dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).ok();
    lower
        .iter()
        .find_map(stat)
        .filter(|stat| !is_whiteout(stat))
}

/// The directories of this name that the image's one consists of.
fn directories(lower: &[Rc<OwnedFd>], name: &CString) -> Vec<Rc<OwnedFd>> {
    let mut found = Vec::new();
    for layer in lower {
        match open_dir(layer, name) {
            Ok(dir) => {
                let last = is_opaque(&dir);
                found.push(Rc::new(dir));
                if last {
                    break;
                }
            }
            Err(Errno::NOENT) => {}
            // Something else of this name hides what is below.
            Err(_) => break,
        }
    }
    found
}

fn open_dir(parent: impl AsFd, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name.as_c_str(), flags, Mode::empty())
}

fn names(dir: &OwnedFd) -> io::Result<std::vec::IntoIter<CString>> {
    let mut names = Vec::new();
    let mut entries = Dir::read_from(dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !name.starts_with(BOOKKEEPING) {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn copy_time(from: &Path, to: &Path) {
        let time = fs::metadata(from)
            .and_then(|found| found.modified())
            .expect("a time");
        let to = fs::File::open(to).expect("open");
        to.set_modified(time).expect("set");
    }

    #[test]
    fn added_changed_and_kept_paths_are_told_apart() {
        let dir = tempfile::tempdir().expect("dir");
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in [
            upper.join("etc/new"),
            upper.join("home"),
            upper.join("var/deep"),
            lower.join("etc"),
            lower.join("home"),
            lower.join("var/deep"),
        ] {
            fs::create_dir_all(path).expect("create");
        }
        fs::write(upper.join("etc/passwd"), "new").expect("write");
        fs::write(lower.join("etc/passwd"), "old").expect("write");
        fs::write(upper.join("etc/new/file"), "x").expect("write");
        fs::write(lower.join("var/deep/gone"), "x").expect("write");
        let gone = upper.join("var/deep/gone");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            gone,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .expect("a whiteout");
        for same in ["home", "var", "var/deep"] {
            copy_time(&lower.join(same), &upper.join(same));
        }
        let found = of_upper(&upper, &[lower]).expect("changes");
        let shown: Vec<(&[u8], Kind)> = found
            .iter()
            .map(|change| (change.path.as_slice(), change.kind))
            .collect();
        let expected: [(&[u8], Kind); 6] = [
            (b"/etc", Kind::Modified),
            (b"/etc/new", Kind::Added),
            (b"/etc/new/file", Kind::Added),
            (b"/etc/passwd", Kind::Modified),
            (b"/var/deep", Kind::Modified),
            (b"/var/deep/gone", Kind::Deleted),
        ];
        assert_eq!(shown, expected);
    }
}
