//! Local archives that `ADD` unpacks.

use std::io;

use wharf_archive::compression::Compression;
use wharf_archive::tar::{BLOCK, is_header};

use crate::files::Content;

/// Whether a file is a tar, plain or compressed: what unpacks to a tar header.
pub fn is_archive(content: &Content) -> io::Result<bool> {
    let mut reader = content.reader();
    let start = read_up_to(&mut reader, BLOCK)?;
    let compression = Compression::detect(&start);
    if compression == Compression::None {
        return Ok(is_header(&start));
    }
    let whole = io::BufReader::new(content.reader());
    let Ok(mut plain) = compression.reader(whole) else {
        return Ok(false);
    };
    // What looks compressed and is not is an ordinary file.
    Ok(read_up_to(&mut plain, BLOCK).is_ok_and(|block| is_header(&block)))
}

fn read_up_to(input: &mut dyn io::Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(input, limit as u64), &mut bytes)?;
    Ok(bytes)
}
