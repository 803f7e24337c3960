//! Pieces of a stream handed between threads without copying, and a reader at the far end.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

pub(crate) use crate::queue::Gone;
use crate::queue::{Receiver, Sender, bounded};

use wharf_archive::tar::unexpected_eof;

/// Size of one piece: large enough to make hand-overs rare, small enough for the cache.
pub(crate) const CHUNK: usize = 128 * 1024;
/// Pieces a slow consumer may lag behind.
const LAG: usize = 3;

enum Item {
    Data(Arc<Vec<u8>>),
    End,
}

/// The writing end of two readers, which both see the same bytes.
pub(crate) struct ChunkSender {
    outputs: [Sender<Item>; 2],
}

impl ChunkSender {
    /// A sender with two readers.
    pub(crate) fn pair() -> (ChunkSender, [ChunkReader; 2]) {
        let ((first, first_input), (second, second_input)) = (bounded(LAG), bounded(LAG));
        let reader = |input| ChunkReader {
            input,
            current: None,
            position: 0,
            ended: false,
        };
        (
            ChunkSender {
                outputs: [first, second],
            },
            [reader(first_input), reader(second_input)],
        )
    }

    /// Hands a piece to all readers; waits for the slowest.
    pub(crate) fn send(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        let bytes = Arc::new(bytes);
        self.outputs
            .iter()
            .try_for_each(|out| out.send(Item::Data(bytes.clone())))
    }

    /// Tells the readers that the stream is complete; without it they report an unexpected end.
    pub(crate) fn end(self) {
        for out in &self.outputs {
            // A reader that stopped early has its own reason to report.
            let _ = out.send(Item::End);
        }
    }
}

/// The reading end.
pub(crate) struct ChunkReader {
    input: Receiver<Item>,
    current: Option<Arc<Vec<u8>>>,
    position: usize,
    ended: bool,
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended
            && self
                .current
                .as_ref()
                .is_none_or(|chunk| self.position >= chunk.len())
        {
            self.position = 0;
            self.current = match self.input.recv() {
                Some(Item::Data(chunk)) => Some(chunk),
                Some(Item::End) => {
                    self.ended = true;
                    None
                }
                None => return Err(unexpected_eof()),
            };
        }
        Ok(self
            .current
            .as_ref()
            .map_or(&[], |chunk| &chunk[self.position..]))
    }

    fn consume(&mut self, used: usize) {
        self.position += used;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Collects writes into pieces and sends them.
pub(crate) struct ChunkWriter<'a> {
    sender: &'a ChunkSender,
    pending: Vec<u8>,
}

impl<'a> ChunkWriter<'a> {
    pub(crate) fn new(sender: &'a ChunkSender) -> ChunkWriter<'a> {
        ChunkWriter {
            sender,
            pending: Vec::new(),
        }
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.capacity() == 0 {
            self.pending.reserve_exact(CHUNK);
        }
        let n = bytes.len().min(CHUNK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..n]);
        if self.pending.len() == CHUNK {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.pending);
        if piece.is_empty() {
            return Ok(());
        }
        self.sender
            .send(piece)
            .map_err(|Gone| io::ErrorKind::BrokenPipe.into())
    }
}

/// Fills a piece of at most `limit` bytes; empty at the end of the stream.
pub(crate) fn read_chunk(input: &mut dyn Read, limit: u64) -> io::Result<Vec<u8>> {
    let want = usize::try_from(limit).unwrap_or(CHUNK).min(CHUNK);
    let mut chunk = Vec::with_capacity(want);
    input.take(want as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}
