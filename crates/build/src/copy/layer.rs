//! A layer under construction: what it adds to the tree below it, written as a tar in the end.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use wharf_archive::tar::{Entry, Kind, Time, encode, finish, write_padding};

use crate::files::{Content, Files, Node, split};

/// Additions to a tree.
pub struct Layer<'a> {
    base: &'a dyn Files,
    planned: BTreeMap<Vec<u8>, Planned>,
    now: Time,
    newest: Option<i64>,
}

struct Planned {
    entry: Entry,
    content: Option<Content>,
    /// Names of the same file have the same number.
    inode: Option<(usize, u64, u64)>,
}

/// Why something cannot be put somewhere.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A part of the way is no directory.
    #[error("mkdir /{}: not a directory", String::from_utf8_lossy(.0))]
    NotADirectory(Vec<u8>),
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl<'a> Layer<'a> {
    /// Nothing yet, above `base`. New directories get the time `now`, in seconds since 1970.
    pub fn new(base: &'a dyn Files, now: i64) -> Layer<'a> {
        Layer {
            base,
            planned: BTreeMap::new(),
            now: Time {
                seconds: now,
                nanos: 0,
            },
            newest: None,
        }
    }

    /// Files that are younger, in seconds since 1970, get this time instead.
    pub fn no_newer_than(&mut self, newest: Option<i64>) {
        self.newest = newest;
    }

    /// The tree below.
    pub fn base(&self) -> &'a dyn Files {
        self.base
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    /// Where a path leads to, links of this layer and of the tree below followed.
    pub fn resolve(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        if self.planned.is_empty() {
            return self.base.resolve(path);
        }
        crate::files::follow(path, |path| {
            let entry = self.look(path).ok()??;
            (entry.kind == Kind::Symlink).then_some(entry.link)
        })
    }

    /// What is at a path once this layer is there.
    pub fn look(&self, path: &[u8]) -> io::Result<Option<Entry>> {
        if let Some(planned) = self.planned.get(path) {
            return Ok(Some(planned.entry.clone()));
        }
        Ok(self.base.entry(path)?.map(|node| node.entry))
    }

    /// Whether a directory is there, without links.
    pub fn is_directory(&self, path: &[u8]) -> io::Result<bool> {
        let found = self.look(path)?;
        Ok(path.is_empty() || found.is_some_and(|entry| entry.kind == Kind::Directory))
    }

    /// Makes a directory and those on the way to it, where they are missing.
    pub fn make_directory(&mut self, path: &[u8], owner: (u32, u32)) -> Result<(), LayerError> {
        self.parents(path, owner)?;
        if path.is_empty() || self.planned.contains_key(path) {
            return self.check_directory(path);
        }
        match self.base.entry(path)? {
            Some(node) if node.entry.kind == Kind::Directory => Ok(()),
            Some(_) => Err(LayerError::NotADirectory(path.to_vec())),
            None => {
                let entry = self.new_directory(path, owner);
                self.insert(path, entry, None, None);
                Ok(())
            }
        }
    }

    fn check_directory(&self, path: &[u8]) -> Result<(), LayerError> {
        match self.planned.get(path) {
            Some(planned) if planned.entry.kind != Kind::Directory => {
                Err(LayerError::NotADirectory(path.to_vec()))
            }
            _ => Ok(()),
        }
    }

    /// Puts a file, link, device or directory at a path whose directory is without links. `tree` numbers the tree it comes from.
    pub fn put(
        &mut self,
        path: &[u8],
        node: Node,
        content: Option<Content>,
        tree: usize,
    ) -> Result<(), LayerError> {
        self.parents(path, (0, 0))?;
        let inode = node.inode.map(|(device, number)| (tree, device, number));
        self.insert(path, node.entry, content, inode);
        Ok(())
    }

    fn insert(
        &mut self,
        path: &[u8],
        mut entry: Entry,
        content: Option<Content>,
        inode: Option<(usize, u64, u64)>,
    ) {
        entry.path = path.to_vec();
        if entry.kind != Kind::Directory {
            let below = [path, b"/"].concat();
            let replaced: Vec<Vec<u8>> = self
                .planned
                .range(below.clone()..)
                .take_while(|(known, _)| known.starts_with(&below))
                .map(|(known, _)| known.clone())
                .collect();
            for path in replaced {
                self.planned.remove(&path);
            }
        }
        let planned = Planned {
            entry,
            content,
            inode,
        };
        self.planned.insert(path.to_vec(), planned);
    }

    /// Directories on the way, which an overlay has to have too: those that exist keep what they are, but for their time.
    fn parents(&mut self, path: &[u8], owner: (u32, u32)) -> Result<(), LayerError> {
        let mut missing = Vec::new();
        let mut rest = path;
        while let Some((directory, _)) = split(rest) {
            if directory.is_empty() {
                break;
            }
            if let Some(planned) = self.planned.get(directory) {
                if planned.entry.kind != Kind::Directory {
                    return Err(LayerError::NotADirectory(directory.to_vec()));
                }
                break;
            }
            missing.push(directory.to_vec());
            rest = directory;
        }
        for directory in missing.into_iter().rev() {
            let entry = match self.base.entry(&directory)? {
                Some(node) if node.entry.kind == Kind::Directory => Entry {
                    mtime: self.now,
                    ..node.entry
                },
                Some(_) => return Err(LayerError::NotADirectory(directory)),
                None => self.new_directory(&directory, owner),
            };
            self.insert(&directory, entry, None, None);
        }
        Ok(())
    }

    fn new_directory(&self, path: &[u8], (uid, gid): (u32, u32)) -> Entry {
        Entry {
            uid,
            gid,
            mtime: self.now,
            ..Entry::new(path.to_vec(), Kind::Directory, 0o755)
        }
    }

    /// Writes the layer as a tar.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut first_names: HashMap<(usize, u64, u64), &[u8]> = HashMap::new();
        let mut header = Vec::new();
        for (path, planned) in &self.planned {
            let mut entry = planned.entry.clone();
            if let Some(newest) = self.newest.filter(|newest| entry.mtime.seconds > *newest) {
                entry.mtime = Time {
                    seconds: newest,
                    nanos: 0,
                };
            }
            if entry.kind == Kind::Directory {
                entry.path.push(b'/');
            }
            let mut content = planned.content.as_ref();
            if let Some(inode) = planned.inode {
                if let Some(first) = first_names.get(&inode) {
                    entry.kind = Kind::HardLink;
                    entry.link = first.to_vec();
                    content = None;
                } else {
                    first_names.insert(inode, path);
                }
            }
            entry.size = content.map_or(0, Content::length);
            header.clear();
            encode(&entry, &mut header);
            out.write_all(&header)?;
            if let Some(content) = content {
                content.read(|piece| out.write_all(piece))?;
                write_padding(out, entry.size)?;
            }
        }
        finish(out)?;
        out.flush()
    }
}
