//! Entries of a directory in blocks: fixed parts first, names behind them, sorted by name over all blocks.

use super::format::{BLOCK, BLOCK_LENGTH};

/// `struct erofs_dirent`.
const ENTRY: usize = 12;

/// An entry; the number is that of an inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirEntry<'a> {
    pub(super) name: &'a [u8],
    pub(super) number: u64,
    pub(super) entry_type: u8,
}

/// Bytes of a directory with these names, sorted; the last block only counts as far as it is used.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut full, mut used) = (0, 0);
    for name in names {
        let more = (ENTRY + name.len()) as u64;
        if used + more > BLOCK {
            full += BLOCK;
            used = 0;
        }
        used += more;
    }
    full + used
}

/// The bytes, as long as [`size`] says.
pub(super) fn encode(entries: &[DirEntry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = |entry: &&DirEntry<'_>| {
            used += ENTRY + entry.name.len();
            used as u64 <= BLOCK
        };
        let count = rest.iter().take_while(fits).count();
        let (block, after) = rest.split_at(count);
        // The block before this one ends where this one starts.
        bytes.resize(bytes.len().next_multiple_of(BLOCK_LENGTH), 0);
        encode_block(block, &mut bytes);
        rest = after;
    }
    bytes
}

fn encode_block(entries: &[DirEntry<'_>], bytes: &mut Vec<u8>) {
    let mut name_at = entries.len() * ENTRY;
    for entry in entries {
        bytes.extend(entry.number.to_le_bytes());
        // Inside one block, so 16 bits are enough.
        bytes.extend(u16::try_from(name_at).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend([entry.entry_type, 0]);
        name_at += entry.name.len();
    }
    for entry in entries {
        bytes.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_bytes() {
        for count in [2, 10, 200, 1000] {
            let names: Vec<String> = (0..count).map(|n| format!("{n:0200}")).collect();
            let entries: Vec<DirEntry<'_>> = names
                .iter()
                .map(|name| DirEntry {
                    name: name.as_bytes(),
                    number: 1,
                    entry_type: 1,
                })
                .collect();
            let expected = size(names.iter().map(String::as_bytes));
            assert_eq!(encode(&entries).len() as u64, expected, "{count}");
        }
    }
}
