//! The tar format, read as a stream that shows every raw byte to a sink, so that a layer can be given back exactly.
//!
//! Understands ustar, GNU (long names, old sparse files, base-256 numbers) and PAX (POSIX.1-2001, with the
//! `SCHILY.xattr` and `GNU.sparse` keys), as Go's `archive/tar` does, whose limits and error texts are kept.

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use header::is_header;
pub(crate) use reader::{RawSink, TarReader};
pub(crate) use writer::{finish, write_header, write_padding};

/// Unit of the format, in bytes.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// A type flag nobody here knows.
    Other(u8),
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// Where the stored bytes of a sparse file belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Size of the file once unpacked.
    pub(crate) real_size: u64,
    /// Offset and length of each stored piece, ascending.
    pub(crate) segments: Vec<(u64, u64)>,
}

/// One entry with everything its headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of data that follow in the archive, padding not counted.
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    pub(crate) atime: Option<Time>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

/// The text Go's reader gives for anything malformed; Docker's users know it.
pub(crate) fn invalid_header() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        "archive/tar: invalid tar header",
    )
}

/// The text Go gives for an archive that stops early.
pub(crate) fn unexpected_eof() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "unexpected EOF")
}
