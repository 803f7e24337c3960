//! The tar format, read as a stream that shows every raw byte to a sink, so that a layer can be given back exactly.
//!
//! Understands ustar, GNU (long names, old sparse files, base-256 numbers) and PAX (POSIX.1-2001, with the
//! `SCHILY.xattr` and `GNU.sparse` keys), as Go's `archive/tar` does, whose limits and error texts are kept.

mod encode;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use encode::encode;
pub use header::is_header;
pub use reader::{RawSink, TarReader, padding_of};
pub use writer::{finish, write_header, write_padding};

/// Unit of the format, in bytes.
pub const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A type flag nobody here knows.
    Other(u8),
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest, below 10⁹.
    pub nanos: u32,
}

/// Where the stored bytes of a sparse file belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    /// Size of the file once unpacked.
    pub real_size: u64,
    /// Offset and length of each stored piece, ascending.
    pub segments: Vec<(u64, u64)>,
}

/// One entry with everything its headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name as written.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, and the three above them.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data that follow in the archive, padding not counted.
    pub size: u64,
    /// When the content last changed.
    pub mtime: Time,
    /// When it was last read.
    pub atime: Option<Time>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Set when the data is in pieces.
    pub sparse: Option<Sparse>,
}

impl Entry {
    /// An entry of root's, without data, times and attributes: what differs is set on it.
    pub fn new(path: Vec<u8>, kind: Kind, mode: u32) -> Entry {
        Entry {
            path,
            link: Vec::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            atime: None,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

/// The text Go's reader gives for anything malformed; Docker's users know it.
pub fn invalid_header() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        "archive/tar: invalid tar header",
    )
}

/// The text Go gives for an archive that stops early.
pub fn unexpected_eof() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "unexpected EOF")
}
