//! A tar into a directory of a root, as Docker's copies are unpacked: what is there gives way, directories merge.
//!
//! Paths in the archive are resolved by the kernel inside the root: `..` that leads out of the destination is refused, links on the
//! way are followed as a process inside would. Everything new is made exclusively and finished through its own descriptor.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, fchown,
    futimens, linkat, mkdirat, mknodat, openat, openat2, statat, symlinkat,
};
use rustix::io::Errno;

use crate::remove::remove_all;
use crate::root::{Root, clean};
use crate::tar::{Entry, Kind, TarReader, Time};
use crate::xattr;

/// Directories kept open at most; entries of one directory mostly follow each other.
const KEPT: usize = 64;

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Refuse to put something else in the place of a directory, or a directory in the place of something else.
    pub no_overwrite_dir_non_dir: bool,
    /// Whom everything belongs to, instead of whom the archive says.
    pub owner: Option<(u32, u32)>,
    /// Whoever unpacks keeps what it makes.
    pub keep_own: bool,
}

/// Why an archive was not unpacked to its end.
#[derive(Debug)]
pub enum ExtractError {
    /// The archive cannot be read.
    Archive(io::Error),
    /// An entry that must not be.
    Refused(String),
    /// An entry could not be made: what was tried, on which path.
    Entry {
        /// System call.
        step: &'static str,
        /// Absolute path in the root.
        path: Vec<u8>,
        /// The cause.
        errno: Errno,
    },
}

impl std::fmt::Display for ExtractError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExtractError::Archive(error) => write!(f, "{error}"),
            ExtractError::Refused(text) => f.write_str(text),
            ExtractError::Entry { step, path, errno } => {
                let path = String::from_utf8_lossy(path);
                write!(f, "{step} {path}: {}", errno_text(*errno))
            }
        }
    }
}

impl std::error::Error for ExtractError {}

/// The C library's lower-case words, as Go prints them.
pub fn errno_text(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Where to unpack.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// What paths are resolved in.
    pub root: &'a Root,
    /// The directory in it.
    pub path: &'a [u8],
    /// What errors call this directory.
    pub shown: &'a [u8],
}

/// Unpacks `tar`. `edit` may rename entries. What was unpacked before an error stays.
pub fn extract(
    tar: impl BufRead,
    destination: &Destination<'_>,
    options: Options,
    mut edit: impl FnMut(&mut Entry),
) -> Result<(), ExtractError> {
    let mut reader = TarReader::new(tar);
    let mut extractor = Extractor::open(destination, options)?;
    while let Some(mut entry) = reader.next(&mut ()).map_err(ExtractError::Archive)? {
        edit(&mut entry);
        extractor.entry(&entry, &mut reader)?;
        reader.data_as_raw(&mut ()).map_err(ExtractError::Archive)?;
    }
    reader.drain(&mut ()).map_err(ExtractError::Archive)?;
    extractor.set_directory_times();
    Ok(())
}

struct Extractor<'a> {
    root: &'a Root,
    /// Where entries go, in the root.
    path: Vec<u8>,
    /// The same for errors.
    name: Vec<u8>,
    dir: Rc<OwnedFd>,
    options: Options,
    known: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Set last: every entry put into a directory changes them.
    directories: Vec<(Vec<u8>, Timestamps)>,
}

impl<'a> Extractor<'a> {
    fn open(
        destination: &Destination<'a>,
        options: Options,
    ) -> Result<Extractor<'a>, ExtractError> {
        let Destination { root, path, shown } = destination;
        let path = clean(&[b"/", *path].concat());
        let dir = root.open_dir(&path).map_err(|errno| ExtractError::Entry {
            step: "open",
            path: shown.to_vec(),
            errno,
        })?;
        Ok(Extractor {
            root,
            path,
            name: shown.to_vec(),
            dir: Rc::new(dir),
            options,
            known: HashMap::new(),
            directories: Vec::new(),
        })
    }

    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), ExtractError> {
        let Some(path) = self.inside(&entry.path)? else {
            // The destination itself stays as it is.
            return Ok(());
        };
        let (parents, name) = split(&path);
        let shown = self.shown(&path);
        let failed = |step| {
            let path = &shown;
            move |errno| ExtractError::Entry {
                step,
                path: path.clone(),
                errno,
            }
        };
        let parent = self.parent(parents).map_err(failed("mkdir"))?;
        let existing = self.make_room(&parent, name, entry, &path)?;
        let dir = parent.as_fd();
        match entry.kind {
            Kind::Directory => {
                let fd = if existing {
                    open_made(dir, name, OFlags::DIRECTORY)
                } else {
                    mkdirat(dir, name, Mode::from_raw_mode(0o700))
                        .and_then(|()| open_made(dir, name, OFlags::DIRECTORY))
                };
                let fd = fd.map_err(failed("mkdir"))?;
                self.finish(&fd, entry).map_err(failed("chmod"))?;
                self.directories.push((path, timestamps(entry)));
            }
            Kind::File => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd =
                    openat(dir, name, flags, Mode::from_raw_mode(0o600)).map_err(failed("open"))?;
                write_content(&fd, entry, reader, failed("write"))?;
                self.finish(&fd, entry).map_err(failed("chmod"))?;
                futimens(&fd, &timestamps(entry)).map_err(failed("chtimes"))?;
            }
            Kind::Symlink => {
                symlinkat(entry.link.as_slice(), dir, name).map_err(failed("symlink"))?;
                self.finish_named(dir, name, entry)
                    .map_err(failed("lchown"))?;
            }
            Kind::HardLink => {
                let (from, target) = self.hard_link_target(entry)?;
                linkat(from.as_fd(), target.as_slice(), dir, name, AtFlags::empty())
                    .map_err(failed("link"))?;
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                make_node(dir, name, entry).map_err(failed("mknod"))?;
                self.finish_named(dir, name, entry)
                    .map_err(failed("lchown"))?;
            }
            Kind::Other(flag) => {
                return Err(ExtractError::Refused(format!(
                    "unhandled tar header type {flag}"
                )));
            }
        }
        Ok(())
    }

    /// The cleaned path below the destination; `None` for the destination itself.
    fn inside(&self, path: &[u8]) -> Result<Option<Vec<u8>>, ExtractError> {
        let start = path.iter().position(|byte| *byte != b'/');
        let cleaned = clean(start.map_or(&[][..], |start| &path[start..]));
        if cleaned == b"." {
            return Ok(None);
        }
        if cleaned == b".." || cleaned.starts_with(b"../") {
            let (entry, root) = (
                String::from_utf8_lossy(path),
                String::from_utf8_lossy(&self.name),
            );
            return Err(ExtractError::Refused(format!(
                "{entry:?} is outside of {root:?}"
            )));
        }
        Ok(Some(cleaned))
    }

    /// Takes away what is in the way. True for a directory that stays.
    fn make_room(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        path: &[u8],
    ) -> Result<bool, ExtractError> {
        let failed = |step, errno| ExtractError::Entry {
            step,
            path: self.shown(path),
            errno,
        };
        let found = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed("lstat", errno)),
        };
        let wanted = entry.kind == Kind::Directory;
        if found && wanted {
            return Ok(true);
        }
        if self.options.no_overwrite_dir_non_dir && found != wanted {
            let shown = self.shown(path);
            let (path, root) = (
                String::from_utf8_lossy(&shown),
                String::from_utf8_lossy(&self.name),
            );
            let (old, new) = if found {
                ("directory", "non-directory")
            } else {
                ("non-directory", "directory")
            };
            return Err(ExtractError::Refused(format!(
                "cannot overwrite {old} {path:?} with {new} {root:?}"
            )));
        }
        remove_all(parent.as_fd(), name).map_err(|errno| failed("unlinkat", errno))?;
        self.known.clear();
        Ok(false)
    }

    fn hard_link_target(&mut self, entry: &Entry) -> Result<(Rc<OwnedFd>, Vec<u8>), ExtractError> {
        let refused = || {
            let link = String::from_utf8_lossy(&entry.link);
            let path = String::from_utf8_lossy(&entry.path);
            ExtractError::Refused(format!("invalid hardlink {path:?} -> {link:?}"))
        };
        let target = match self.inside(&entry.link) {
            Ok(Some(target)) => target,
            _ => return Err(refused()),
        };
        let (parents, name) = split(&target);
        let failed = |errno| ExtractError::Entry {
            step: "link",
            path: entry.link.clone(),
            errno,
        };
        let dir = self.find(parents).map_err(failed)?;
        Ok((dir, name.to_vec()))
    }

    /// The directory an entry goes into; missing ones are made.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let (parents, name) = split(path);
        let above = self.parent(parents)?;
        match mkdirat(&*above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let made = open_made(above.as_fd(), name, OFlags::DIRECTORY)?;
                // The process's umask must not matter.
                fchmod(&made, Mode::from_raw_mode(0o755))?;
                if let Some((uid, gid)) = self.options.owner {
                    fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                }
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        self.find(path)
    }

    fn find(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(self.dir.clone());
        }
        if let Some(dir) = self.known.get(path) {
            return Ok(dir.clone());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let found = match openat2(&*self.dir, path, flags, Mode::empty(), plain) {
            Err(Errno::LOOP | Errno::AGAIN) => self.root.open_dir(&below(&self.path, path)),
            found => found,
        };
        let dir = Rc::new(found?);
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        self.known.insert(path.to_vec(), dir.clone());
        Ok(dir)
    }

    fn shown(&self, path: &[u8]) -> Vec<u8> {
        below(&self.name, path)
    }

    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        if self.options.keep_own {
            return None;
        }
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        Some((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    /// Owner, then attributes and mode: changing the owner takes set-user-id bits and capabilities away.
    fn finish(&self, fd: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner(entry) {
            fchown(fd, Some(uid), Some(gid))?;
        }
        xattr::write(fd.as_fd(), &entry.xattrs)?;
        fchmod(fd, Mode::from_raw_mode(entry.mode))
    }

    fn finish_named(
        &self,
        dir: std::os::fd::BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner(entry) {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        rustix::fs::utimensat(dir, name, &timestamps(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// A directory that has gone again since is not missed.
    fn set_directory_times(&mut self) {
        for (path, times) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let Ok(dir) = self.find(&path) {
                let _ = futimens(&*dir, &times);
            }
        }
    }
}

fn below(dir: &[u8], path: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash, path].concat()
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn open_made(
    dir: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn make_node(dir: std::os::fd::BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    let kind = match entry.kind {
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = rustix::fs::makedev(entry.device.0, entry.device.1);
    mknodat(dir, name, kind, Mode::from_raw_mode(entry.mode), device)
}

/// Access time is never before modification time, as Docker does.
fn timestamps(entry: &Entry) -> Timestamps {
    let spec = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanos),
    };
    Timestamps {
        last_access: spec(
            entry
                .atime
                .map_or(entry.mtime, |atime| atime.max(entry.mtime)),
        ),
        last_modification: spec(entry.mtime),
    }
}

/// Writes the data, each stored piece at its place.
fn write_content<R: BufRead>(
    fd: &OwnedFd,
    entry: &Entry,
    reader: &mut TarReader<R>,
    failed: impl Fn(Errno) -> ExtractError,
) -> Result<(), ExtractError> {
    let whole = [(0, entry.size)];
    let segments = entry
        .sparse
        .as_ref()
        .map_or(&whole[..], |sparse| &sparse.segments);
    for (offset, length) in segments {
        let (mut offset, mut left) = (*offset, *length);
        while left > 0 {
            let data = reader.data().map_err(ExtractError::Archive)?;
            let n = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let written = rustix::io::pwrite(fd, &data[..n], offset).map_err(&failed)?;
            reader.consume(written);
            offset += written as u64;
            left -= written as u64;
        }
    }
    match &entry.sparse {
        Some(sparse) => rustix::fs::ftruncate(fd, sparse.real_size).map_err(failed),
        None => Ok(()),
    }
}
