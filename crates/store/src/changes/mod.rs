//! What a container has added, changed and deleted: read from its read-write layer, or by comparing its tree with the image's where the
//! storage driver has no such layer.
//!
//! The rules are Docker's (moby `go-archive/changes.go`): a file counts as modified when mode, owner, time or size differ, a directory when
//! mode or owner do or something below it changed. What was in a deleted directory is not listed.

mod trees;

use std::collections::BTreeMap;
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
    /// What is to be looked at; `false` for names that only a hidden directory below has.
    names: std::vec::IntoIter<(CString, bool)>,
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
        names: names(&upper, &[])?,
        upper,
        lower,
        path: Vec::new(),
        told: true,
    }];
    while let Some(level) = levels.last_mut() {
        let Some((name, in_upper)) = level.names.next() else {
            levels.pop();
            continue;
        };
        let Some((change, below)) = visit(level, &name, in_upper)? else {
            continue;
        };
        if let Some(kind) = change {
            let path = path_of(level, &name);
            tell_directories(&mut levels, &mut found);
            tell(&mut found, &path, kind);
        }
        levels.extend(below);
    }
    Ok(found)
}

/// Directories count as modified when something in them is.
fn tell_directories(levels: &mut [Level], found: &mut Vec<Change>) {
    for level in levels.iter_mut().filter(|level| !level.told) {
        level.told = true;
        tell(found, &level.path, Kind::Modified);
    }
}

fn path_of(level: &Level, name: &CString) -> Vec<u8> {
    [level.path.as_slice(), b"/", name.to_bytes()].concat()
}

/// What happened to one name, and the directory of that name to be walked.
type Visited = Option<(Option<Kind>, Option<Level>)>;

fn visit(level: &Level, name: &CString, in_upper: bool) -> io::Result<Visited> {
    let below = in_lower(&level.lower, name);
    if !in_upper {
        return Ok(below.map(|_| (Some(Kind::Deleted), None)));
    }
    let own = match statat(&level.upper, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(own) => own,
        // The container goes on working.
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if is_whiteout(&own) {
        return Ok(below.map(|_| (Some(Kind::Deleted), None)));
    }
    let change = match &below {
        None => Some(Kind::Added),
        Some(below) => is_changed(level, name, &own, below).then_some(Kind::Modified),
    };
    if kind(&own) != FileType::Directory {
        return Ok(Some((change, None)));
    }
    let upper = open_dir(&level.upper, name)?;
    let lower = directories(&level.lower, name);
    let hidden: &[Rc<OwnedFd>] = if is_opaque(&upper) { &lower } else { &[] };
    let next = Level {
        names: names(&upper, hidden)?,
        path: path_of(level, name),
        told: change.is_some(),
        upper,
        lower,
    };
    Ok(Some((change, Some(next))))
}

/// Sizes and times of directories say nothing of themselves (moby `statDifferent`).
fn is_changed(level: &Level, name: &CString, own: &Stat, below: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if of(own) != of(below) {
        return true;
    }
    match kind(own) {
        FileType::Directory => false,
        _ if own.st_size != below.st_size || !is_same_time(own, below) => true,
        FileType::RegularFile => {
            let old = level.lower.iter().find_map(|dir| capability(dir, name));
            capability(&level.upper, name) != old
        }
        _ => false,
    }
}

/// A file's capabilities; `None` when it is not there or has none.
fn capability(dir: &OwnedFd, name: &CString) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(dir, name.as_c_str(), flags, Mode::empty()).ok()?;
    let mut value = [0; 64];
    let length = rustix::fs::fgetxattr(&file, "security.capability", &mut value[..]).ok()?;
    Some(value[..length].to_vec())
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

/// Names in a directory, with those that only `hidden` has, sorted.
fn names(dir: &OwnedFd, hidden: &[Rc<OwnedFd>]) -> io::Result<std::vec::IntoIter<(CString, bool)>> {
    let mut names = BTreeMap::new();
    for below in hidden {
        read_names(below, false, &mut names)?;
    }
    read_names(dir, true, &mut names)?;
    let names: Vec<(CString, bool)> = names.into_iter().collect();
    Ok(names.into_iter())
}

fn read_names(dir: &OwnedFd, own: bool, names: &mut BTreeMap<CString, bool>) -> io::Result<()> {
    let mut entries = Dir::read_from(dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !name.starts_with(BOOKKEEPING) {
            names.insert(entry.file_name().to_owned(), own);
        }
    }
    Ok(())
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
        fs::write(upper.join("etc/passwd"), "newer").expect("write");
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
        let expected: [(&[u8], Kind); 7] = [
            (b"/etc", Kind::Modified),
            (b"/etc/new", Kind::Added),
            (b"/etc/new/file", Kind::Added),
            (b"/etc/passwd", Kind::Modified),
            (b"/var", Kind::Modified),
            (b"/var/deep", Kind::Modified),
            (b"/var/deep/gone", Kind::Deleted),
        ];
        assert_eq!(shown, expected);
    }
}
