//! What an image holds, in memory: directories whole, of all else only where it lies.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::attributes::Attributes;
use super::format::FileKind;

/// Index of a node.
pub(super) type NodeId = usize;
/// The root directory.
pub(super) const ROOT: NodeId = 0;
/// Symlinks followed at most, as in the kernel.
const MAX_LINKS: usize = 40;
/// Longest name (`EROFS_NAME_LEN`).
const MAX_NAME: usize = 255;

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) attributes: Attributes,
    pub(super) parent: NodeId,
    pub(super) entries: BTreeMap<Box<[u8]>, NodeId>,
}

/// Anything else; its inode is in the file already.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) kind: FileKind,
    /// Where its inode is.
    pub(super) at: u64,
    /// Names it has; none if it was replaced.
    pub(super) links: u32,
    /// As Docker counts it: bytes of a file or of a symlink's target.
    pub(super) size: u64,
    /// A symlink's target.
    pub(super) target: Option<Box<[u8]>>,
    pub(super) is_whiteout: bool,
}

#[derive(Debug)]
pub(super) enum Node {
    Directory(Directory),
    Leaf(Leaf),
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Nothing,
    Directory,
    Whiteout,
    Other,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// The directory asked for last: entries of one mostly follow each other.
    last: Option<(Vec<u8>, NodeId)>,
    /// Attributes of directories that the archive only implies.
    implied: Attributes,
}

impl Tree {
    pub(super) fn new(implied: Attributes) -> Tree {
        let root = Directory {
            attributes: implied.clone(),
            ..Directory::default()
        };
        Tree {
            nodes: vec![Node::Directory(root)],
            last: None,
            implied,
        }
    }

    /// The directory `path`, followed through symlinks as a process rooted here would; missing parts are made.
    pub(super) fn ensure(&mut self, path: &[u8]) -> Result<NodeId, Errno> {
        if let Some((known, id)) = &self.last
            && known == path
        {
            return Ok(*id);
        }
        let id = match self.find(path) {
            Err(Errno::NOENT) => self.make(path)?,
            found => found?,
        };
        self.last = Some((path.to_vec(), id));
        Ok(id)
    }

    fn make(&mut self, path: &[u8]) -> Result<NodeId, Errno> {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = match slash {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&[][..], path),
        };
        let parent = self.ensure(parent)?;
        let attributes = self.implied.clone();
        match self.child(parent, name) {
            None => self.add_directory(parent, name, attributes),
            // A symlink that leads nowhere.
            Some(_) => Err(Errno::NOENT),
        }
    }

    /// The directory `path` if it is there.
    pub(super) fn find(&self, path: &[u8]) -> Result<NodeId, Errno> {
        let mut pending: Vec<&[u8]> = components(path).collect();
        let (mut at, mut links) = (ROOT, 0);
        while let Some(name) = pending.pop() {
            if name == b".." {
                at = self.directory(at).map_or(ROOT, |dir| dir.parent);
                continue;
            }
            let id = self.child(at, name).ok_or(Errno::NOENT)?;
            match &self.nodes[id] {
                Node::Directory(_) => at = id,
                Node::Leaf(leaf) => {
                    let target = leaf.target.as_deref().ok_or(Errno::NOTDIR)?;
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    pending.extend(components(target));
                }
            }
        }
        Ok(at)
    }

    pub(super) fn directory(&self, id: NodeId) -> Option<&Directory> {
        match self.nodes.get(id)? {
            Node::Directory(directory) => Some(directory),
            Node::Leaf(_) => None,
        }
    }

    pub(super) fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        match self.nodes.get_mut(id)? {
            Node::Directory(directory) => Some(directory),
            Node::Leaf(_) => None,
        }
    }

    pub(super) fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.directory(dir)?.entries.get(name).copied()
    }

    pub(super) fn entry(&self, dir: NodeId, name: &[u8]) -> Entry {
        match self.child(dir, name).map(|id| &self.nodes[id]) {
            None => Entry::Nothing,
            Some(Node::Directory(_)) => Entry::Directory,
            Some(Node::Leaf(leaf)) if leaf.is_whiteout => Entry::Whiteout,
            Some(Node::Leaf(_)) => Entry::Other,
        }
    }

    pub(super) fn add_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<NodeId, Errno> {
        let directory = Directory {
            attributes,
            parent,
            entries: BTreeMap::new(),
        };
        self.add(parent, name, Node::Directory(directory))
    }

    /// Gives a new node its name, which is free.
    pub(super) fn add(&mut self, parent: NodeId, name: &[u8], node: Node) -> Result<NodeId, Errno> {
        check_name(name)?;
        let id = self.nodes.len();
        self.nodes.push(node);
        if let Some(directory) = self.directory_mut(parent) {
            directory.entries.insert(name.into(), id);
        }
        Ok(id)
    }

    /// Another name for what is there already.
    pub(super) fn link(&mut self, parent: NodeId, name: &[u8], id: NodeId) -> Result<(), Errno> {
        check_name(name)?;
        match &mut self.nodes[id] {
            Node::Leaf(leaf) => leaf.links += 1,
            Node::Directory(_) => return Err(Errno::PERM),
        }
        if let Some(directory) = self.directory_mut(parent) {
            directory.entries.insert(name.into(), id);
        }
        Ok(())
    }

    /// Takes a name away, with all that is below.
    pub(super) fn remove(&mut self, parent: NodeId, name: &[u8]) {
        self.last = None;
        let removed = self
            .directory_mut(parent)
            .and_then(|directory| directory.entries.remove(name));
        let mut pending: Vec<NodeId> = removed.into_iter().collect();
        while let Some(id) = pending.pop() {
            match &mut self.nodes[id] {
                Node::Leaf(leaf) => leaf.links = leaf.links.saturating_sub(1),
                Node::Directory(directory) => {
                    pending.extend(std::mem::take(&mut directory.entries).into_values());
                }
            }
        }
    }

    /// Sizes of all that has a name, hard links once.
    pub(super) fn size(&self) -> u64 {
        let named = self.nodes.iter().map(|node| match node {
            Node::Leaf(leaf) if leaf.links > 0 => leaf.size,
            _ => 0,
        });
        named.sum()
    }
}

/// The parts of a path, last first.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.rsplit(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        name if name.len() > MAX_NAME => Err(Errno::NAMETOOLONG),
        name if name.contains(&0) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symlink(tree: &mut Tree, parent: &str, name: &str, target: &str) {
        let parent = tree.ensure(parent.as_bytes()).expect("a directory");
        let leaf = Leaf {
            kind: FileKind::Symlink,
            at: 0,
            links: 1,
            size: 0,
            target: Some(target.as_bytes().into()),
            is_whiteout: false,
        };
        tree.add(parent, name.as_bytes(), Node::Leaf(leaf))
            .expect("a free name");
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let mut tree = Tree::new(Attributes::default());
        let deep = tree.ensure(b"a/b").expect("made");
        symlink(&mut tree, "", "absolute", "/a/b");
        symlink(&mut tree, "a", "up", "../../../a/./b");
        symlink(&mut tree, "", "loop", "loop");
        symlink(&mut tree, "", "nowhere", "missing");
        for path in ["a/b", "absolute", "a/up", "../a/b", "a/up/../up"] {
            assert_eq!(tree.find(path.as_bytes()), Ok(deep), "{path}");
        }
        assert_eq!(tree.find(b"loop"), Err(Errno::LOOP));
        assert_eq!(tree.find(b"c"), Err(Errno::NOENT));
        assert_eq!(tree.ensure(b"nowhere"), Err(Errno::NOENT));
        assert_eq!(tree.ensure(b"nowhere/below"), Err(Errno::NOENT));
        let below = tree.ensure(b"absolute/new").expect("made");
        assert_eq!(tree.find(b"a/b/new"), Ok(below));
    }
}
