//! Maps of sparse files: GNU's old header form and PAX 1.0's form at the start of the data.

use std::io;

use super::header::parse_number;
use super::pax::decimal;
use super::{BLOCK, Sparse, invalid_header};

/// More pieces than any file of a real archive has; bounds memory.
const MAX_SEGMENTS: usize = 1 << 20;

/// The pieces in `field`, whose entries are 24 bytes; stops at an empty one.
pub(super) fn old_gnu_pieces(field: &[u8], segments: &mut Vec<(u64, u64)>) -> io::Result<()> {
    for piece in field.chunks_exact(24) {
        if piece[0] == 0 {
            break;
        }
        let number = |field| u64::try_from(parse_number(field)?).map_err(|_| invalid_header());
        segments.push((number(&piece[..12])?, number(&piece[12..])?));
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(invalid_header());
    }
    Ok(())
}

/// The decimal lines of a PAX 1.0 map: a count, then that many offsets and lengths.
#[derive(Debug, Default)]
pub(super) struct MapLines {
    text: Vec<u8>,
}

impl MapLines {
    /// Adds a block; the numbers once the map is complete.
    pub(super) fn add(&mut self, block: &[u8; BLOCK]) -> io::Result<Option<Vec<(u64, u64)>>> {
        self.text.extend_from_slice(block);
        let mut lines = self.text.split(|b| *b == b'\n');
        let Some(first) = lines.next().filter(|line| line.len() < self.text.len()) else {
            return Err(invalid_header());
        };
        let count = usize::try_from(decimal(first)?).map_err(|_| invalid_header())?;
        if count > MAX_SEGMENTS {
            return Err(invalid_header());
        }
        let newlines = self.text.iter().filter(|b| **b == b'\n').count();
        if newlines < 1 + 2 * count {
            return Ok(None);
        }
        let numbers = lines
            .take(2 * count)
            .map(decimal)
            .collect::<io::Result<Vec<u64>>>()?;
        Ok(Some(
            numbers
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[a, b]| (*a, *b))
                .collect(),
        ))
    }
}

/// Checks a map against the stored size: ascending, inside the file, nothing missing.
pub(super) fn checked(sparse: Sparse, stored: u64) -> io::Result<Sparse> {
    let (mut end, mut total) = (0_u64, 0_u64);
    for (offset, length) in &sparse.segments {
        if *offset < end {
            return Err(invalid_header());
        }
        end = offset.checked_add(*length).ok_or_else(invalid_header)?;
        total += length;
    }
    if end > sparse.real_size || total != stored || sparse.real_size > i64::MAX.cast_unsigned() {
        return Err(invalid_header());
    }
    Ok(sparse)
}
