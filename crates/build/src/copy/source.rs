//! The sources of a `COPY`: paths and patterns looked up in a tree, and what of them counts for the cache.

use std::io;

use sha2::{Digest as _, Sha256};
use wharf_archive::tar::Kind;

use crate::files::{Content, Files, join};
use crate::ignore::{Pattern, Patterns};
use crate::path::clean;

/// One file or directory to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As found, links in it not resolved; its last part names the copy.
    pub path: Vec<u8>,
    /// Where that leads to.
    pub resolved: Vec<u8>,
    /// It is a directory.
    pub directory: bool,
    /// Where the part begins that `--parents` keeps.
    pub pivot: usize,
}

/// Why sources cannot be used, in Docker's words, `COPY failed: ` not included.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not there.
    #[error("{}stat {path}: file does not exist", if *.context { "file not found in build context or excluded by .dockerignore: " } else { "" })]
    Missing {
        /// As written.
        path: String,
        /// Looked for in the build context.
        context: bool,
    },
    /// It leads out.
    #[error("forbidden path outside the build context: {0} ()")]
    Outside(String),
    /// Patterns that match nothing.
    #[error("no source files were specified")]
    Nothing,
    /// A pattern that is none.
    #[error("{0}")]
    Pattern(String),
    /// Reading failed.
    #[error("{}", io_text(.0))]
    Io(#[from] io::Error),
}

/// The C library's words, as Go prints them.
fn io_text(error: &io::Error) -> String {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => wharf_archive::extract::errno_text(errno),
        None => error.to_string(),
    }
}

/// Looks up paths and patterns. `context`: the tree is the build context. `parents`: of `--parents`.
pub fn find(
    files: &dyn Files,
    wanted: &[String],
    context: bool,
    parents: bool,
) -> Result<Vec<Source>, SourceError> {
    let mut found = Vec::new();
    for original in wanted {
        let (path, pivot) = if parents {
            pivot(original)
        } else {
            (original.clone(), 0)
        };
        let path = path.trim_start_matches('/');
        let path = path.strip_prefix("./").unwrap_or(path);
        if has_wildcards(path) {
            for matched in matching(files, path)? {
                found.push(look(files, &matched, original, context, pivot)?);
            }
            continue;
        }
        let cleaned = clean(path);
        if cleaned == ".." || cleaned.starts_with("../") {
            return Err(SourceError::Outside(path.to_owned()));
        }
        let cleaned = if cleaned == "." { "" } else { &cleaned };
        found.push(look(files, cleaned.as_bytes(), path, context, pivot)?);
    }
    if found.is_empty() {
        return Err(SourceError::Nothing);
    }
    Ok(found)
}

/// `a/./b`: only `b` is kept by `--parents`. Gives the clean path and how long the part before is.
fn pivot(path: &str) -> (String, usize) {
    let path = path.trim_start_matches('/');
    match path.split_once("/./") {
        Some((before, after)) => {
            let before = clean(before);
            let joined = format!("{before}/{after}");
            (joined, before.len() + 1)
        }
        None => {
            let path = path.strip_prefix("./").unwrap_or(path);
            (path.to_owned(), 0)
        }
    }
}

fn look(
    files: &dyn Files,
    path: &[u8],
    shown: &str,
    context: bool,
    pivot: usize,
) -> Result<Source, SourceError> {
    let resolved = files.resolve(path)?;
    let node = files
        .entry(&resolved)?
        .ok_or_else(|| SourceError::Missing {
            path: shown.trim_start_matches('/').to_owned(),
            context,
        })?;
    Ok(Source {
        path: path.to_vec(),
        resolved,
        directory: node.entry.kind == Kind::Directory,
        pivot,
    })
}

/// Whether a path is a pattern; escaped characters do not count.
fn has_wildcards(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Paths that match, in the order of a walk. Only what lies below the part without wildcards is looked at.
fn matching(files: &dyn Files, pattern: &str) -> Result<Vec<Vec<u8>>, SourceError> {
    let cleaned = clean(pattern);
    let compiled =
        Pattern::parse(&cleaned).map_err(|error| SourceError::Pattern(error.to_string()))?;
    let fixed = cleaned
        .find(['*', '?', '[', '\\'])
        .and_then(|at| cleaned[..at].rfind('/'))
        .map_or("", |at| &cleaned[..at]);
    let mut found = Vec::new();
    walk(files, fixed.as_bytes(), &mut |path, _| {
        if compiled.matches(&String::from_utf8_lossy(path)) {
            found.push(path.to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}

/// Visits everything below a directory, sorted, parents first; links are not followed.
pub(super) fn walk(
    files: &dyn Files,
    directory: &[u8],
    visit: &mut dyn FnMut(&[u8], &crate::files::Node) -> io::Result<()>,
) -> io::Result<()> {
    let Some(top) = files.entry(directory)? else {
        return Ok(());
    };
    if top.entry.kind != Kind::Directory {
        return Ok(());
    }
    let mut levels = vec![(directory.to_vec(), files.names(directory)?.into_iter())];
    while let Some((path, names)) = levels.last_mut() {
        let Some(name) = names.next() else {
            levels.pop();
            continue;
        };
        let path = join(path, &name);
        let Some(node) = files.entry(&path)? else {
            continue;
        };
        visit(&path, &node)?;
        if node.entry.kind == Kind::Directory {
            let names = files.names(&path)?.into_iter();
            levels.push((path, names));
        }
    }
    Ok(())
}

/// What stands for the sources in history and cache: `file:…`, `dir:…`, or `multi:…` for several.
///
/// Names, kinds, permissions, owners, link targets, attributes and contents count; times do not.
pub fn cache_text(
    files: &dyn Files,
    sources: &[Source],
    inline: &[(String, Content)],
    exclude: &Patterns,
) -> io::Result<String> {
    let mut texts = Vec::new();
    for source in sources {
        texts.push(if source.directory {
            directory_text(files, source, exclude)?
        } else {
            let name = String::from_utf8_lossy(&source.path).into_owned();
            format!(
                "file:{}",
                hash_node(files, &source.resolved, name.as_bytes())?
            )
        });
    }
    for (name, content) in inline {
        let mut hasher = Sha256::new();
        hasher.update(name.as_bytes());
        hasher.update([0]);
        content.read(|piece| {
            hasher.update(piece);
            Ok(())
        })?;
        texts.push(format!("file:{}", hex(&hasher.finalize())));
    }
    Ok(match texts.as_slice() {
        [one] => one.clone(),
        many => format!("multi:{}", hex(&Sha256::digest(many.join(",")))),
    })
}

fn directory_text(files: &dyn Files, source: &Source, exclude: &Patterns) -> io::Result<String> {
    let mut all = Sha256::new();
    walk(files, &source.resolved, &mut |path, _| {
        let below = below(path, &source.resolved);
        if !exclude.is_empty() && exclude.excludes(&String::from_utf8_lossy(below)) {
            return Ok(());
        }
        all.update(hash_node(files, path, below)?);
        all.update(b",");
        Ok(())
    })?;
    Ok(format!("dir:{}", hex(&all.finalize())))
}

/// The part of a path below a directory on the way to it.
pub(super) fn below<'a>(path: &'a [u8], directory: &[u8]) -> &'a [u8] {
    let rest = path.strip_prefix(directory).unwrap_or(path);
    rest.strip_prefix(b"/").unwrap_or(rest)
}

fn hash_node(files: &dyn Files, path: &[u8], name: &[u8]) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let Some(node) = files.entry(path)? else {
        return Ok(String::new());
    };
    let entry = &node.entry;
    field(name);
    field(format!("{:?}", entry.kind).as_bytes());
    for number in [
        entry.mode,
        entry.uid,
        entry.gid,
        entry.device.0,
        entry.device.1,
    ] {
        field(&number.to_le_bytes());
    }
    field(&entry.link);
    for (name, value) in &entry.xattrs {
        field(name);
        field(value);
    }
    if entry.kind == Kind::File {
        field(&content_digest(files, path)?);
    }
    Ok(hex(&hasher.finalize()))
}

fn content_digest(files: &dyn Files, path: &[u8]) -> io::Result<[u8; 32]> {
    if let Some(digest) = files.known_digest(path) {
        return Ok(digest);
    }
    let mut hasher = Sha256::new();
    files.content(path)?.read(|piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a content.
pub(crate) fn content_hex(content: &Content) -> io::Result<String> {
    let mut hasher = Sha256::new();
    content.read(|piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(hex(&hasher.finalize()))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
