//! Plain ustar entries for archives that are made here, with the fields Go's writer sets.

use std::io::{self, Write};

use super::BLOCK;
use super::reader::padding_of;

/// Writes the header of a file, or of a directory when `name` ends in a slash. Names here are short ASCII.
pub fn write_header(out: &mut dyn Write, name: &str, size: u64, mtime: i64) -> io::Result<()> {
    debug_assert!(name.len() <= 100, "ustar names have 100 bytes");
    let directory = name.ends_with('/');
    let mut block = [0_u8; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    put(
        &mut block[100..108],
        if directory { "0000755\0" } else { "0000644\0" },
    );
    put(&mut block[108..116], "0000000\0");
    put(&mut block[116..124], "0000000\0");
    put(&mut block[124..136], &size_field(size));
    if size > 0o777_7777_7777 {
        // Base-256 (GNU), which every reader of today knows.
        block[124..136].fill(0);
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    put(&mut block[136..148], &format!("{:011o}\0", mtime.max(0)));
    block[148..156].fill(b' ');
    block[156] = if directory { b'5' } else { b'0' };
    put(&mut block[257..265], "ustar\x0000");
    put(&mut block[329..337], "0000000\0");
    put(&mut block[337..345], "0000000\0");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    put(&mut block[148..156], &format!("{sum:06o}\0 "));
    out.write_all(&block)
}

fn size_field(size: u64) -> String {
    format!("{:011o}\0", size & 0o777_7777_7777)
}

fn put(field: &mut [u8], text: &str) {
    field.copy_from_slice(text.as_bytes());
}

/// Zeros up to the next block after `size` bytes.
pub fn write_padding(out: &mut dyn Write, size: u64) -> io::Result<()> {
    out.write_all(&[0; BLOCK][..padding_of(size)])
}

/// The two empty blocks that end an archive.
pub fn finish(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}
