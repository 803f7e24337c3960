//! A directory tree copied into another directory of this host: hard links, holes, extended attributes, owners and times stay; file content is
//! shared where the file system can do that (`copy_file_range` makes reflinks on btrfs and XFS).
//!
//! Safe to repeat after an interruption: a file gets its name when it is complete, and what has its name already is left alone.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Stat, Timespec, Timestamps,
    Uid, copy_file_range, fchmod, fchown, futimens, linkat, mkdirat, mknodat, openat, readlinkat,
    renameat_with, seek, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::xattr;

/// Name of a file that is not complete yet.
const PART: &str = ".wharf-copy-part";
/// Deeper trees than any path can name are refused.
const MAX_DEPTH: usize = 2048;

/// Copies what is in `from` into `to`, and the attributes of `from` itself.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut links = Links {
        root: to,
        known: HashMap::new(),
    };
    copy_directory(from, to, b"", &mut links, MAX_DEPTH)
}

/// Files with several names, by inode, with the first name below the root of the copy.
struct Links<'a> {
    root: BorrowedFd<'a>,
    known: HashMap<(u64, u64), Vec<u8>>,
}

fn copy_directory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    path: &[u8],
    links: &mut Links<'_>,
    depth: usize,
) -> io::Result<()> {
    if depth == 0 {
        return Err(Errno::NAMETOOLONG.into());
    }
    // Of an interrupted copy.
    match unlinkat(to, PART, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    for name in names(from)? {
        let stat = statat(from, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        let path = if path.is_empty() {
            name.to_bytes().to_vec()
        } else {
            [path, b"/", name.to_bytes()].concat()
        };
        let pair = Pair {
            from,
            to,
            name: &name,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let source = open_dir(from, &name)?;
                let target = pair.make_directory()?;
                copy_directory(source.as_fd(), target.as_fd(), &path, links, depth - 1)?;
            }
            _ if pair.is_there() => {}
            _ if links.link(&pair, &stat)? => {}
            FileType::RegularFile => pair.copy_file(&stat)?,
            FileType::Symlink => pair.copy_link(&stat)?,
            _ => pair.copy_node(&stat)?,
        }
        links.remember(&stat, path);
    }
    let stat = rustix::fs::fstat(from)?;
    finish(from, to, &stat)
}

impl Links<'_> {
    fn link(&self, pair: &Pair<'_>, stat: &Stat) -> io::Result<bool> {
        let Some(first) = self.known.get(&(stat.st_dev, stat.st_ino)) else {
            return Ok(false);
        };
        linkat(
            self.root,
            first.as_slice(),
            pair.to,
            pair.name.as_c_str(),
            AtFlags::empty(),
        )?;
        Ok(true)
    }

    fn remember(&mut self, stat: &Stat, path: Vec<u8>) {
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_nlink > 1 && !is_dir {
            self.known.entry((stat.st_dev, stat.st_ino)).or_insert(path);
        }
    }
}

/// One name in both directories.
struct Pair<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    name: &'a CString,
}

impl Pair<'_> {
    fn is_there(&self) -> bool {
        statat(self.to, self.name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn make_directory(&self) -> io::Result<OwnedFd> {
        match mkdirat(self.to, self.name.as_c_str(), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        open_dir(self.to, self.name)
    }

    fn copy_file(&self, stat: &Stat) -> io::Result<()> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = openat(self.from, self.name.as_c_str(), read, Mode::empty())?;
        let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = openat(self.to, PART, write, Mode::from_raw_mode(0o600))?;
        let copied = copy_content(&source, &target, u64::try_from(stat.st_size).unwrap_or(0))
            .and_then(|()| finish(source.as_fd(), target.as_fd(), stat))
            .and_then(|()| self.name_part());
        if copied.is_err() {
            let _ = unlinkat(self.to, PART, AtFlags::empty());
        }
        copied
    }

    fn name_part(&self) -> io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        match renameat_with(self.to, PART, self.to, self.name.as_c_str(), flags) {
            // Not every file system knows the flag.
            Err(Errno::INVAL) => Ok(rustix::fs::renameat(
                self.to,
                PART,
                self.to,
                self.name.as_c_str(),
            )?),
            result => Ok(result?),
        }
    }

    fn copy_link(&self, stat: &Stat) -> io::Result<()> {
        let target = readlinkat(self.from, self.name.as_c_str(), Vec::new())?;
        symlinkat(target, self.to, self.name.as_c_str())?;
        self.finish_named(stat)
    }

    fn copy_node(&self, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        mknodat(
            self.to,
            self.name.as_c_str(),
            kind,
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            stat.st_rdev,
        )?;
        self.finish_named(stat)
    }

    fn finish_named(&self, stat: &Stat) -> io::Result<()> {
        let (uid, gid) = owner(stat);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(
            self.to,
            self.name.as_c_str(),
            Some(uid),
            Some(gid),
            nofollow,
        )?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmodat(self.to, self.name.as_c_str(), mode, AtFlags::empty())?;
        }
        Ok(utimensat(
            self.to,
            self.name.as_c_str(),
            &times(stat),
            nofollow,
        )?)
    }
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// Owner first: changing it takes set-user-id bits and capabilities away.
fn finish(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    fchown(to, Some(uid), Some(gid))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    xattr::write(to, &xattr::read(from)?)?;
    Ok(futimens(to, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let spec = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies data where there is some; holes stay holes.
fn copy_content(source: &OwnedFd, target: &OwnedFd, size: u64) -> io::Result<()> {
    let mut position = 0;
    while position < size {
        let start = match seek(source, SeekFrom::Data(position)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            // No holes here.
            Err(_) => position,
        };
        let end = seek(source, SeekFrom::Hole(start)).map_or(size, |end| end.min(size));
        copy_range(source, target, start, end)?;
        position = end.max(start + 1);
    }
    Ok(rustix::fs::ftruncate(target, size)?)
}

fn copy_range(source: &OwnedFd, target: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let length = usize::try_from(end - from)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
            // The file has become shorter.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_bytes(source, target, from, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_bytes(source: &OwnedFd, target: &OwnedFd, mut from: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    while from < end {
        let wanted = buffer
            .len()
            .min(usize::try_from(end - from).unwrap_or(usize::MAX));
        let n = rustix::io::pread(source, &mut buffer[..wanted], from)?;
        if n == 0 {
            return Ok(());
        }
        let mut done = 0;
        while done < n {
            done += rustix::io::pwrite(target, &buffer[done..n], from + done as u64)?;
        }
        from += n as u64;
    }
    Ok(())
}

fn open_dir(parent: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name.as_c_str(), flags, Mode::empty())?)
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut entries = Dir::read_from(dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    #[test]
    fn copies_are_whole_and_repeatable() {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).expect("created");
        fs::create_dir(&to).expect("created");
        fs::write(from.join("sub/file"), "text").expect("written");
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4640))
            .expect("mode");
        fs::hard_link(from.join("sub/file"), from.join("other")).expect("link");
        symlink("/etc/passwd", from.join("link")).expect("link");
        let sparse = File::create(from.join("sparse")).expect("created");
        sparse.write_all_at(b"x", 4 << 20).expect("written");
        // Left by an interrupted copy.
        fs::create_dir(to.join("sub")).expect("created");
        fs::write(to.join("sub").join(PART), "half").expect("written");
        for _ in 0..2 {
            let (source, target) = (
                File::open(&from).expect("open"),
                File::open(&to).expect("open"),
            );
            copy_tree(source.as_fd(), target.as_fd()).expect("copied");
        }
        let stat = fs::metadata(to.join("sub/file")).expect("there");
        assert_eq!((stat.mode() & 0o7777, stat.nlink()), (0o4640, 2));
        assert_eq!(fs::read_to_string(to.join("other")).expect("read"), "text");
        assert_eq!(
            fs::read_link(to.join("link")).expect("read").to_str(),
            Some("/etc/passwd")
        );
        let copy = fs::metadata(to.join("sparse")).expect("there");
        assert_eq!(copy.len(), (4 << 20) + 1);
        assert!(copy.blocks() < 1000, "the hole stays");
        assert_eq!(
            fs::read_dir(to.join("sub")).expect("read").count(),
            1,
            "no part is left"
        );
    }
}
