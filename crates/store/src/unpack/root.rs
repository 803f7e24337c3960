//! Directories of a layer being unpacked, opened inside its root and remembered.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Open directories kept at most; entries of one directory mostly follow each other.
const KEPT: usize = 64;
/// Mode of directories that the archive only implies.
const IMPLIED: u32 = 0o755;

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    /// Path from the root without symlinks or slashes at its ends; empty for the root.
    pub(super) path: Vec<u8>,
}

impl Dir {
    /// Path of an entry of this directory.
    pub(super) fn join(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() {
            name.to_vec()
        } else {
            [self.path.as_slice(), b"/", name].concat()
        }
    }
}

/// The root of the layer.
#[derive(Debug)]
pub(super) struct Root {
    dir: Rc<Dir>,
    /// Where the root is on the host, to take it off the kernel's answers.
    host_path: PathBuf,
    known: HashMap<Vec<u8>, Rc<Dir>>,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Root> {
        let fd = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let dir = Rc::new(Dir {
            fd,
            path: Vec::new(),
        });
        let host_path = host_path(&dir.fd)?;
        Ok(Root {
            dir,
            host_path,
            known: HashMap::new(),
        })
    }

    /// The directory `path`, followed through symlinks as a process rooted here would; missing parts are made.
    pub(super) fn ensure(&mut self, path: &[u8]) -> io::Result<Rc<Dir>> {
        if path.is_empty() {
            return Ok(self.dir.clone());
        }
        if let Some(dir) = self.known.get(path) {
            return Ok(dir.clone());
        }
        let dir = match self.resolve(path) {
            Err(Errno::NOENT) => self.make(path)?,
            found => Rc::new(found?),
        };
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        self.known.insert(path.to_owned(), dir.clone());
        Ok(dir)
    }

    /// The directory `path` if it is there; nothing is made.
    pub(super) fn find(&mut self, path: &[u8]) -> io::Result<Rc<Dir>> {
        if path.is_empty() {
            return Ok(self.dir.clone());
        }
        match self.known.get(path) {
            Some(dir) => Ok(dir.clone()),
            None => Ok(Rc::new(self.resolve(path)?)),
        }
    }

    /// To be called when a directory or symlink is taken away.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn resolve(&self, path: &[u8]) -> Result<Dir, Errno> {
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match self.open_at(path, plain) {
            Ok(fd) => {
                return Ok(Dir {
                    fd,
                    path: path.to_owned(),
                });
            }
            Err(Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
        let followed = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let fd = self.open_at(path, followed)?;
        let path = self.path_inside(&fd)?;
        Ok(Dir { fd, path })
    }

    fn open_at(&self, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat2(&self.dir.fd, path, flags, Mode::empty(), resolve) {
                // A rename elsewhere on the host raced with the check of `..` (openat2(2)).
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
    }

    fn path_inside(&self, fd: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let host =
            host_path(fd).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let inside = host
            .strip_prefix(&self.host_path)
            .map_err(|_| Errno::XDEV)?;
        Ok(inside.as_os_str().as_bytes().to_vec())
    }

    fn make(&mut self, path: &[u8]) -> io::Result<Rc<Dir>> {
        let (parents, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&[][..], path),
        };
        let parent = self.ensure(parents)?;
        match rustix::fs::mkdirat(&parent.fd, name, Mode::from_raw_mode(IMPLIED)) {
            // The process's umask must not decide what an image looks like.
            Ok(()) => rustix::fs::chmodat(
                &parent.fd,
                name,
                Mode::from_raw_mode(IMPLIED),
                rustix::fs::AtFlags::empty(),
            )?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Rc::new(self.resolve(path)?))
    }
}

fn host_path(fd: &OwnedFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
