//! Puts entries into an EROFS image. What a directory does by itself (links followed inside the root, names replaced) is done in
//! the image's tree; the recipe names content by its place in the image.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::{OPAQUE_XATTR, Place, UnpackError, Unpacked, failed, hard_link_target, node, step_of};
use crate::erofs::{self, Attributes, FileKind, FileSpace, ImageBuilder, TreeEntry};
use crate::recipe::RecipeWriter;
use wharf_archive::tar::{Entry, Kind, TarReader, invalid_header};

/// Writes one layer's image.
pub(super) struct ImagePlacer {
    image: ImageBuilder,
    path: PathBuf,
}

impl ImagePlacer {
    pub(super) fn create(layer_dir: &Path) -> Result<ImagePlacer, UnpackError> {
        let path = layer_dir.join(erofs::IMAGE);
        let file = File::create_new(&path).map_err(UnpackError::layer("create", &path))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        let image = ImageBuilder::new(file, now);
        Ok(ImagePlacer { image, path })
    }

    /// The directory of an entry, whose name is free then; what was replaced there.
    fn make_way(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
    ) -> Result<(usize, TreeEntry), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        let before = self.image.entry(dir, name);
        if before != TreeEntry::Nothing {
            self.image.remove(dir, name);
        }
        Ok((dir, before))
    }

    fn parent(&mut self, parents: &[u8], path: &[u8]) -> Result<usize, UnpackError> {
        let dir = self.image.ensure(parents).map_err(io::Error::from);
        dir.map_err(failed("mkdir", path))
    }

    /// Puts one stored piece of the entry's data where it belongs.
    fn piece<R: BufRead>(
        &mut self,
        space: FileSpace,
        mut offset: u64,
        mut length: u64,
        reader: &mut TarReader<R>,
        recipe: &mut RecipeWriter,
        path: &[u8],
    ) -> Result<(), UnpackError> {
        while length > 0 {
            let (mut at, mut run) = space.place(offset, length);
            recipe.data(b"", at, run).map_err(failed("write", path))?;
            offset += run;
            length -= run;
            while run > 0 {
                let data = reader.data().map_err(UnpackError::Archive)?;
                let n = data.len().min(usize::try_from(run).unwrap_or(usize::MAX));
                let written = self.image.write(space, at, &data[..n]);
                written.map_err(failed("write", path))?;
                reader.consume(n);
                at += n as u64;
                run -= n as u64;
            }
        }
        Ok(())
    }
}

impl Place for ImagePlacer {
    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        reader: &mut TarReader<R>,
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let (dir, _) = self.make_way(entry, parents, name)?;
        let sparse = entry.sparse.as_ref();
        let size = sparse.map_or(entry.size, |sparse| sparse.real_size);
        let whole = [(0, entry.size)];
        let segments = sparse.map_or(&whole[..], |sparse| &sparse.segments);
        let fits = |(offset, length): &(u64, u64)| {
            offset.checked_add(*length).is_some_and(|end| end <= size)
        };
        if !segments.iter().all(fits) {
            return Err(UnpackError::Archive(invalid_header()));
        }
        let space = self
            .image
            .file(dir, name, &attributes(entry), size)
            .map_err(failed("open", &entry.path))?;
        for (offset, length) in segments {
            self.piece(space, *offset, *length, reader, recipe, &entry.path)?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        _recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        let before = self.image.entry(dir, name);
        if !matches!(before, TreeEntry::Nothing | TreeEntry::Directory) {
            self.image.remove(dir, name);
        }
        let made = self.image.directory(dir, name, attributes(entry));
        let made = made.map_err(|errno| failed("mkdir", &entry.path)(errno.into()))?;
        if before == TreeEntry::Whiteout {
            // The layer below may have a directory of this name, which the whiteout hid.
            self.image.mark(made, OPAQUE_XATTR, b"y");
        }
        Ok(())
    }

    fn symlink(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        _recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let (dir, _) = self.make_way(entry, parents, name)?;
        let made = self
            .image
            .symlink(dir, name, &attributes(entry), &entry.link);
        made.map_err(failed("symlink", &entry.path))
    }

    fn device(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        _recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let (dir, _) = self.make_way(entry, parents, name)?;
        let kind = match entry.kind {
            Kind::CharDevice => FileKind::CharDevice,
            Kind::BlockDevice => FileKind::BlockDevice,
            _ => FileKind::Fifo,
        };
        let number = match kind {
            FileKind::Fifo => (0, 0),
            _ => entry.device,
        };
        let made = self
            .image
            .device(dir, name, &attributes(entry), kind, number);
        made.map_err(failed(step_of(entry.kind), &entry.path))
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        _recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError> {
        let (target_parents, target) = hard_link_target(entry)?;
        let failed = |errno: Errno| failed("link", &entry.path)(errno.into());
        let (from, found) = self.image.find(&target_parents, target).map_err(failed)?;
        let dir = self.parent(parents, &entry.path)?;
        if from == dir && target == name {
            // A link to itself: taking the old one away first would lose it.
            return Ok(());
        }
        if self.image.entry(from, target) == TreeEntry::Directory {
            return Err(failed(Errno::PERM));
        }
        self.image.link_over(dir, name, found).map_err(failed)
    }

    fn whiteout(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        let dir = self.parent(parents, &entry.path)?;
        match self.image.entry(dir, hidden) {
            TreeEntry::Nothing => {
                let mark = Attributes {
                    uid: entry.uid,
                    gid: entry.gid,
                    seconds: entry.mtime.seconds,
                    ..Attributes::default()
                };
                self.image
                    .device(dir, hidden, &mark, FileKind::CharDevice, (0, 0))
                    .map_err(failed("mknod", &entry.path))
            }
            // A directory of this layer over one that it also removes: only the new content counts.
            TreeEntry::Directory => {
                let path = [parents, b"/", hidden].concat();
                self.opaque(&path)
            }
            // Whiteouts concern the layers below only (OCI image-spec, layer, "Whiteouts").
            TreeEntry::Whiteout | TreeEntry::Other => Ok(()),
        }
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let dir = self.parent(path, path)?;
        self.image.mark(dir, OPAQUE_XATTR, b"y");
        Ok(())
    }

    fn finish(self) -> Result<Unpacked, UnpackError> {
        let size = self.image.size();
        let finished = self.image.finish();
        finished.map_err(UnpackError::layer("write", &self.path))?;
        Ok(Unpacked { size })
    }
}

/// Those of an entry, as a file system would have taken them.
fn attributes(entry: &Entry) -> Attributes {
    let mut attributes = Attributes {
        // Twelve bits.
        mode: u16::try_from(entry.mode & 0o7777).unwrap_or(0),
        uid: entry.uid,
        gid: entry.gid,
        seconds: entry.mtime.seconds,
        nanos: entry.mtime.nanos,
        xattrs: Vec::new(),
    };
    // `user.*` belongs to files and directories only (xattr(7)); Docker goes on without.
    let has_content = matches!(entry.kind, Kind::File | Kind::Directory);
    for (name, value) in node::settable(entry) {
        let name = name.as_bytes();
        if has_content || !name.starts_with(b"user.") {
            attributes.set_xattr(name, value);
        }
    }
    if entry.kind == Kind::Symlink {
        attributes.mode = 0o777;
    }
    attributes
}
