//! The structures on disk, little-endian.

use rustix::io::Errno;

/// Bytes of a block.
pub(super) const BLOCK: u64 = 4096;
/// The same as a length in memory.
pub(super) const BLOCK_LENGTH: usize = 4096;
/// Where the superblock starts.
pub(super) const SUPERBLOCK: usize = 1024;
/// Where the root's inode is: its number has 16 bits, so it must be near the start.
pub(super) const ROOT: u64 = 1024 + 128;
/// An extended inode.
pub(super) const INODE: usize = 64;
/// Inodes start at multiples of this, and are numbered by it.
pub(super) const SLOT: u64 = 32;

const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: u8 = 12;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME`.
const COMPATIBLE: u32 = 1 | 2;
/// Where an inode's count of links is.
pub(super) const LINKS_AT: usize = 44;

/// What an inode is, with the bits that `st_mode` has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    File,
    Directory,
    CharDevice,
    BlockDevice,
    Fifo,
    Symlink,
}

impl FileKind {
    /// Bits of `st_mode`.
    pub(super) fn mode(self) -> u16 {
        match self {
            FileKind::File => 0o100_000,
            FileKind::Directory => 0o040_000,
            FileKind::CharDevice => 0o020_000,
            FileKind::BlockDevice => 0o060_000,
            FileKind::Fifo => 0o010_000,
            FileKind::Symlink => 0o120_000,
        }
    }

    /// `FT_*` of directory entries.
    pub(super) fn entry_type(self) -> u8 {
        match self {
            FileKind::File => 1,
            FileKind::Directory => 2,
            FileKind::CharDevice => 3,
            FileKind::BlockDevice => 4,
            FileKind::Fifo => 5,
            FileKind::Symlink => 7,
        }
    }
}

/// An inode before it has bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub(super) kind: FileKind,
    /// The last bytes lie behind the inode.
    pub(super) is_inline: bool,
    /// Length of the attributes behind the inode.
    pub(super) xattr_len: usize,
    pub(super) mode: u16,
    pub(super) size: u64,
    /// First data block, or a device's number.
    pub(super) address: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    pub(super) links: u32,
}

impl Inode {
    /// `struct erofs_inode_extended`.
    pub(super) fn encode(&self) -> [u8; INODE] {
        let layout: u16 = if self.is_inline { 2 } else { 0 };
        let format = 1 | (layout << 1);
        let mut bytes = [0; INODE];
        put(&mut bytes, 0, &format.to_le_bytes());
        put(&mut bytes, 2, &xattr_count(self.xattr_len).to_le_bytes());
        put(
            &mut bytes,
            4,
            &(self.kind.mode() | (self.mode & 0o7777)).to_le_bytes(),
        );
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &self.address.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        put(&mut bytes, 24, &self.uid.to_le_bytes());
        put(&mut bytes, 28, &self.gid.to_le_bytes());
        put(&mut bytes, 32, &self.seconds.to_le_bytes());
        put(&mut bytes, 40, &self.nanos.to_le_bytes());
        put(&mut bytes, LINKS_AT, &self.links.to_le_bytes());
        bytes
    }
}

/// A device number as the kernel encodes it (`new_encode_dev`).
pub(super) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// What the superblock tells of the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) seconds: i64,
}

impl Superblock {
    /// Writes `struct erofs_super_block` into block 0, whose other content is there already: the checksum covers it.
    pub(super) fn encode(&self, block: &mut [u8]) {
        let sb = &mut block[SUPERBLOCK..];
        put(sb, 0, &MAGIC.to_le_bytes());
        put(sb, 8, &COMPATIBLE.to_le_bytes());
        sb[12] = BLOCK_BITS;
        let root = u16::try_from(ROOT / SLOT).unwrap_or(u16::MAX);
        put(sb, 14, &root.to_le_bytes());
        put(sb, 16, &self.inodes.to_le_bytes());
        put(sb, 24, &self.seconds.to_le_bytes());
        put(sb, 36, &self.blocks.to_le_bytes());
        let checksum = crc32c(sb);
        put(sb, 4, &checksum.to_le_bytes());
    }
}

/// `i_xattr_icount`: 12 bytes of header count as one, all else in units of four.
fn xattr_count(len: usize) -> u16 {
    match len {
        0 => 0,
        len => u16::try_from((len - XATTR_HEADER) / 4 + 1).unwrap_or(u16::MAX),
    }
}

/// `struct erofs_xattr_ibody_header`.
const XATTR_HEADER: usize = 12;

/// Attributes as they lie behind an inode; empty for none.
pub(super) fn encode_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    for (name, value) in xattrs {
        if bytes.is_empty() {
            bytes.resize(XATTR_HEADER, 0);
        }
        let (index, rest) = split_prefix(name).ok_or(Errno::NOTSUP)?;
        let length = u8::try_from(rest.len()).map_err(|_| Errno::RANGE)?;
        let size = u16::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
        bytes.extend([length, index]);
        bytes.extend(size.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if bytes.len() > XATTR_HEADER + 4 * (usize::from(u16::MAX) - 1) {
        return Err(Errno::NOSPC);
    }
    Ok(bytes)
}

/// `EROFS_XATTR_INDEX_*` and what is left of the name.
fn split_prefix(name: &[u8]) -> Option<(u8, &[u8])> {
    const PREFIXES: [(u8, &[u8]); 5] = [
        (1, b"user."),
        (4, b"trusted."),
        (6, b"security."),
        (2, b"system.posix_acl_access"),
        (3, b"system.posix_acl_default"),
    ];
    PREFIXES
        .iter()
        .find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)))
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// CRC-32C with all bits set at the start and nothing inverted at the end, as the kernel computes it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4: 32 bytes of zeros; the standard inverts the result.
        assert_eq!(!crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn attributes_have_their_prefixes() {
        for (name, expected) in [
            ("user.a", Some((1, "a"))),
            ("security.capability", Some((6, "capability"))),
            ("trusted.overlay.opaque", Some((4, "overlay.opaque"))),
            ("system.posix_acl_default", Some((3, ""))),
            ("other.a", None),
        ] {
            let expected = expected.map(|(index, rest)| (index, rest.as_bytes()));
            assert_eq!(split_prefix(name.as_bytes()), expected, "{name}");
        }
    }
}
