//! Where the sources of a `COPY` or `ADD` go.

use std::collections::HashMap;
use std::io;

use wharf_archive::tar::Kind;

use super::chmod::Chmod;
use super::layer::{Layer, LayerError};
use super::source::{Source, below, walk};
use crate::files::{Content, Files, Node, join, split};
use crate::ignore::Patterns;

/// How copies are made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Owner of what is copied; `None` keeps the sources' owners.
    pub owner: Option<(u32, u32)>,
    /// Permissions.
    pub chmod: Option<Chmod>,
    /// What is left out of directories.
    pub exclude: Patterns,
    /// Keep the directories of the sources.
    pub parents: bool,
}

/// Puts one source at `destination`, an absolute path that may end in a slash. `tree` numbers the tree it comes from.
pub fn place(
    layer: &mut Layer<'_>,
    files: &dyn Files,
    source: &Source,
    destination: &str,
    options: &Options,
    tree: usize,
) -> Result<(), LayerError> {
    let mut target = layer.resolve(destination.as_bytes())?;
    if options.parents {
        let kept = source.path.get(source.pivot..).unwrap_or_default();
        let (directory, _) = split(kept).unwrap_or_default();
        let path = join_path(&target, directory);
        parent_directories(layer, files, source, &target, options, tree)?;
        if source.directory {
            let name = split(kept).map_or(&b""[..], |(_, name)| name);
            return directory_into(layer, files, source, &join_path(&path, name), options, tree);
        }
        return file_into(
            layer,
            files,
            source,
            &join_path(&path, last(&source.path)),
            options,
            tree,
        );
    }
    if source.directory {
        return directory_into(layer, files, source, &target, options, tree);
    }
    if destination.ends_with('/') || layer.is_directory(&target)? {
        target = join_path(&target, last(&source.path));
    }
    file_into(layer, files, source, &target, options, tree)
}

/// Puts the content of an archive's tree into `destination`, owners kept.
pub fn unpack(
    layer: &mut Layer<'_>,
    archive: &dyn Files,
    destination: &str,
    options: &Options,
    tree: usize,
) -> Result<(), LayerError> {
    let target = layer.resolve(destination.as_bytes())?;
    let root = Source {
        path: Vec::new(),
        resolved: Vec::new(),
        directory: true,
        pivot: 0,
    };
    let options = Options {
        owner: options.owner,
        chmod: options.chmod.clone(),
        ..Options::default()
    };
    directory_into(layer, archive, &root, &target, &options, tree)
}

fn join_path(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match (directory.is_empty(), name.is_empty()) {
        (_, true) => directory.to_vec(),
        _ => join(directory, name),
    }
}

fn last(path: &[u8]) -> &[u8] {
    split(path).map_or(path, |(_, name)| name)
}

/// The directories that `--parents` keeps, as they are in the source.
fn parent_directories(
    layer: &mut Layer<'_>,
    files: &dyn Files,
    source: &Source,
    target: &[u8],
    options: &Options,
    tree: usize,
) -> Result<(), LayerError> {
    let kept = source.path.get(source.pivot..).unwrap_or_default();
    let mut done = target.to_vec();
    let mut from = source.path[..source.pivot.min(source.path.len())].to_vec();
    while from.last() == Some(&b'/') {
        from.pop();
    }
    let Some((directories, _)) = split(kept) else {
        return Ok(());
    };
    for part in directories
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
    {
        done = join_path(&done, part);
        from = join_path(&from, part);
        if layer.is_directory(&done)? {
            continue;
        }
        if let Some(node) = files.entry(&files.resolve(&from)?)? {
            layer.put(&done, adjusted(node, options), None, tree)?;
        }
    }
    Ok(())
}

fn file_into(
    layer: &mut Layer<'_>,
    files: &dyn Files,
    source: &Source,
    target: &[u8],
    options: &Options,
    tree: usize,
) -> Result<(), LayerError> {
    if let Some((directory, _)) = split(target) {
        layer.make_directory(directory, options.owner.unwrap_or_default())?;
    }
    let node = files
        .entry(&source.resolved)?
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let content = content_of(files, &source.resolved, &node)?;
    layer.put(target, adjusted(node, options), content, tree)
}

/// What is in a directory goes into the target; the directory itself does not, so a new target has usual permissions.
fn directory_into(
    layer: &mut Layer<'_>,
    files: &dyn Files,
    source: &Source,
    target: &[u8],
    options: &Options,
    tree: usize,
) -> Result<(), LayerError> {
    layer.make_directory(target, options.owner.unwrap_or_default())?;
    let mut targets = Targets(HashMap::from([(Vec::new(), target.to_vec())]));
    let mut failed = None;
    walk(files, &source.resolved, &mut |path, node| {
        let name = below(path, &source.resolved);
        if is_excluded(options, source, name) {
            return Ok(());
        }
        let mut put = || {
            let content = content_of(files, path, node)?;
            let target = targets.of(layer, name, node)?;
            layer.put(&target, adjusted(node.clone(), options), content, tree)
        };
        if let Err(error) = put() {
            failed = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        Ok(())
    })
    .map_err(|error| failed.take().unwrap_or(LayerError::Io(error)))
}

/// Where each directory of the source went, so that links in the target are looked at once.
struct Targets(HashMap<Vec<u8>, Vec<u8>>);

impl Targets {
    /// The target of a name; a directory of the tree that is reached through a link stays that link.
    fn of(&mut self, layer: &Layer<'_>, name: &[u8], node: &Node) -> Result<Vec<u8>, LayerError> {
        let (directory, last) = split(name).unwrap_or_default();
        let path = match self.0.get(directory) {
            Some(target) => join_path(target, last),
            // Its directory is left out.
            None => join_path(self.0.get(&b""[..]).map_or(&[], Vec::as_slice), name),
        };
        if node.entry.kind != Kind::Directory {
            return Ok(path);
        }
        // As tar does: a directory of the archive does not take the place of a link to a directory.
        let through = layer.resolve(&path)?;
        let path = if through != path && layer.is_directory(&through)? {
            through
        } else {
            path
        };
        self.0.insert(name.to_vec(), path.clone());
        Ok(path)
    }
}

fn is_excluded(options: &Options, source: &Source, name: &[u8]) -> bool {
    if options.exclude.is_empty() {
        return false;
    }
    let name = if options.parents {
        join_path(source.path.get(source.pivot..).unwrap_or_default(), name)
    } else {
        name.to_vec()
    };
    options.exclude.excludes(&String::from_utf8_lossy(&name))
}

fn content_of(files: &dyn Files, path: &[u8], node: &Node) -> io::Result<Option<Content>> {
    if node.entry.kind == Kind::File {
        files.content(path).map(Some)
    } else {
        Ok(None)
    }
}

fn adjusted(mut node: Node, options: &Options) -> Node {
    if let Some((uid, gid)) = options.owner {
        (node.entry.uid, node.entry.gid) = (uid, gid);
    }
    if let Some(chmod) = &options.chmod
        && node.entry.kind != Kind::Symlink
    {
        node.entry.mode = chmod.apply(node.entry.mode, node.entry.kind == Kind::Directory);
    }
    node
}
