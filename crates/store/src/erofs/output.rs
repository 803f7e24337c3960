//! The file an image is written to: runs of blocks, and extents in which inodes are packed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::format::{BLOCK, SLOT};

/// Data is collected up to here before it is written.
const BUFFER: usize = 256 * 1024;
/// Extents of inodes grow to this.
const EXTENT: u64 = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// Where the next run starts; a multiple of [`BLOCK`].
    end: u64,
    buffer: Vec<u8>,
    /// Where the buffer's bytes belong.
    buffer_at: u64,
    /// The extent that inodes are being put into, all of it.
    extent: Vec<u8>,
    extent_at: u64,
    extent_used: u64,
}

impl Output {
    /// Starts behind block 0, which is written last.
    pub(super) fn new(file: File) -> Output {
        Output {
            file,
            end: BLOCK,
            buffer: Vec::new(),
            buffer_at: 0,
            extent: Vec::new(),
            extent_at: 0,
            extent_used: 0,
        }
    }

    /// Room for so many bytes of data, in whole blocks; the number of the first. Blocks have 32 bits.
    pub(super) fn reserve(&mut self, bytes: u64) -> io::Result<u32> {
        let first = u32::try_from(self.end / BLOCK).map_err(|_| Errno::FBIG)?;
        let end = bytes
            .checked_next_multiple_of(BLOCK)
            .and_then(|bytes| self.end.checked_add(bytes))
            .filter(|end| end / BLOCK <= u64::from(u32::MAX))
            .ok_or(Errno::FBIG)?;
        self.end = end;
        Ok(first)
    }

    /// Puts data into room that was reserved. What is never written reads as zeros.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if at != self.buffer_at + self.buffer.len() as u64 {
            self.flush()?;
            self.buffer_at = at;
        }
        if self.buffer.is_empty() && bytes.len() >= BUFFER / 4 {
            self.file.write_all_at(bytes, at)?;
            self.buffer_at = at + bytes.len() as u64;
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    /// Room for an inode and what lies behind it; within one block unless it is larger than that.
    pub(super) fn allocate(&mut self, bytes: u64) -> io::Result<u64> {
        let mut at = self.extent_used.next_multiple_of(SLOT);
        let left = BLOCK - at % BLOCK;
        if bytes > left {
            at = at.next_multiple_of(BLOCK);
        }
        if at + bytes > self.extent.len() as u64 {
            // Small layers get small extents.
            let grown = (self.extent.len() as u64 * 2).clamp(BLOCK, EXTENT);
            let length = bytes.next_multiple_of(BLOCK).max(grown);
            self.flush_extent()?;
            self.extent_at = u64::from(self.reserve(length)?) * BLOCK;
            let length = usize::try_from(length).map_err(|_| Errno::FBIG)?;
            self.extent.resize(length, 0);
            at = 0;
        }
        self.extent_used = at + bytes;
        Ok(self.extent_at + at)
    }

    /// Puts bytes into room that was allocated, at once or later.
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let start = at
            .checked_sub(self.extent_at)
            .and_then(|start| usize::try_from(start).ok());
        let place = start.and_then(|start| self.extent.get_mut(start..start + bytes.len()));
        match place {
            Some(place) => {
                place.copy_from_slice(bytes);
                Ok(())
            }
            None => self.file.write_all_at(bytes, at),
        }
    }

    /// Completes the file with block 0, which `first` makes from the number of blocks.
    pub(super) fn finish(mut self, first: impl FnOnce(u32) -> Vec<u8>) -> io::Result<()> {
        self.flush()?;
        self.flush_extent()?;
        self.file.set_len(self.end)?;
        let blocks = u32::try_from(self.end / BLOCK).map_err(|_| Errno::FBIG)?;
        self.file.write_all_at(&first(blocks), 0)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.buffer_at)?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn flush_extent(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.extent, self.extent_at)?;
        self.extent.clear();
        self.extent_used = 0;
        Ok(())
    }
}
