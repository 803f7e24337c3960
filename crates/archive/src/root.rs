//! A root directory below which the kernel resolves every path, whoever changes the tree meanwhile.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Most links that one path may lead through, as in the kernel.
const MAX_LINKS: usize = 40;

/// The descriptors of this process as files, to open again what was only looked at. It must be opened where `/proc` is the host's.
#[derive(Debug, Clone)]
pub struct Descriptors(Arc<OwnedFd>);

impl Descriptors {
    /// Opens `/proc/self/fd`.
    pub fn open() -> io::Result<Descriptors> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        Ok(Descriptors(Arc::new(fd)))
    }

    /// Opens what `fd` (opened with `O_PATH`) is, whatever has its name by now.
    pub fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let name = fd.as_raw_fd().to_string();
        rustix::fs::openat(&*self.0, name, flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// The path of what `fd` is, as the kernel tells it to this thread.
    pub fn path_of(&self, fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let name = fd.as_raw_fd().to_string();
        Ok(rustix::fs::readlinkat(&*self.0, name, Vec::new())?.into_bytes())
    }
}

/// A root directory.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// For opening again.
    pub descriptors: Descriptors,
}

impl Root {
    /// `fd` is a directory; links to absolute paths start from it.
    pub fn new(fd: OwnedFd, descriptors: Descriptors) -> Root {
        Root { fd, descriptors }
    }

    /// A directory of this thread's own file system as a root.
    pub fn at(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Root::new(fd, Descriptors::open()?))
    }

    /// Opens a path as a process rooted here would, without the links of `/proc`, which could lead out.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = relative(path);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                // A rename elsewhere raced with the check of `..` (openat2(2)).
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
    }

    /// Opens a directory for reading or as a starting point.
    pub fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Looks at a path. A link at its end is not followed, unless a slash or a dot follows it, which asks for a directory.
    pub fn look(&self, path: &[u8]) -> Result<(OwnedFd, Stat), Errno> {
        let flags = if asks_for_directory(path) {
            OFlags::PATH | OFlags::DIRECTORY
        } else {
            OFlags::PATH | OFlags::NOFOLLOW
        };
        let fd = self.open(path, flags)?;
        let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
        Ok((fd, stat))
    }

    /// Opens a regular file for reading; anything else is refused without being opened.
    pub fn open_file(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let fd = self.open(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&fd)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        self.descriptors.reopen(fd.as_fd(), OFlags::RDONLY)
    }

    /// The absolute path without links that a path leads to. What does not exist is taken as written.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut pending: Vec<Vec<u8>> = parts_backwards(path);
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                done.pop();
                continue;
            }
            done.push(part);
            let Some(target) = self.link_at(&done.join(&b'/')) else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            pending.extend(parts_backwards(&target));
        }
        Ok([b"/", done.join(&b'/').as_slice()].concat())
    }

    fn link_at(&self, path: &[u8]) -> Option<Vec<u8>> {
        let fd = self.open(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        Some(
            rustix::fs::readlinkat(&fd, "", Vec::new())
                .ok()?
                .into_bytes(),
        )
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn parts_backwards(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let named = parts.filter(|part| !matches!(*part, b"" | b"."));
    named.rev().map(<[u8]>::to_vec).collect()
}

/// `openat2` takes an absolute path as one below the root too, but an empty one as an error.
fn relative(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// Whether a path ends in a slash or in a dot of its own.
pub fn asks_for_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || base(path) == b"."
}

/// The last name of a path, without slashes after it: `/` for the root, `.` for nothing (Go's `filepath.Base`).
pub fn base(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/');
    match end {
        None if path.is_empty() => b".",
        None => b"/",
        Some(end) => {
            let path = &path[..=end];
            let start = path.iter().rposition(|byte| *byte == b'/');
            &path[start.map_or(0, |slash| slash + 1)..]
        }
    }
}

/// A file name for functions that want one.
pub fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// A path without `.`, doubled slashes and, as far as they can be taken back, `..`; absolute paths stay so (Go's `path.Clean`).
pub fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b".." => drop(parts.pop()),
                _ if absolute => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (absolute, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_are_taken_apart_as_go_does() {
        for (path, expected) in [
            ("/a/b/", "b"),
            ("/", "/"),
            ("", "."),
            ("a", "a"),
            ("/a/.", "."),
            ("//", "/"),
        ] {
            assert_eq!(base(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        for (path, expected) in [
            ("/a/../b/.", "/b"),
            ("../x/..", ".."),
            ("./", "."),
            ("/..", "/"),
            ("a//b", "a/b"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        assert!(
            asks_for_directory(b"/a/.")
                && asks_for_directory(b"/a/")
                && !asks_for_directory(b"/a/b.")
        );
    }

    #[test]
    fn links_never_lead_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir_all(inside.join("etc")).expect("created");
        std::fs::write(&outside, "secret").expect("written");
        std::fs::write(inside.join("etc/passwd"), "inside").expect("written");
        symlink("/etc/passwd", inside.join("absolute")).expect("link");
        symlink("../../../outside", inside.join("up")).expect("link");
        symlink("b", inside.join("a")).expect("link");
        symlink("a", inside.join("b")).expect("link");
        symlink("/etc/gone/x", inside.join("dangling")).expect("link");
        let root = Root::at(&inside).expect("a root");
        assert!(root.open_file(b"/absolute").is_ok());
        assert_eq!(root.open_file(b"up").err(), Some(Errno::NOENT));
        assert_eq!(root.open_file(b"a").err(), Some(Errno::LOOP));
        assert_eq!(
            root.resolve(b"/absolute").as_deref(),
            Ok(&b"/etc/passwd"[..])
        );
        assert_eq!(root.resolve(b"up").as_deref(), Ok(&b"/outside"[..]));
        assert_eq!(
            root.resolve(b"dangling").as_deref(),
            Ok(&b"/etc/gone/x"[..])
        );
        assert_eq!(root.resolve(b"a").err(), Some(Errno::LOOP));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .expect("a pipe");
        let root = Root::at(dir.path()).expect("a root");
        assert_eq!(root.open_file(b"pipe").err(), Some(Errno::INVAL));
    }
}
