//! Where the last `n` lines of a log begin, found from the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memrchr_iter;

const BLOCK: u64 = 64 * 1024;

/// Result of looking for the last lines in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// They begin here.
    At(u64),
    /// The file has fewer: this many are still to be found in older files.
    Missing(u64),
}

/// Looks in the first `length` bytes of `file`. A last line without newline is still being written and does not count.
pub fn in_file(file: &File, length: u64, lines: u64) -> io::Result<Start> {
    let mut counter = Counter::new(lines);
    let mut end = length;
    let mut block = vec![0; usize::try_from(BLOCK).expect("64 KiB fits")];
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let size = usize::try_from(end - start).expect("at most one block");
        file.read_exact_at(&mut block[..size], start)?;
        if let Some(offset) = counter.feed(&block[..size]) {
            return Ok(Start::At(start + offset as u64));
        }
        end = start;
    }
    Ok(counter.finish(length))
}

/// Looks in a text held in memory.
pub fn in_text(text: &[u8], lines: u64) -> Start {
    let mut counter = Counter::new(lines);
    match counter.feed(text) {
        Some(offset) => Start::At(offset as u64),
        None => counter.finish(text.len() as u64),
    }
}

/// Counts newlines backwards. The n-th last line begins after the (n+1)-th last newline.
struct Counter {
    wanted: u64,
    seen: u64,
}

impl Counter {
    fn new(wanted: u64) -> Counter {
        Counter { wanted, seen: 0 }
    }

    /// Takes the block before those already fed; gives the offset in it where the wanted lines begin.
    fn feed(&mut self, block: &[u8]) -> Option<usize> {
        for position in memrchr_iter(b'\n', block) {
            if self.seen == self.wanted {
                return Some(position + 1);
            }
            self.seen += 1;
        }
        None
    }

    fn finish(&self, length: u64) -> Start {
        match self.wanted - self.seen {
            0 if self.wanted == 0 => Start::At(length),
            0 => Start::At(0),
            missing => Start::Missing(missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn last_lines_are_found_from_the_end() {
        let rows = [
            ("", 0, Start::At(0)),
            ("", 2, Start::Missing(2)),
            ("a\nb\nc\n", 0, Start::At(6)),
            ("a\nb\nc\n", 1, Start::At(4)),
            ("a\nb\nc\n", 3, Start::At(0)),
            ("a\nb\nc\n", 5, Start::Missing(2)),
            ("a\nb\nhalf", 1, Start::At(2)),
        ];
        for (text, lines, expected) in rows {
            assert_eq!(
                in_text(text.as_bytes(), lines),
                expected,
                "{text:?} {lines}"
            );
            let mut file = tempfile::tempfile().expect("file");
            file.write_all(text.as_bytes()).expect("write");
            assert_eq!(
                in_file(&file, text.len() as u64, lines).expect("read"),
                expected,
                "{text:?} {lines}"
            );
        }
    }

    #[test]
    fn blocks_are_joined() {
        let text: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(text.as_bytes()).expect("write");
        let length = text.len() as u64;
        for lines in [1, 7_000, 20_000, 39_999, 40_000] {
            let Start::At(offset) = in_file(&file, length, lines).expect("read") else {
                panic!("{lines} not found")
            };
            let rest = &text[usize::try_from(offset).expect("small")..];
            assert!(
                rest.starts_with(&format!("line {}\n", 40_000 - lines)),
                "{lines}"
            );
        }
    }
}
