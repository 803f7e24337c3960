//! EROFS images, written in one pass while a layer's tar comes in.
//!
//! ```text
//! block 0           superblock at byte 1024, the root's inode right behind it
//! …                 runs of data blocks and extents of inodes in the order in which files came
//! …                 at the end directories: their inodes and entries
//! ```
//!
//! Uncompressed, extended inodes, 4 KiB blocks, `meta_blkaddr` 0, so that an inode's number is its place in the file divided by 32. What does
//! not fill a block lies behind its inode where it is short (`FLAT_INLINE`). Every kernel since 5.4 reads it.
//!
//! Format: Linux `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`.

mod attributes;
mod builder;
mod directory;
mod format;
mod output;
mod tree;

pub(crate) use attributes::Attributes;
pub(crate) use builder::{FileSpace, ImageBuilder};
pub(crate) use format::FileKind;
pub(crate) use tree::Entry as TreeEntry;

/// The image's name in a layer's directory.
pub(crate) const IMAGE: &str = "layer.erofs";
