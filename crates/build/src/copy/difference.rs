//! What one tree has that another has not, as one layer: how `--squash` makes one of several.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use wharf_archive::tar::{Entry, Kind};

use super::layer::{Layer, LayerError};
use crate::files::{Content, Files, Node, file_entry, join};

/// Marks what is gone (OCI image-spec, layer, whiteouts).
const WHITEOUT: &[u8] = b".wh.";

/// Adds to `layer`, which stands on `old`, all that makes it `new`. Files that both have are told apart by their inodes: a tree that
/// stands on another shares its files.
pub fn difference(
    layer: &mut Layer<'_>,
    old: &dyn Files,
    new: &dyn Files,
) -> Result<(), LayerError> {
    directory(layer, old, new, b"").map(|_| ())
}

/// Whether there was anything.
fn directory(
    layer: &mut Layer<'_>,
    old: &dyn Files,
    new: &dyn Files,
    path: &[u8],
) -> Result<bool, LayerError> {
    let before: BTreeSet<Vec<u8>> = if is_directory(old, path)? {
        old.names(path)?.into_iter().collect()
    } else {
        BTreeSet::new()
    };
    let mut changed = false;
    let mut now = BTreeSet::new();
    for name in new.names(path)? {
        let below = join(path, &name);
        let Some(node) = new.entry(&below)? else {
            continue;
        };
        changed |= entry(layer, old, new, &below, node)?;
        now.insert(name);
    }
    for name in before.difference(&now) {
        let below = join(path, name);
        if old.entry(&below)?.is_none() {
            continue;
        }
        let mark = join(path, &[WHITEOUT, name].concat());
        let node = Node {
            entry: file_entry(&mark, 0, 0, 0),
            inode: None,
        };
        layer.put(&mark, node, None, 0)?;
        changed = true;
    }
    Ok(changed)
}

fn entry(
    layer: &mut Layer<'_>,
    old: &dyn Files,
    new: &dyn Files,
    path: &[u8],
    node: Node,
) -> Result<bool, LayerError> {
    let known = old.entry(path)?;
    let same = known.is_some_and(|known| is_same(&known.entry, &node.entry));
    if node.entry.kind == Kind::Directory {
        let below = directory(layer, old, new, path)?;
        if same && !below {
            return Ok(false);
        }
        layer.put(path, node, None, 0)?;
        return Ok(true);
    }
    let content = if node.entry.kind == Kind::File {
        let content = new.content(path)?;
        if same && is_same_file(&old.content(path)?, &content)? {
            return Ok(false);
        }
        Some(content)
    } else if same {
        return Ok(false);
    } else {
        None
    };
    layer.put(path, node, content, 0)?;
    Ok(true)
}

fn is_directory(files: &dyn Files, path: &[u8]) -> io::Result<bool> {
    let found = files.entry(path)?;
    Ok(path.is_empty() || found.is_some_and(|node| node.entry.kind == Kind::Directory))
}

fn is_same(a: &Entry, b: &Entry) -> bool {
    a.kind == b.kind
        && (a.mode, a.uid, a.gid, a.size, a.device) == (b.mode, b.uid, b.gid, b.size, b.device)
        && a.link == b.link
        && a.xattrs == b.xattrs
        && a.mtime.seconds == b.mtime.seconds
}

fn is_same_file(a: &Content, b: &Content) -> io::Result<bool> {
    match (a, b) {
        (Content::Part { file: a, .. }, Content::Part { file: b, .. }) => {
            Ok(a.metadata()?.ino() == b.metadata()?.ino())
        }
        (Content::Bytes(a), Content::Bytes(b)) => Ok(a == b),
        _ => Ok(false),
    }
}
