//! A directory tree, or one entry of a directory, as a tar.
//!
//! Entries come sorted, parents first, as Docker's. The tree may change meanwhile: what vanishes is left out, a file that
//! shrinks is filled up with zeros. Names are opened one by one below open directories, so no change leads out of the tree.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, major, minor, openat};
use rustix::io::Errno;

use crate::pieces::Pieces;
use crate::root::Descriptors;
use crate::tar::{BLOCK, Entry, Kind, Sparse, Time, encode, padding_of};
use crate::xattr;

/// Deeper trees than any path can name are cut off.
const MAX_DEPTH: usize = 2048;
/// Holes smaller than this are not worth a map.
const WORTH_A_MAP: u64 = 1 << 20;
/// More pieces than this are no sparse file worth the name.
const MAX_SEGMENTS: usize = 8192;

/// What a packer makes of what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The tree is an overlay's upper directory: its marks of what is gone become `.wh.` files.
    pub overlay: bool,
    /// Large holes are told rather than written. Not every reader understands that.
    pub sparse: bool,
    /// Leave out what lies on the kernel's own file systems.
    pub skip_kernel: bool,
}

/// Ranges of ids as they are found, as they are written, and how many; others stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// User ids.
    pub users: Vec<(u32, u32, u32)>,
    /// Group ids.
    pub groups: Vec<(u32, u32, u32)>,
}

impl Owners {
    fn written(ranges: &[(u32, u32, u32)], id: u32) -> u32 {
        let within = |&(found, written, size): &(u32, u32, u32)| {
            let offset = id.checked_sub(found).filter(|offset| *offset < size)?;
            written.checked_add(offset)
        };
        ranges.iter().find_map(within).unwrap_or(id)
    }
}

/// Writes one archive.
#[derive(Debug)]
pub struct Packer<'a> {
    out: Pieces<'a>,
    descriptors: Descriptors,
    options: Options,
    owners: Owners,
    /// First name of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    header: Vec<u8>,
}

/// A directory being walked.
struct Level {
    dir: OwnedFd,
    device: u64,
    names: std::vec::IntoIter<CString>,
    path: Vec<u8>,
}

impl<'a> Packer<'a> {
    /// An archive that goes to `out`.
    pub fn new(out: Pieces<'a>, descriptors: Descriptors, options: Options) -> Packer<'a> {
        Packer {
            out,
            descriptors,
            options,
            owners: Owners::default(),
            links: HashMap::new(),
            header: Vec::new(),
        }
    }

    /// Owners are written by other ids than those that are found.
    #[must_use]
    pub fn with_owners(mut self, owners: Owners) -> Packer<'a> {
        self.owners = owners;
        self
    }

    /// Adds `name` of the directory `parent`, under the name `path`, with everything below it.
    pub fn entry(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<()> {
        let name = CString::new(name)?;
        let device = rustix::fs::fstat(parent)?.st_dev;
        if let Some(level) = self.add(parent, device, &name, path.to_vec())? {
            self.walk(level)?;
        }
        Ok(())
    }

    /// Adds a directory with everything below it. `path` is its name in the archive, or `None` to add only what is in it, with names
    /// that start with no directory.
    pub fn directory(&mut self, dir: OwnedFd, path: Option<&[u8]>) -> io::Result<()> {
        let stat = rustix::fs::fstat(&dir)?;
        let level = Level {
            names: sorted_names(&dir)?,
            device: stat.st_dev,
            path: path.unwrap_or_default().to_vec(),
            dir,
        };
        if let Some(path) = path {
            let mut entry = self.describe(&stat, with_slash(path), Kind::Directory);
            entry.xattrs = xattr::read(level.dir.as_fd())?;
            self.put_header(&entry)?;
        }
        self.walk(level)
    }

    /// Adds `name` of the directory `parent` alone, under the name `path`.
    pub fn single(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<()> {
        let name = CString::new(name)?;
        let device = rustix::fs::fstat(parent)?.st_dev;
        match self.add(parent, device, &name, path.to_vec()) {
            Err(error) if vanished(&error) => Ok(()),
            added => added.map(drop),
        }
    }

    /// Marks a path of the layers below as gone (OCI image-spec, layer, "Whiteouts").
    pub fn removed(&mut self, path: &[u8]) -> io::Result<()> {
        let entry = Entry::new(whiteout(path), Kind::File, 0o600);
        self.put_header(&entry)
    }

    /// Writes an entry that is no file of the tree.
    pub fn put(&mut self, entry: &Entry, data: &[u8]) -> io::Result<()> {
        self.put_header(entry)?;
        self.out.bytes(data)?;
        self.out.zeros(padding_of(data.len() as u64) as u64)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.zeros(2 * BLOCK as u64)?;
        self.out.flush()
    }

    fn walk(&mut self, top: Level) -> io::Result<()> {
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            // What `fuse-overlayfs` keeps beside overlay's marks; no file of an image has such a name.
            if self.options.overlay && name.to_bytes().starts_with(b".wh.") {
                continue;
            }
            let path = join(&level.path, name.to_bytes());
            let found = self.add(level.dir.as_fd(), level.device, &name, path);
            match found {
                Ok(Some(next)) if levels.len() < MAX_DEPTH => levels.push(next),
                Ok(_) => {}
                Err(error) if vanished(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds one entry; a directory comes back to be walked.
    fn add(
        &mut self,
        parent: BorrowedFd<'_>,
        device: u64,
        name: &CString,
        path: Vec<u8>,
    ) -> io::Result<Option<Level>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name.as_c_str(), flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.add_directory(fd.as_fd(), &stat, device, path),
            FileType::RegularFile => self.add_file(fd.as_fd(), &stat, path).map(|()| None),
            FileType::Symlink => {
                let mut entry = self.describe(&stat, path, Kind::Symlink);
                entry.link = rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes();
                self.put_named(entry, &stat).map(|()| None)
            }
            FileType::CharacterDevice if self.options.overlay && stat.st_rdev == 0 => {
                self.put_whiteout(&path, &stat).map(|()| None)
            }
            FileType::CharacterDevice => self.add_device(&stat, path, Kind::CharDevice),
            FileType::BlockDevice => self.add_device(&stat, path, Kind::BlockDevice),
            FileType::Fifo => self.add_device(&stat, path, Kind::Fifo),
            // A socket without its owner is nothing, and tar has no word for it.
            _ => Ok(None),
        }
    }

    fn add_device(&mut self, stat: &Stat, path: Vec<u8>, kind: Kind) -> io::Result<Option<Level>> {
        let mut entry = self.describe(stat, path, kind);
        if kind != Kind::Fifo {
            entry.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        self.put_named(entry, stat).map(|()| None)
    }

    fn add_directory(
        &mut self,
        fd: BorrowedFd<'_>,
        stat: &Stat,
        device: u64,
        path: Vec<u8>,
    ) -> io::Result<Option<Level>> {
        let kernel = self.options.skip_kernel && stat.st_dev != device && is_kernels(fd);
        let dir = self
            .descriptors
            .reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entry = self.describe(stat, with_slash(&path), Kind::Directory);
        entry.xattrs = if kernel {
            Vec::new()
        } else {
            xattr::read(dir.as_fd())?
        };
        self.put_header(&entry)?;
        if self.options.overlay && is_opaque(dir.as_fd()) {
            self.put_mark(join(&path, b".wh..wh..opq"), stat)?;
        }
        let names = if kernel {
            Vec::new().into_iter()
        } else {
            sorted_names(&dir)?
        };
        Ok(Some(Level {
            dir,
            device: stat.st_dev,
            names,
            path,
        }))
    }

    fn add_file(&mut self, fd: BorrowedFd<'_>, stat: &Stat, path: Vec<u8>) -> io::Result<()> {
        let mut entry = self.describe(stat, path, Kind::File);
        if self.is_further_link(&mut entry, stat) {
            return self.put_header(&entry);
        }
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NOATIME;
        let file = match self.descriptors.reopen(fd, flags) {
            // Only an owner may leave the access time alone (open(2)); in a user namespace that is not us.
            Err(Errno::PERM) => self
                .descriptors
                .reopen(fd, flags.difference(OFlags::NOATIME))?,
            result => result?,
        };
        entry.xattrs = xattr::read(file.as_fd())?;
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        let stored = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if stored + WORTH_A_MAP <= entry.size
            && let Some(segments) = segments(&file, entry.size)
        {
            return self.put_pieces(entry, &file, segments);
        }
        self.put_header(&entry)?;
        let copied = self.out.file(&file, entry.size)?;
        self.out
            .zeros(entry.size - copied + padding_of(entry.size) as u64)
    }

    /// A file with holes: they are told or written, but not read.
    fn put_pieces(
        &mut self,
        mut entry: Entry,
        file: &OwnedFd,
        mut segments: Vec<(u64, u64)>,
    ) -> io::Result<()> {
        let size = entry.size;
        if self.options.sparse {
            if segments
                .last()
                .is_none_or(|(offset, length)| offset + length < size)
            {
                // The end of the file, as GNU tar marks it.
                segments.push((size, 0));
            }
            entry.size = segments.iter().map(|(_, length)| length).sum();
            entry.sparse = Some(Sparse {
                real_size: size,
                segments: segments.clone(),
            });
        }
        self.put_header(&entry)?;
        let mut position = 0;
        for (offset, length) in segments {
            if !self.options.sparse {
                self.out.zeros(offset - position)?;
            }
            rustix::fs::seek(file, rustix::fs::SeekFrom::Start(offset))?;
            let copied = self.out.file(file, length)?;
            self.out.zeros(length - copied)?;
            position = offset + length;
        }
        if !self.options.sparse {
            self.out.zeros(size - position)?;
        }
        self.out.zeros(padding_of(entry.size) as u64)
    }

    fn put_named(&mut self, mut entry: Entry, stat: &Stat) -> io::Result<()> {
        self.is_further_link(&mut entry, stat);
        self.put_header(&entry)
    }

    /// Makes a hard link of an entry whose inode has been written under another name.
    fn is_further_link(&mut self, entry: &mut Entry, stat: &Stat) -> bool {
        if stat.st_nlink < 2 {
            return false;
        }
        if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
            entry.kind = Kind::HardLink;
            entry.link.clone_from(first);
            entry.size = 0;
            entry.device = (0, 0);
            return true;
        }
        self.links
            .insert((stat.st_dev, stat.st_ino), entry.path.clone());
        false
    }

    fn put_whiteout(&mut self, path: &[u8], stat: &Stat) -> io::Result<()> {
        self.put_mark(whiteout(path), stat)
    }

    /// An empty file whose name says something (OCI image-spec, layer, "Whiteouts").
    fn put_mark(&mut self, path: Vec<u8>, stat: &Stat) -> io::Result<()> {
        let mut entry = self.describe(stat, path, Kind::File);
        entry.mode = 0o600;
        entry.size = 0;
        self.put_header(&entry)
    }

    fn put_header(&mut self, entry: &Entry) -> io::Result<()> {
        self.header.clear();
        encode(entry, &mut self.header);
        self.out.bytes(&self.header)
    }

    /// Times have whole seconds, as Docker writes them.
    fn describe(&self, stat: &Stat, path: Vec<u8>, kind: Kind) -> Entry {
        Entry {
            uid: Owners::written(&self.owners.users, stat.st_uid),
            gid: Owners::written(&self.owners.groups, stat.st_gid),
            mtime: Time {
                seconds: stat.st_mtime,
                nanos: 0,
            },
            ..Entry::new(path, kind, stat.st_mode & 0o7777)
        }
    }
}

fn whiteout(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (dir, name) = path.split_at(slash.map_or(0, |slash| slash + 1));
    [dir, b".wh.", name].concat()
}

/// Child of a path in the archive; a path that is empty or ends in a slash gets no other one.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() || path.ends_with(b"/") {
        [path, name].concat()
    } else {
        [path, b"/", name].concat()
    }
}

fn with_slash(path: &[u8]) -> Vec<u8> {
    if path.ends_with(b"/") {
        path.to_vec()
    } else {
        [path, b"/"].concat()
    }
}

/// Something that was there a moment ago; what cannot be read (a dead FUSE mount, say) is left out too, as Docker does.
fn vanished(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::NOENT
                | Errno::STALE
                | Errno::NOTCONN
                | Errno::ACCESS
                | Errno::PERM
                | Errno::NXIO
                | Errno::LOOP
        )
    )
}

fn sorted_names(dir: &OwnedFd) -> io::Result<std::vec::IntoIter<CString>> {
    let mut names = Vec::new();
    let mut entries = Dir::read_from(dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names.into_iter())
}

/// Overlay's mark of a directory that hides what is below (kernel's overlayfs.rst).
fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0; 4];
    rustix::fs::fgetxattr(dir, "trusted.overlay.opaque", &mut value[..])
        .is_ok_and(|length| value[..length] == *b"y")
}

/// File systems that show the kernel's state (`linux/magic.h`).
fn is_kernels(fd: BorrowedFd<'_>) -> bool {
    const MAGIC: [i64; 13] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0xcafe_4a11, // bpf
        0x7363_6673, // securityfs
        0x6265_6570, // configfs
        0x6573_5543, // fusectl
        0x6e73_6673, // nsfs
    ];
    rustix::fs::fstatfs(fd).is_ok_and(|stat| MAGIC.contains(&stat.f_type))
}

/// Where a file has data; `None` when its file system cannot tell or there is no hole worth it.
fn segments(file: &OwnedFd, size: u64) -> Option<Vec<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    let (mut found, mut position) = (Vec::new(), 0);
    while position < size {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if end > start {
            found.push((start, end - start));
        }
        if found.len() > MAX_SEGMENTS {
            return None;
        }
        position = end.max(start + 1);
    }
    let stored: u64 = found.iter().map(|(_, length)| length).sum();
    (stored + WORTH_A_MAP <= size).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::TarReader;
    use std::os::unix::fs::{FileExt, MetadataExt, symlink};
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .expect("a directory")
    }

    fn pack(
        options: Options,
        work: impl FnOnce(&mut Packer<'_>) -> io::Result<()>,
    ) -> Vec<(Entry, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut packer = Packer::new(
            Pieces::into_writer(&mut bytes),
            Descriptors::open().expect("proc"),
            options,
        );
        work(&mut packer).expect("packed");
        packer.finish().expect("finished");
        let mut reader = TarReader::new(&bytes[..]);
        let mut found = Vec::new();
        while let Some(entry) = reader.next(&mut ()).expect("readable") {
            let data = reader.take_data(usize::MAX).expect("data");
            found.push((entry, data));
        }
        found
    }

    fn names(found: &[(Entry, Vec<u8>)]) -> Vec<String> {
        found
            .iter()
            .map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned())
            .collect()
    }

    #[test]
    fn trees_come_sorted_with_links_and_odd_names() {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("b/c")).expect("created");
        std::fs::write(tree.join("b/file"), "text").expect("written");
        std::fs::hard_link(tree.join("b/file"), tree.join("z")).expect("link");
        symlink("/nowhere", tree.join("a")).expect("link");
        std::fs::write(tree.join(crate::root::name(b"\xff")), "odd").expect("written");
        std::os::unix::net::UnixListener::bind(tree.join("socket")).expect("a socket");
        let found = pack(Options::default(), |packer| {
            packer.entry(open(dir.path()).as_fd(), b"tree", b"as")
        });
        assert_eq!(
            names(&found),
            [
                "as/",
                "as/a",
                "as/b/",
                "as/b/c/",
                "as/b/file",
                "as/z",
                "as/\u{fffd}"
            ]
        );
        assert_eq!(
            (found[1].0.kind, &found[1].0.link[..]),
            (Kind::Symlink, &b"/nowhere"[..])
        );
        assert_eq!(
            (found[5].0.kind, &found[5].0.link[..]),
            (Kind::HardLink, &b"as/b/file"[..])
        );
        assert_eq!(
            (found[6].0.path.as_slice(), found[6].1.as_slice()),
            (&b"as/\xff"[..], &b"odd"[..])
        );
        let contents = pack(Options::default(), |packer| {
            packer.directory(open(&tree.join("b")), None)
        });
        assert_eq!(names(&contents), ["c/", "file"]);
        let root = pack(Options::default(), |packer| {
            packer.directory(open(&tree.join("b")), Some(b"/"))
        });
        assert_eq!(names(&root), ["/", "/c/", "/file"]);
    }

    #[test]
    fn holes_are_told_or_written() {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let file = std::fs::File::create(dir.path().join("sparse")).expect("created");
        file.write_all_at(b"middle", 3 << 20).expect("written");
        file.set_len(8 << 20).expect("grown");
        assert!(
            file.metadata().expect("stat").blocks() * 512 < 1 << 20,
            "the file system keeps holes"
        );
        for sparse in [false, true] {
            let options = Options {
                sparse,
                ..Options::default()
            };
            let found = pack(options, |packer| {
                packer.entry(open(dir.path()).as_fd(), b"sparse", b"s")
            });
            let (entry, data) = &found[0];
            let mut whole = vec![0; 8 << 20];
            match &entry.sparse {
                None => whole.copy_from_slice(data),
                Some(map) => {
                    assert!(data.len() < 1 << 20);
                    let mut from = 0;
                    for (offset, length) in &map.segments {
                        let whole_number = |n: u64| usize::try_from(n).expect("small");
                        let (offset, length) = (whole_number(*offset), whole_number(*length));
                        whole[offset..offset + length].copy_from_slice(&data[from..from + length]);
                        from += length;
                    }
                    assert_eq!(map.real_size, 8 << 20);
                }
            }
            assert_eq!(entry.sparse.is_some(), sparse);
            assert!(whole[3 << 20..].starts_with(b"middle\0"));
            assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), 6);
        }
    }
}
