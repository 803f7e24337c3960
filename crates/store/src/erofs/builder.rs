//! Puts an image together: files as they come, directories at the end.

use std::fs::File;
use std::io;

use rustix::io::Errno;

use super::attributes::Attributes;
use super::directory::{self, DirEntry};
use super::format::{self, BLOCK, FileKind, INODE, Inode, LINKS_AT, SLOT, SUPERBLOCK, Superblock};
use super::output::Output;
use super::tree::{self, Entry, Leaf, Node, NodeId, Tree};

/// An inode with what lies behind it takes at most this, so that blocks of inodes fill well.
const INLINE: u64 = 2048;

/// See the module.
#[derive(Debug)]
pub(crate) struct ImageBuilder {
    output: Output,
    tree: Tree,
    /// Number of the next inode.
    next: u32,
    seconds: i64,
}

/// Where a file's bytes go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileSpace {
    blocks_at: u64,
    /// Bytes in blocks; the rest lies at `tail_at`.
    in_blocks: u64,
    tail_at: u64,
    is_inline: bool,
}

impl FileSpace {
    /// The piece at `offset`: its place in the image, and how many of the `length` bytes follow there.
    pub(crate) fn place(&self, offset: u64, length: u64) -> (u64, u64) {
        match self.in_blocks.checked_sub(offset) {
            Some(left) if left > 0 => (self.blocks_at + offset, left.min(length)),
            _ => (self.tail_at + (offset - self.in_blocks), length),
        }
    }

    fn is_tail(&self, at: u64) -> bool {
        // A tail shares its block with inodes only.
        self.is_inline && at / BLOCK == self.tail_at / BLOCK
    }
}

/// What a directory will be; its place in the image is decided before any entry is written.
struct Placed {
    id: NodeId,
    at: u64,
    space: FileSpace,
    size: u64,
    xattrs: Vec<u8>,
}

impl ImageBuilder {
    /// Starts an image in an empty file. `now` is the time of directories that the archive only implies.
    pub(crate) fn new(file: File, now: i64) -> ImageBuilder {
        let implied = Attributes {
            mode: 0o755,
            seconds: now,
            ..Attributes::default()
        };
        ImageBuilder {
            output: Output::new(file),
            tree: Tree::new(implied),
            next: 1,
            seconds: now,
        }
    }

    /// The directory `path`, followed through symlinks inside the image; missing parts are made.
    pub(crate) fn ensure(&mut self, path: &[u8]) -> Result<NodeId, Errno> {
        self.tree.ensure(path)
    }

    /// What a name stands for now.
    pub(crate) fn entry(&self, dir: NodeId, name: &[u8]) -> Entry {
        self.tree.entry(dir, name)
    }

    /// Takes a name away.
    pub(crate) fn remove(&mut self, dir: NodeId, name: &[u8]) {
        self.tree.remove(dir, name);
    }

    /// Bytes as Docker counts them.
    pub(crate) fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Adds a file, whose content is to be written into the space this returns.
    pub(crate) fn file(
        &mut self,
        dir: NodeId,
        name: &[u8],
        attributes: &Attributes,
        size: u64,
    ) -> io::Result<FileSpace> {
        let xattrs = format::encode_xattrs(&attributes.xattrs)?;
        let (at, space) = self.space(size, &xattrs)?;
        let inode = self.inode(FileKind::File, attributes, &xattrs, size, space);
        self.put_inode(at, &inode, &xattrs)?;
        self.add_leaf(dir, name, at, FileKind::File, size, None)?;
        Ok(space)
    }

    /// Writes a piece that [`FileSpace::place`] gave a place.
    pub(crate) fn write(&mut self, space: FileSpace, at: u64, bytes: &[u8]) -> io::Result<()> {
        if space.is_tail(at) {
            self.output.put(at, bytes)
        } else {
            self.output.write(at, bytes)
        }
    }

    /// Adds a symlink.
    pub(crate) fn symlink(
        &mut self,
        dir: NodeId,
        name: &[u8],
        attributes: &Attributes,
        target: &[u8],
    ) -> io::Result<()> {
        match target.len() as u64 {
            0 => return Err(Errno::NOENT.into()),
            length if length >= BLOCK => return Err(Errno::NAMETOOLONG.into()),
            _ => {}
        }
        let (xattrs, size) = (
            format::encode_xattrs(&attributes.xattrs)?,
            target.len() as u64,
        );
        let (at, space) = self.space(size, &xattrs)?;
        let inode = self.inode(FileKind::Symlink, attributes, &xattrs, size, space);
        self.put_inode(at, &inode, &xattrs)?;
        let (place, _) = space.place(0, size);
        self.write(space, place, target)?;
        self.add_leaf(dir, name, at, FileKind::Symlink, size, Some(target.into()))
    }

    /// Adds a device or pipe; a character device 0:0 is overlay's whiteout.
    pub(crate) fn device(
        &mut self,
        dir: NodeId,
        name: &[u8],
        attributes: &Attributes,
        kind: FileKind,
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        let xattrs = format::encode_xattrs(&attributes.xattrs)?;
        let (at, space) = self.space(0, &xattrs)?;
        let mut inode = self.inode(kind, attributes, &xattrs, 0, space);
        inode.address = format::device_number(major, minor);
        self.put_inode(at, &inode, &xattrs)?;
        self.add_leaf(dir, name, at, kind, 0, None)?;
        let is_whiteout = kind == FileKind::CharDevice && (major, minor) == (0, 0);
        if let Some(Node::Leaf(leaf)) = self.tree.nodes.last_mut() {
            leaf.is_whiteout = is_whiteout;
        }
        Ok(())
    }

    /// Adds a directory, or changes the attributes of one that is there.
    pub(crate) fn directory(
        &mut self,
        dir: NodeId,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<NodeId, Errno> {
        format::encode_xattrs(&attributes.xattrs)?;
        let old = self.tree.child(dir, name);
        let Some((id, old)) = old.and_then(|id| Some((id, self.tree.directory_mut(id)?))) else {
            return self.tree.add_directory(dir, name, attributes);
        };
        let xattrs = std::mem::take(&mut old.attributes.xattrs);
        let new = attributes.xattrs.clone();
        old.attributes = Attributes {
            xattrs,
            ..attributes
        };
        for (name, value) in new {
            old.attributes.set_xattr(&name, &value);
        }
        Ok(id)
    }

    /// Sets an extended attribute of a directory.
    pub(crate) fn mark(&mut self, dir: NodeId, name: &str, value: &[u8]) {
        if let Some(directory) = self.tree.directory_mut(dir) {
            directory.attributes.set_xattr(name.as_bytes(), value);
        }
    }

    /// The node of a name, for a hard link.
    pub(crate) fn find(&self, parents: &[u8], name: &[u8]) -> Result<(NodeId, NodeId), Errno> {
        let dir = self.tree.find(parents)?;
        let node = self.tree.child(dir, name).ok_or(Errno::NOENT)?;
        Ok((dir, node))
    }

    /// Another name for something that is no directory, in the place of what has it now.
    pub(crate) fn link_over(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: NodeId,
    ) -> Result<(), Errno> {
        self.tree.remove(dir, name);
        self.tree.link(dir, name, node)
    }

    /// Writes directories, counts of links and the superblock.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let placed = self.place_directories()?;
        let mut at = vec![0; self.tree.nodes.len()];
        for directory in &placed {
            at[directory.id] = directory.at;
        }
        let mut inodes = placed.len() as u64;
        for (id, node) in self.tree.nodes.iter().enumerate() {
            let Node::Leaf(leaf) = node else { continue };
            at[id] = leaf.at;
            inodes += u64::from(leaf.links > 0);
            if leaf.links > 1 {
                self.output
                    .put(leaf.at + LINKS_AT as u64, &leaf.links.to_le_bytes())?;
            }
        }
        let mut first = vec![0; format::BLOCK_LENGTH];
        for directory in &placed {
            self.write_directory(directory, &at, &mut first)?;
        }
        let seconds = self.seconds;
        self.output.finish(|blocks| {
            let superblock = Superblock {
                inodes,
                blocks,
                seconds,
            };
            superblock.encode(&mut first);
            first
        })
    }

    /// All directories from the root down, each with its place.
    fn place_directories(&mut self) -> io::Result<Vec<Placed>> {
        let (mut placed, mut pending) = (Vec::new(), vec![tree::ROOT]);
        while let Some(id) = pending.pop() {
            let Some(directory) = self.tree.directory(id) else {
                continue;
            };
            let below = directory.entries.values().copied();
            pending.extend(below.filter(|id| self.tree.directory(*id).is_some()));
            let size = directory::size(names(directory).into_iter());
            let xattrs = format::encode_xattrs(&directory.attributes.xattrs)?;
            let (at, space) = if id == tree::ROOT {
                self.root_space(size, &xattrs)?
            } else {
                self.space(size, &xattrs)?
            };
            placed.push(Placed {
                id,
                at,
                space,
                size,
                xattrs,
            });
        }
        Ok(placed)
    }

    fn write_directory(&mut self, placed: &Placed, at: &[u64], first: &mut [u8]) -> io::Result<()> {
        let Some(directory) = self.tree.directory(placed.id) else {
            return Ok(());
        };
        let number = |id: NodeId| at[id] / SLOT;
        let mut links = 2;
        let mut entries = Vec::with_capacity(directory.entries.len() + 2);
        for name in names(directory) {
            let id = match name {
                b"." => placed.id,
                b".." => directory.parent,
                name => directory.entries.get(name).copied().unwrap_or(placed.id),
            };
            let kind = match &self.tree.nodes[id] {
                Node::Directory(_) => FileKind::Directory,
                Node::Leaf(leaf) => leaf.kind,
            };
            links += u32::from(kind == FileKind::Directory && !matches!(name, b"." | b".."));
            entries.push(DirEntry {
                name,
                number: number(id),
                entry_type: kind.entry_type(),
            });
        }
        let bytes = directory::encode(&entries);
        let attributes = directory.attributes.clone();
        let mut inode = self.inode(
            FileKind::Directory,
            &attributes,
            &placed.xattrs,
            placed.size,
            placed.space,
        );
        inode.links = links;
        let blocks = usize::try_from(placed.space.in_blocks).unwrap_or(bytes.len());
        let (blocks, tail) = bytes.split_at(blocks.min(bytes.len()));
        self.output.write(placed.space.blocks_at, blocks)?;
        if placed.id == tree::ROOT {
            let start = SUPERBLOCK + 128;
            first[start..start + INODE].copy_from_slice(&inode.encode());
            first[start + INODE..start + INODE + placed.xattrs.len()]
                .copy_from_slice(&placed.xattrs);
            return Ok(());
        }
        self.put_inode(placed.at, &inode, &placed.xattrs)?;
        if tail.is_empty() {
            return Ok(());
        }
        self.output.put(placed.space.tail_at, tail)
    }

    /// Room for an inode and `size` bytes of content.
    fn space(&mut self, size: u64, xattrs: &[u8]) -> io::Result<(u64, FileSpace)> {
        let head = (INODE + xattrs.len()) as u64;
        let tail = size % BLOCK;
        let is_inline = tail > 0 && head + tail <= INLINE;
        let in_blocks = if is_inline { size - tail } else { size };
        let blocks_at = match in_blocks {
            0 => 0,
            bytes => u64::from(self.output.reserve(bytes)?) * BLOCK,
        };
        let at = self
            .output
            .allocate(head + if is_inline { tail } else { 0 })?;
        let space = FileSpace {
            blocks_at,
            in_blocks,
            tail_at: at + head,
            is_inline,
        };
        Ok((at, space))
    }

    /// The root's inode has its place, and the rest of the first block for attributes.
    fn root_space(&mut self, size: u64, xattrs: &[u8]) -> io::Result<(u64, FileSpace)> {
        if format::ROOT + (INODE + xattrs.len()) as u64 > BLOCK {
            return Err(Errno::NOSPC.into());
        }
        let space = FileSpace {
            blocks_at: u64::from(self.output.reserve(size)?) * BLOCK,
            in_blocks: size,
            tail_at: 0,
            is_inline: false,
        };
        Ok((format::ROOT, space))
    }

    fn inode(
        &mut self,
        kind: FileKind,
        attributes: &Attributes,
        xattrs: &[u8],
        size: u64,
        space: FileSpace,
    ) -> Inode {
        let number = self.next;
        self.next += 1;
        Inode {
            kind,
            is_inline: space.is_inline,
            xattr_len: xattrs.len(),
            mode: attributes.mode,
            size,
            // `reserve` gave it, so it fits.
            address: u32::try_from(space.blocks_at / BLOCK).unwrap_or(u32::MAX),
            number,
            uid: attributes.uid,
            gid: attributes.gid,
            seconds: attributes.seconds,
            nanos: attributes.nanos,
            links: 1,
        }
    }

    fn put_inode(&mut self, at: u64, inode: &Inode, xattrs: &[u8]) -> io::Result<()> {
        self.output.put(at, &inode.encode())?;
        if xattrs.is_empty() {
            return Ok(());
        }
        self.output.put(at + INODE as u64, xattrs)
    }

    fn add_leaf(
        &mut self,
        dir: NodeId,
        name: &[u8],
        at: u64,
        kind: FileKind,
        size: u64,
        target: Option<Box<[u8]>>,
    ) -> io::Result<()> {
        let leaf = Leaf {
            kind,
            at,
            links: 1,
            size,
            target,
            is_whiteout: false,
        };
        self.tree.add(dir, name, Node::Leaf(leaf))?;
        Ok(())
    }
}

/// All names of a directory, sorted as bytes, with those that every directory has.
fn names(directory: &tree::Directory) -> Vec<&[u8]> {
    let own = directory.entries.keys().map(|name| &**name);
    let mut names: Vec<&[u8]> = [&b"."[..], b".."].into_iter().chain(own).collect();
    names.sort_unstable();
    names
}
