//! Trees of files that builds copy from and look at: the context, and images.

mod context;
mod directory;

pub use context::{Context, ContextError, nameless};
pub use directory::Directory;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use wharf_archive::tar::{Entry, Kind, Time};

/// A tree that does not change. Paths are relative, clean and without links, empty for the root, unless said otherwise.
pub trait Files: Send + Sync {
    /// The path that `path`, as anybody may write it, leads to inside the tree. What does not exist is taken as written.
    fn resolve(&self, path: &[u8]) -> io::Result<Vec<u8>>;

    /// What is at a path; its last part may be a link, which is not followed.
    fn entry(&self, path: &[u8]) -> io::Result<Option<Node>>;

    /// Names in a directory, sorted.
    fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>>;

    /// Content of a regular file.
    fn content(&self, path: &[u8]) -> io::Result<Content>;

    /// SHA-256 of a regular file's content, where it is known without reading it.
    fn known_digest(&self, path: &[u8]) -> Option<[u8; 32]>;
}

/// What is at a path.
#[derive(Debug, Clone)]
pub struct Node {
    /// As an archive would describe it.
    pub entry: Entry,
    /// Tells names of the same file, where it has several.
    pub inode: Option<(u64, u64)>,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In a part of a file.
    Part {
        /// The file.
        file: Arc<File>,
        /// Where they begin.
        offset: u64,
        /// How many there are.
        length: u64,
    },
    /// Here.
    Bytes(Arc<[u8]>),
}

impl Content {
    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        match self {
            Content::Part { length, .. } => *length,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Hands out all bytes in pieces. A file that has become shorter is filled up with zeros.
    pub fn read(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (file, offset, length) = match self {
            Content::Bytes(bytes) => return take(bytes),
            Content::Part {
                file,
                offset,
                length,
            } => (file, *offset, *length),
        };
        const PIECE: u64 = 128 << 10;
        let mut buffer = vec![0; usize::try_from(length.min(PIECE)).unwrap_or(0)];
        let mut done = 0;
        while done < length {
            let want = usize::try_from((length - done).min(PIECE)).unwrap_or(0);
            let got = file.read_at(&mut buffer[..want], offset + done)?;
            if got == 0 {
                buffer[..want].fill(0);
                take(&buffer[..want])?;
                done += want as u64;
                continue;
            }
            take(&buffer[..got])?;
            done += got as u64;
        }
        Ok(())
    }

    /// The bytes as a stream.
    pub fn reader(&self) -> ContentReader {
        ContentReader {
            content: self.clone(),
            position: 0,
        }
    }

    /// All bytes, if there are no more than `limit`.
    pub fn to_vec(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.length() > limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut all = Vec::new();
        self.read(|piece| {
            all.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(all)
    }
}

/// Reads a [`Content`] from its start.
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    position: u64,
}

impl io::Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.length() - self.position;
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let got = match &self.content {
            Content::Part { file, offset, .. } => {
                file.read_at(&mut buffer[..want], offset + self.position)?
            }
            Content::Bytes(bytes) => {
                let from = usize::try_from(self.position).unwrap_or(usize::MAX);
                buffer[..want].copy_from_slice(&bytes[from..from + want]);
                want
            }
        };
        self.position += got as u64;
        Ok(got)
    }
}

/// A regular file of root's that an archive would describe so.
pub(crate) fn file_entry(path: &[u8], mode: u32, size: u64, modified: i64) -> Entry {
    Entry {
        size,
        mtime: Time {
            seconds: modified,
            nanos: 0,
        },
        ..Entry::new(path.to_vec(), Kind::File, mode)
    }
}

/// A tree without files.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Files for Nothing {
    fn resolve(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        follow(path, |_| None)
    }

    fn entry(&self, path: &[u8]) -> io::Result<Option<Node>> {
        Ok(path.is_empty().then(|| Node {
            entry: Entry {
                kind: Kind::Directory,
                ..file_entry(b"", 0o755, 0, 0)
            },
            inode: None,
        }))
    }

    fn names(&self, _path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn content(&self, _path: &[u8]) -> io::Result<Content> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn known_digest(&self, _path: &[u8]) -> Option<[u8; 32]> {
        None
    }
}

/// A path and a name below it.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}

/// The directory of a path and its last name; `None` for the root.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    })
}

/// Follows links in `path` with `link_at`, which tells the target of a link.
pub(crate) fn follow(
    path: &[u8],
    link_at: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    /// As in the kernel.
    const MAX_LINKS: usize = 40;
    let backwards = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/');
        let named = parts.filter(|part| !matches!(*part, b"" | b"."));
        named.rev().map(<[u8]>::to_vec).collect()
    };
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut pending = backwards(path);
    let mut links = 0;
    while let Some(part) = pending.pop() {
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        let Some(target) = link_at(&done.join(&b'/')) else {
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::LOOP.raw_os_error(),
            ));
        }
        done.pop();
        if target.starts_with(b"/") {
            done.clear();
        }
        pending.extend(backwards(&target));
    }
    Ok(done.join(&b'/'))
}
