//! An archive's bytes on their way out, in large pieces, with file content read straight into them.

use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;

/// Size of a piece: large enough to make hand-overs rare, small enough for the cache.
pub const PIECE: usize = 256 * 1024;

/// Collects pieces and hands each full one on.
pub struct Pieces<'a> {
    current: Vec<u8>,
    send: Box<dyn FnMut(Vec<u8>) -> io::Result<()> + 'a>,
}

impl std::fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

impl<'a> Pieces<'a> {
    /// `send` receives the pieces in order; its error ends whatever writes.
    pub fn new(send: impl FnMut(Vec<u8>) -> io::Result<()> + 'a) -> Pieces<'a> {
        Pieces {
            current: Vec::new(),
            send: Box::new(send),
        }
    }

    /// Pieces that go to a writer.
    pub fn into_writer(out: &'a mut dyn io::Write) -> Pieces<'a> {
        Pieces::new(move |piece| out.write_all(&piece))
    }

    /// Adds bytes.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(self.room());
            self.current.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.send_full()?;
        }
        Ok(())
    }

    /// Adds up to `length` bytes of a file from where it is read next; returns how many there were.
    pub fn file(&mut self, file: impl AsFd, length: u64) -> io::Result<u64> {
        let mut left = length;
        while left > 0 {
            let room = self.room();
            let n = if left >= room as u64 {
                rustix::io::read(&file, spare_capacity(&mut self.current))?
            } else {
                self.file_end(&file, left)?
            };
            if n == 0 {
                break;
            }
            left -= n as u64;
            self.send_full()?;
        }
        Ok(length - left)
    }

    /// The file may have grown: what lies behind the end must not get into the piece.
    fn file_end(&mut self, file: impl AsFd, left: u64) -> io::Result<usize> {
        let start = self.current.len();
        let wanted = usize::try_from(left).unwrap_or(PIECE);
        self.current.resize(start + wanted, 0);
        let read = rustix::io::read(&file, &mut self.current[start..]);
        self.current.truncate(start + read.unwrap_or(0));
        Ok(read?)
    }

    /// Adds zeros.
    pub fn zeros(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let n = length.min(self.room() as u64);
            let end = self.current.len() + usize::try_from(n).unwrap_or(PIECE);
            self.current.resize(end, 0);
            length -= n;
            self.send_full()?;
        }
        Ok(())
    }

    /// Hands on what there is.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        (self.send)(std::mem::take(&mut self.current))
    }

    /// Free bytes in the present piece, never none.
    fn room(&mut self) -> usize {
        if self.current.capacity() == 0 {
            self.current.reserve_exact(PIECE);
        }
        self.current.capacity() - self.current.len()
    }

    fn send_full(&mut self) -> io::Result<()> {
        if self.current.len() == self.current.capacity() {
            self.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bytes_and_files_arrive_in_order() {
        let mut file = tempfile::tempfile().expect("a file");
        let content: Vec<u8> = (0..3 * PIECE + 7)
            .map(|i| u8::try_from(i % 251).expect("small"))
            .collect();
        file.write_all(&content).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        let mut out = Vec::new();
        let mut pieces = Pieces::into_writer(&mut out);
        pieces.bytes(b"head").expect("room");
        // Shorter than the file: nothing of the rest follows.
        let wanted = content.len() as u64 - 3;
        assert_eq!(pieces.file(&file, wanted).expect("read"), wanted);
        pieces.zeros(PIECE as u64 + 1).expect("room");
        assert_eq!(pieces.file(&file, 100).expect("read"), 3, "the file ends");
        pieces.flush().expect("sent");
        drop(pieces);
        let expected = [
            b"head",
            &content[..content.len() - 3],
            &vec![0; PIECE + 1],
            &content[content.len() - 3..],
        ]
        .concat();
        assert!(out == expected);
    }
}
