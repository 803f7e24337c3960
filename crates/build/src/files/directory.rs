//! A tree below an open directory: an image's layers, merged by the kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, major, minor};
use rustix::io::Errno;
use wharf_archive::root::{Descriptors, Root};
use wharf_archive::tar::{Entry, Kind, Time};
use wharf_archive::xattr;

use super::{Content, Files, Node};

/// A directory nothing writes to while this lives.
pub struct Directory {
    root: Root,
    /// What must live as long.
    _keep: Box<dyn std::any::Any + Send + Sync>,
}

impl Directory {
    /// `root` is a directory; `keep` lives as long as this does.
    pub fn new(root: OwnedFd, keep: impl Send + Sync + 'static) -> io::Result<Directory> {
        Ok(Directory {
            root: Root::new(root, Descriptors::open()?),
            _keep: Box::new(keep),
        })
    }

    /// Looks at a path without following a link at its end, whatever follows its name.
    fn look(&self, path: &[u8]) -> Result<(OwnedFd, Stat), Errno> {
        let fd = self.root.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
        Ok((fd, stat))
    }

    fn attributes(&self, fd: BorrowedFd<'_>, kind: Kind) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let flags = match kind {
            Kind::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
            Kind::File => OFlags::RDONLY,
            _ => return Ok(Vec::new()),
        };
        let open = self.root.descriptors.reopen(fd, flags)?;
        Ok(xattr::read(open.as_fd())?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Files for Directory {
    fn resolve(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let path = self.root.resolve(path)?;
        Ok(path.strip_prefix(b"/").unwrap_or(&path).to_vec())
    }

    fn entry(&self, path: &[u8]) -> io::Result<Option<Node>> {
        let (fd, stat) = match self.look(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            result => result?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            // A single layer is looked at as it lies: this is its mark of what is gone.
            FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(None),
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            // Sockets cannot be archived.
            _ => return Ok(None),
        };
        let link = if kind == Kind::Symlink {
            rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes()
        } else {
            Vec::new()
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let several = kind != Kind::Directory && stat.st_nlink > 1;
        let entry = Entry {
            path: path.to_vec(),
            link,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if kind == Kind::File { size } else { 0 },
            mtime: Time {
                seconds: stat.st_mtime,
                nanos: 0,
            },
            atime: None,
            device: match kind {
                Kind::CharDevice | Kind::BlockDevice => (major(stat.st_rdev), minor(stat.st_rdev)),
                _ => (0, 0),
            },
            xattrs: self.attributes(fd.as_fd(), kind)?,
            sparse: None,
        };
        Ok(Some(Node {
            entry,
            inode: several.then_some((stat.st_dev, stat.st_ino)),
        }))
    }

    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = self.root.open(path, flags)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn content(&self, path: &[u8]) -> io::Result<Content> {
        let (fd, stat) = self.look(path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        let file = self.root.descriptors.reopen(fd.as_fd(), OFlags::RDONLY)?;
        Ok(Content::Part {
            file: Arc::new(File::from(file)),
            offset: 0,
            length: u64::try_from(stat.st_size).unwrap_or(0),
        })
    }

    fn known_digest(&self, _path: &[u8]) -> Option<[u8; 32]> {
        None
    }
}
