//! Puts entries where they belong, and what was there before aside.

use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::node;
use super::root::{Dir, Root};
use super::{OPAQUE_XATTR, Place, UnpackError, Unpacked, failed, hard_link_target, step_of};
use crate::recipe::RecipeWriter;
use wharf_archive::tar::{Entry, Kind, TarReader};

/// Unpacks entries into one layer.
pub(super) struct Placer {
    root: Root,
    layer_dir: PathBuf,
    size: u64,
    /// Something was replaced, so `size` is no longer the sum of what came.
    replaced: bool,
    /// `shadow/` and the next number in it.
    shadow: Option<(OwnedFd, u64)>,
    /// Times of directories are set last: every entry put into one changes them.
    directories: Vec<(Vec<u8>, Vec<u8>, Timestamps)>,
}

/// What stood where an entry shall go.
#[derive(PartialEq, Eq)]
enum Before {
    /// Nothing of interest.
    Nothing,
    /// A whiteout of this layer.
    Whiteout,
}

impl Placer {
    pub(super) fn open(layer_dir: &Path) -> Result<Placer, UnpackError> {
        let diff = layer_dir.join("diff");
        let root = Root::open(&diff).map_err(UnpackError::layer("open", &diff))?;
        let layer_dir = layer_dir.to_owned();
        Ok(Placer {
            root,
            layer_dir,
            size: 0,
            replaced: false,
            shadow: None,
            directories: Vec::new(),
        })
    }
}

impl Place for Placer {
    /// Sets the times of directories and counts.
    fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (parents, name, times) in std::mem::take(&mut self.directories).into_iter().rev() {
            let path = [parents.as_slice(), b"/", name.as_slice()].concat();
            let Ok(dir) = self.root.find(&parents) else {
                continue;
            };
            match node::set_times(&dir.fd, &name, &times) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("chtimes", &path)(error));
                }
                _ => {}
            }
        }
        if self.replaced {
            let diff = self.layer_dir.join("diff");
            self.size = crate::size::of_tree(&diff).map_err(UnpackError::layer("read", &diff))?;
        }
        Ok(Unpacked { size: self.size })
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        reader: &mut TarReader<R>,
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let create = || rustix::fs::openat(&dir.fd, name, flags, mode);
        let (fd, _) = self.create(&dir, name, entry, recipe, create)?;
        write_content(&fd, entry, &dir.join(name), reader, recipe)?;
        node::finish_file(std::os::fd::AsFd::as_fd(&fd), entry)
            .map_err(failed("chmod", &entry.path))?;
        self.size += entry
            .sparse
            .as_ref()
            .map_or(entry.size, |sparse| sparse.real_size);
        Ok(())
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        if !self.is_directory(&dir, name) {
            let make = || rustix::fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o700));
            let ((), before) = self.create(&dir, name, entry, recipe, make)?;
            if before == Before::Whiteout {
                // The layer below may have a directory of this name, which the whiteout hid.
                let path = dir.join(name);
                self.opaque(&path)?;
            }
        }
        node::finish_name(&dir.fd, name, entry, true).map_err(failed("chmod", &entry.path))?;
        self.directories
            .push((dir.path.clone(), name.to_vec(), node::timestamps(entry)));
        Ok(())
    }

    fn symlink(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        self.create(&dir, name, entry, recipe, || {
            rustix::fs::symlinkat(entry.link.as_slice(), &dir.fd, name)
        })?;
        self.size += entry.link.len() as u64;
        self.finish_named(&dir, name, entry, false)
    }

    fn device(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        let file_type = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let make =
            || rustix::fs::mknodat(&dir.fd, name, file_type, Mode::from_raw_mode(0o600), device);
        self.create(&dir, name, entry, recipe, make)?;
        self.finish_named(&dir, name, entry, true)
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let (target_parents, target) = hard_link_target(entry)?;
        let from = self
            .root
            .find(&target_parents)
            .map_err(failed("link", &entry.path))?;
        let dir = self.parent(parents, &entry.path)?;
        if from.path == dir.path && target == name {
            // A link to itself: taking the old one away first would lose it.
            return Ok(());
        }
        // Without AT_SYMLINK_FOLLOW a symlink is linked itself, never what it points to.
        let link = || rustix::fs::linkat(&from.fd, target, &dir.fd, name, AtFlags::empty());
        self.create(&dir, name, entry, recipe, link).map(drop)
    }

    fn whiteout(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        let mode = Mode::from_raw_mode(0);
        match rustix::fs::mknodat(&dir.fd, hidden, FileType::CharacterDevice, mode, 0) {
            Ok(()) => {
                let (uid, gid) = (
                    rustix::fs::Uid::from_raw(entry.uid),
                    rustix::fs::Gid::from_raw(entry.gid),
                );
                rustix::fs::chownat(
                    &dir.fd,
                    hidden,
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
                .map_err(|error| failed("chown", &entry.path)(error.into()))
            }
            // A directory of this layer over one that it also removes: only the new content counts.
            Err(Errno::EXIST) if self.is_directory(&dir, hidden) => {
                let path = dir.join(hidden);
                self.opaque(&path)
            }
            // Whiteouts concern the layers below only (OCI image-spec, layer, "Whiteouts").
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failed("mknod", &entry.path)(error.into())),
        }
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let dir = self.parent(path, path)?;
        rustix::fs::fsetxattr(&dir.fd, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .map_err(|error| failed("setxattr", path)(error.into()))
    }
}

impl Placer {
    fn parent(&mut self, parents: &[u8], path: &[u8]) -> Result<Rc<Dir>, UnpackError> {
        self.root.ensure(parents).map_err(failed("mkdir", path))
    }

    fn is_directory(&self, dir: &Dir, name: &[u8]) -> bool {
        stat(dir, name)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    fn finish_named(
        &mut self,
        dir: &Dir,
        name: &[u8],
        entry: &Entry,
        chmod: bool,
    ) -> Result<(), UnpackError> {
        node::finish_name(&dir.fd, name, entry, chmod)
            .and_then(|()| node::set_times(&dir.fd, name, &node::timestamps(entry)))
            .map_err(failed("chmod", &entry.path))
    }

    /// Makes something; when the name is taken, puts the old one aside and tries once more.
    fn create<T>(
        &mut self,
        dir: &Dir,
        name: &[u8],
        entry: &Entry,
        recipe: &mut RecipeWriter,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<(T, Before), UnpackError> {
        match make() {
            Ok(made) => return Ok((made, Before::Nothing)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(step_of(entry.kind), &entry.path)(error.into())),
        }
        let before = self
            .put_aside(dir, name, recipe)
            .map_err(failed("replace", &entry.path))?;
        let made =
            make().map_err(|error| failed(step_of(entry.kind), &entry.path)(error.into()))?;
        Ok((made, before))
    }

    /// Files and directories may hold content the recipe needs, so they move to `shadow/`; the rest goes.
    fn put_aside(
        &mut self,
        dir: &Dir,
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> io::Result<Before> {
        self.replaced = true;
        let stat = stat(dir, name)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        self.root.forget();
        if !matches!(file_type, FileType::RegularFile | FileType::Directory) {
            rustix::fs::unlinkat(&dir.fd, name, AtFlags::empty())?;
            let whiteout = file_type == FileType::CharacterDevice && stat.st_rdev == 0;
            return Ok(if whiteout {
                Before::Whiteout
            } else {
                Before::Nothing
            });
        }
        let (shadow, n) = self.next_shadow()?;
        rustix::fs::renameat(&dir.fd, name, shadow, n.to_string())?;
        recipe.moved(&dir.join(name), n)?;
        Ok(Before::Nothing)
    }

    fn next_shadow(&mut self) -> io::Result<(&OwnedFd, u64)> {
        let (shadow, next) = match self.shadow.take() {
            Some(shadow) => shadow,
            None => {
                let path = self.layer_dir.join("shadow");
                rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                (rustix::fs::open(&path, flags, Mode::empty())?, 0)
            }
        };
        let (shadow, _) = self.shadow.insert((shadow, next + 1));
        Ok((shadow, next))
    }
}

fn stat(dir: &Dir, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Writes the entry's data, each stored piece at its place, and tells the recipe where it went.
fn write_content<R: BufRead>(
    fd: &OwnedFd,
    entry: &Entry,
    path: &[u8],
    reader: &mut TarReader<R>,
    recipe: &mut RecipeWriter,
) -> Result<(), UnpackError> {
    let Some(sparse) = &entry.sparse else {
        if entry.size > 0 {
            recipe
                .data(path, 0, entry.size)
                .map_err(failed("write", path))?;
        }
        return write_piece(fd, 0, entry.size, path, reader);
    };
    for (offset, length) in &sparse.segments {
        if *length > 0 {
            recipe
                .data(path, *offset, *length)
                .map_err(failed("write", path))?;
            write_piece(fd, *offset, *length, path, reader)?;
        }
    }
    rustix::fs::ftruncate(fd, sparse.real_size)
        .map_err(|error| failed("truncate", path)(error.into()))
}

fn write_piece<R: BufRead>(
    fd: &OwnedFd,
    mut offset: u64,
    mut length: u64,
    path: &[u8],
    reader: &mut TarReader<R>,
) -> Result<(), UnpackError> {
    while length > 0 {
        let data = reader.data().map_err(UnpackError::Archive)?;
        let n = data
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        let written = rustix::io::pwrite(fd, &data[..n], offset)
            .map_err(|error| failed("write", path)(error.into()))?;
        reader.consume(written);
        offset += written as u64;
        length -= written as u64;
    }
    Ok(())
}
