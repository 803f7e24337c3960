//! The build context: an uploaded tar, kept in one file without a name, and an index of it.
//!
//! Nothing is unpacked: a `COPY` reads its bytes from the archive. A killed daemon leaves nothing, since the file has no name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use wharf_archive::compression::{Compression, MAGIC_LEN};
use wharf_archive::tar::{Entry, Kind, TarReader};

use super::{Content, Files, Node, follow, split};

/// A context that is complete.
#[derive(Debug)]
pub struct Context {
    file: Arc<File>,
    entries: BTreeMap<Vec<u8>, Indexed>,
    /// Names by directory.
    names: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

#[derive(Debug, Clone)]
struct Indexed {
    entry: Entry,
    offset: u64,
    digest: [u8; 32],
    /// Set where there are several names.
    inode: Option<(u64, u64)>,
}

/// Why an upload is no context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The archive, or the connection it came over.
    #[error("{0}")]
    Archive(#[source] io::Error),
    /// The file it is kept in.
    #[error("unable to keep the build context: {0}")]
    Keep(#[source] io::Error),
}

impl Context {
    /// Takes in a tar, plain or compressed; it is kept in `directory`, which has no part in what it is called.
    pub fn receive(input: impl Read + Send, directory: &Path) -> Result<Context, ContextError> {
        let file = nameless(directory).map_err(ContextError::Keep)?;
        let mut input = BufReader::with_capacity(256 << 10, input);
        let compression = detect(&mut input).map_err(ContextError::Archive)?;
        let plain = compression.reader(input).map_err(ContextError::Archive)?;
        let plain = BufReader::with_capacity(256 << 10, plain);
        let mut receiver = Receiver {
            reader: TarReader::new(plain),
            out: BufWriter::with_capacity(256 << 10, file),
            position: 0,
            entries: BTreeMap::new(),
        };
        receiver.run()?;
        let file = receiver
            .out
            .into_inner()
            .map_err(|error| ContextError::Keep(error.into_error()))?;
        Ok(Context::index(file, receiver.entries))
    }

    /// A context with nothing in it.
    pub fn empty(directory: &Path) -> Result<Context, ContextError> {
        let file = nameless(directory).map_err(ContextError::Keep)?;
        Ok(Context::index(file, BTreeMap::new()))
    }

    /// A context of one file.
    pub fn of_file(
        name: &str,
        content: &Content,
        directory: &Path,
    ) -> Result<Context, ContextError> {
        let mut file = nameless(directory).map_err(ContextError::Keep)?;
        let mut hasher = Sha256::new();
        let keep = |piece: &[u8]| {
            hasher.update(piece);
            file.write_all(piece)
        };
        content.read(keep).map_err(ContextError::Keep)?;
        let mut entry = plain_entry(name.as_bytes().to_vec(), Kind::File, 0o644);
        entry.size = content.length();
        let indexed = Indexed {
            entry,
            offset: 0,
            digest: hasher.finalize().into(),
            inode: None,
        };
        let entries = BTreeMap::from([(name.as_bytes().to_vec(), indexed)]);
        Ok(Context::index(file, entries))
    }

    /// Forgets a path, as if it had not been sent.
    pub fn remove(&mut self, path: &[u8]) {
        self.entries.remove(path);
        if let Some((directory, name)) = split(path)
            && let Some(names) = self.names.get_mut(directory)
        {
            names.retain(|known| known != name);
        }
    }

    fn index(file: File, mut entries: BTreeMap<Vec<u8>, Indexed>) -> Context {
        add_missing_directories(&mut entries);
        let mut names: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for path in entries.keys() {
            if let Some((directory, name)) = split(path) {
                names
                    .entry(directory.to_vec())
                    .or_default()
                    .push(name.to_vec());
            }
        }
        names.values_mut().for_each(|names| names.sort());
        Context {
            file: Arc::new(file),
            entries,
            names,
        }
    }
}

impl Files for Context {
    fn resolve(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        follow(path, |path| {
            let found = self.entries.get(path)?;
            (found.entry.kind == Kind::Symlink).then(|| found.entry.link.clone())
        })
    }

    fn entry(&self, path: &[u8]) -> io::Result<Option<Node>> {
        if path.is_empty() && !self.entries.contains_key(path) {
            return Ok(Some(Node {
                entry: plain_entry(Vec::new(), Kind::Directory, 0o755),
                inode: None,
            }));
        }
        Ok(self.entries.get(path).map(|found| Node {
            entry: found.entry.clone(),
            inode: found.inode,
        }))
    }

    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Ok(self.names.get(path).cloned().unwrap_or_default())
    }

    fn content(&self, path: &[u8]) -> io::Result<Content> {
        let found = self
            .entries
            .get(path)
            .filter(|found| found.entry.kind == Kind::File)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Content::Part {
            file: self.file.clone(),
            offset: found.offset,
            length: found.entry.size,
        })
    }

    fn known_digest(&self, path: &[u8]) -> Option<[u8; 32]> {
        self.entries.get(path).map(|found| found.digest)
    }
}

struct Receiver<R> {
    reader: TarReader<R>,
    out: BufWriter<File>,
    position: u64,
    entries: BTreeMap<Vec<u8>, Indexed>,
}

impl<R: io::BufRead> Receiver<R> {
    fn run(&mut self) -> Result<(), ContextError> {
        while let Some(entry) = self.reader.next(&mut ()).map_err(ContextError::Archive)? {
            let path = normal(&entry.path);
            let offset = self.position;
            let digest = self.data()?;
            match entry.kind {
                Kind::Other(_) => continue,
                Kind::HardLink => self.hard_link(path, &entry.link),
                _ => self.add(path, entry, offset, digest),
            }
        }
        self.reader.drain(&mut ()).map_err(ContextError::Archive)
    }

    fn data(&mut self) -> Result<[u8; 32], ContextError> {
        let mut hasher = Sha256::new();
        loop {
            let piece = self.reader.data().map_err(ContextError::Archive)?;
            let length = piece.len();
            if length == 0 {
                return Ok(hasher.finalize().into());
            }
            hasher.update(piece);
            self.out.write_all(piece).map_err(ContextError::Keep)?;
            self.position += length as u64;
            self.reader.consume(length);
        }
    }

    fn add(&mut self, path: Vec<u8>, mut entry: Entry, offset: u64, digest: [u8; 32]) {
        entry.path.clone_from(&path);
        entry.mtime.nanos = 0;
        entry.atime = None;
        let replaces_directory = self
            .entries
            .get(&path)
            .is_some_and(|known| known.entry.kind == Kind::Directory);
        if entry.kind != Kind::Directory && replaces_directory {
            // What was a directory before has no content any more.
            let below = [path.as_slice(), b"/"].concat();
            self.entries.retain(|known, _| !known.starts_with(&below));
        }
        self.entries.insert(
            path,
            Indexed {
                entry,
                offset,
                digest,
                inode: None,
            },
        );
    }

    /// A second name of a file that is not there is none.
    fn hard_link(&mut self, path: Vec<u8>, target: &[u8]) {
        let number = self.entries.len() as u64;
        if let Some(first) = self.entries.get_mut(&normal(target)) {
            first.inode.get_or_insert((0, number));
            let mut second = first.clone();
            second.entry.path.clone_from(&path);
            self.entries.insert(path, second);
        }
    }
}

/// A file without a name.
pub fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        directory,
        flags,
        Mode::from_raw_mode(0o600),
    )?))
}

/// Looks at the first bytes without taking them.
fn detect(input: &mut impl io::BufRead) -> io::Result<Compression> {
    let start = input.fill_buf()?;
    Ok(Compression::detect(&start[..start.len().min(MAGIC_LEN)]))
}

fn plain_entry(path: Vec<u8>, kind: Kind, mode: u32) -> Entry {
    Entry::new(path, kind, mode)
}

fn add_missing_directories(entries: &mut BTreeMap<Vec<u8>, Indexed>) {
    let mut missing = Vec::new();
    for path in entries.keys() {
        let mut rest = path.as_slice();
        while let Some((directory, _)) = split(rest) {
            if directory.is_empty() || entries.contains_key(directory) {
                break;
            }
            missing.push(directory.to_vec());
            rest = directory;
        }
    }
    for path in missing {
        let entry = plain_entry(path.clone(), Kind::Directory, 0o755);
        entries.entry(path).or_insert(Indexed {
            entry,
            offset: 0,
            digest: [0; 32],
            inode: None,
        });
    }
}

/// A name of an archive as a path here; `..` goes up at most to the root.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_archive::tar::{encode, finish, write_padding};

    fn archive(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (path, kind, text) in entries {
            let mut entry = plain_entry(path.as_bytes().to_vec(), *kind, 0o644);
            match kind {
                Kind::File => entry.size = text.len() as u64,
                Kind::Symlink | Kind::HardLink => entry.link = text.as_bytes().to_vec(),
                _ => {}
            }
            encode(&entry, &mut tar);
            if *kind == Kind::File {
                tar.extend_from_slice(text.as_bytes());
                write_padding(&mut tar, entry.size).expect("memory");
            }
        }
        finish(&mut tar).expect("memory");
        tar
    }

    #[test]
    fn an_upload_can_be_read_in_any_order() {
        let tar = archive(&[
            ("./a/b", Kind::File, "content"),
            ("link", Kind::Symlink, "/a"),
            ("hard", Kind::HardLink, "a/b"),
            ("../up", Kind::File, "x"),
        ]);
        let context = Context::receive(tar.as_slice(), Path::new("/tmp")).expect("a context");
        assert_eq!(context.resolve(b"link/./b").expect("resolves"), b"a/b");
        assert_eq!(
            context.names(b"").expect("names"),
            [&b"a"[..], b"hard", b"link", b"up"]
        );
        for path in [&b"a/b"[..], b"hard"] {
            let content = context.content(path).expect("a file");
            assert_eq!(content.to_vec(100).expect("bytes"), b"content");
        }
        assert_eq!(
            context.known_digest(b"a/b").expect("hashed"),
            <[u8; 32]>::from(Sha256::digest(b"content"))
        );
        assert_eq!(
            context
                .entry(b"a")
                .expect("looks")
                .expect("is there")
                .entry
                .kind,
            Kind::Directory
        );
        assert!(context.entry(b"none").expect("looks").is_none());
    }

    #[test]
    fn links_in_circles_are_noticed() {
        let tar = archive(&[("a", Kind::Symlink, "b"), ("b", Kind::Symlink, "a")]);
        let context = Context::receive(tar.as_slice(), Path::new("/tmp")).expect("a context");
        assert!(context.resolve(b"a").is_err());
    }

    #[test]
    fn a_broken_upload_is_refused() {
        let tar = archive(&[("a", Kind::File, "content")]);
        assert!(Context::receive(&tar[..515], Path::new("/tmp")).is_err());
        assert!(
            Context::receive(
                &b"no archive at all, but long enough to be read"[..],
                Path::new("/tmp")
            )
            .is_err()
        );
    }
}
