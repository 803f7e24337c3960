//! What turns an unpacked layer back into the exact tar it came from.
//!
//! A recipe is a zstd stream: a magic line, then records. Everything of the tar that is not file content (headers, padding, trailer, and
//! content the directory cannot give back) is in `Raw` records; file content is named by path, offset and length. When a later
//! entry of the same layer took the place of a file, the file was moved to `shadow/<n>` and a `Moved` record says since when.
//!
//! ```text
//! overlay2/<cache-id>/recipe        the recipe
//! overlay2/<cache-id>/diff/…        file content
//! overlay2/<cache-id>/shadow/<n>    content of replaced files, only where there are any
//! ```
//!
//! Where the layer is one EROFS image, paths are empty and offsets are those of the image, which keeps replaced files.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::erofs;
use wharf_archive::tar::RawSink;

const MAGIC: &[u8] = b"wharf recipe 1\n";
const RAW: u8 = 1;
const DATA: u8 = 2;
const MOVED: u8 = 3;
/// Headers compress by a factor of twenty even at the fastest level.
const LEVEL: i32 = 1;
const FLUSH_AT: usize = 64 * 1024;
/// No record is longer; a damaged recipe must not take all memory.
const MAX_RECORD: u64 = 1 << 26;

/// Writes a recipe while a layer is unpacked.
pub(crate) struct RecipeWriter {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
}

impl RecipeWriter {
    /// Starts a recipe at `path`.
    pub(crate) fn create(path: &Path) -> io::Result<RecipeWriter> {
        let mut out =
            zstd::stream::write::Encoder::new(BufWriter::new(File::create_new(path)?), LEVEL)?;
        out.write_all(MAGIC)?;
        Ok(RecipeWriter {
            out,
            raw: Vec::with_capacity(FLUSH_AT),
        })
    }

    /// The next `length` bytes of the tar are in the file `path`, from `offset` on.
    pub(crate) fn data(&mut self, path: &[u8], offset: u64, length: u64) -> io::Result<()> {
        self.flush_raw()?;
        self.out.write_all(&[DATA])?;
        self.bytes(path)?;
        self.number(offset)?;
        self.number(length)
    }

    /// From here on, what was at `path` is in `shadow/<n>`.
    pub(crate) fn moved(&mut self, path: &[u8], n: u64) -> io::Result<()> {
        self.flush_raw()?;
        self.out.write_all(&[MOVED])?;
        self.bytes(path)?;
        self.number(n)
    }

    /// Completes the file.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush_raw()?;
        self.out
            .finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(())
    }

    fn flush_raw(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let raw = std::mem::take(&mut self.raw);
        self.out.write_all(&[RAW])?;
        self.bytes(&raw)?;
        self.raw = raw;
        self.raw.clear();
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.number(bytes.len() as u64)?;
        self.out.write_all(bytes)
    }

    fn number(&mut self, mut value: u64) -> io::Result<()> {
        let mut encoded = Vec::with_capacity(10);
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                encoded.push(low);
                return self.out.write_all(&encoded);
            }
            encoded.push(low | 0x80);
        }
    }
}

impl RawSink for RecipeWriter {
    fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(FLUSH_AT - self.raw.len());
            self.raw.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.raw.len() == FLUSH_AT {
                self.flush_raw()?;
            }
        }
        Ok(())
    }
}

/// One record as read.
enum Record {
    Raw(Vec<u8>),
    Data {
        path: Vec<u8>,
        offset: u64,
        length: u64,
    },
    Moved {
        path: Vec<u8>,
        n: u64,
    },
}

struct RecipeReader {
    input: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
}

impl RecipeReader {
    fn open(path: &Path) -> io::Result<RecipeReader> {
        let mut input = BufReader::new(zstd::stream::read::Decoder::new(File::open(path)?)?);
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged());
        }
        Ok(RecipeReader { input })
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        let Some(tag) = self.input.fill_buf()?.first().copied() else {
            return Ok(None);
        };
        self.input.consume(1);
        Ok(Some(match tag {
            RAW => Record::Raw(self.bytes()?),
            DATA => Record::Data {
                path: self.bytes()?,
                offset: self.number()?,
                length: self.number()?,
            },
            MOVED => Record::Moved {
                path: self.bytes()?,
                n: self.number()?,
            },
            _ => return Err(damaged()),
        }))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        if length > MAX_RECORD {
            return Err(damaged());
        }
        let mut bytes = Vec::new();
        (&mut self.input).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length {
            Ok(bytes)
        } else {
            Err(damaged())
        }
    }

    fn number(&mut self) -> io::Result<u64> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            if shift > 63 {
                return Err(damaged());
            }
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the recipe of the layer is damaged",
    )
}

/// Writes the exact tar of the layer in `layer_dir` (a directory with `recipe` and `diff`).
pub(crate) fn write_tar(layer_dir: &Path, out: &mut dyn Write) -> io::Result<()> {
    let recipe = layer_dir.join("recipe");
    let content = Content::open(layer_dir, &recipe)?;
    let mut reader = RecipeReader::open(&recipe)?;
    let mut buffer = vec![0; 128 * 1024];
    let mut position = 0;
    while let Some(record) = reader.next()? {
        match record {
            Record::Raw(bytes) => out.write_all(&bytes)?,
            Record::Data {
                path,
                offset,
                length,
            } => {
                let file = content.open_file(&path, position)?;
                copy_range(&file, offset, length, &mut buffer, out)?;
            }
            Record::Moved { .. } => position += 1,
        }
    }
    out.flush()
}

/// Finds file content, wherever it was moved.
enum Content {
    /// In one image: offsets are those of the image, and nothing moves.
    Image(OwnedFd),
    Tree(Tree),
}

/// Content in files of their own.
struct Tree {
    diff: OwnedFd,
    shadow: Option<OwnedFd>,
    /// In the order the moves happened.
    moves: Vec<(Vec<u8>, u64)>,
}

impl Content {
    fn open(layer_dir: &Path, recipe: &Path) -> io::Result<Content> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::open(layer_dir.join(erofs::IMAGE), flags, Mode::empty()) {
            Ok(image) => Ok(Content::Image(image)),
            Err(rustix::io::Errno::NOENT) => Tree::open(layer_dir, recipe).map(Content::Tree),
            Err(error) => Err(error.into()),
        }
    }

    fn open_file(&self, path: &[u8], position: usize) -> io::Result<OwnedFd> {
        match self {
            Content::Image(image) if path.is_empty() => image.try_clone(),
            Content::Image(_) => Err(damaged()),
            Content::Tree(tree) => tree.open_file(path, position),
        }
    }
}

impl Tree {
    fn open(layer_dir: &Path, recipe: &Path) -> io::Result<Tree> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let diff = rustix::fs::open(layer_dir.join("diff"), directory, Mode::empty())?;
        let shadow = match rustix::fs::open(layer_dir.join("shadow"), directory, Mode::empty()) {
            Ok(shadow) => Some(shadow),
            Err(rustix::io::Errno::NOENT) => {
                return Ok(Tree {
                    diff,
                    shadow: None,
                    moves: Vec::new(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let mut moves = Vec::new();
        let mut reader = RecipeReader::open(recipe)?;
        while let Some(record) = reader.next()? {
            if let Record::Moved { path, n } = record {
                moves.push((path, n));
            }
        }
        Ok(Tree {
            diff,
            shadow,
            moves,
        })
    }

    /// Opens what was at `path` before the move number `position`: the first later move of it or of a directory above it took it away.
    fn open_file(&self, path: &[u8], position: usize) -> io::Result<OwnedFd> {
        let later = self.moves.iter().skip(position);
        for (moved, n) in later {
            let Some(below) = path.strip_prefix(moved.as_slice()) else {
                continue;
            };
            let shadow = self.shadow.as_ref().ok_or_else(damaged)?;
            if below.is_empty() || below.starts_with(b"/") {
                return open_beneath(shadow.as_fd(), &[n.to_string().as_bytes(), below].concat());
            }
        }
        open_beneath(self.diff.as_fd(), path)
    }
}

fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    match open(flags | OFlags::NOATIME) {
        // Only owners may leave the access time alone (open(2)).
        Err(rustix::io::Errno::PERM) => Ok(open(flags)?),
        result => Ok(result?),
    }
}

fn copy_range(
    file: &OwnedFd,
    mut offset: u64,
    mut length: u64,
    buffer: &mut [u8],
    out: &mut dyn Write,
) -> io::Result<()> {
    while length > 0 {
        let want = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = rustix::io::pread(file, &mut buffer[..want], offset)?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file of the layer is shorter than it was",
            ));
        }
        out.write_all(&buffer[..n])?;
        offset += n as u64;
        length -= n as u64;
    }
    Ok(())
}
