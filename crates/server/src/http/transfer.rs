//! Bytes between async bodies and blocking readers and writers, through bounded channels.
//!
//! Uploads: the body is pulled into a channel, blocking code reads a [`BodyReader`]. Downloads: blocking code writes to
//! a [`BodyWriter`], the channel is the answer's body. Either side that goes away ends the other.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::body::{Chunk, RequestBody};

/// Chunks under way; hyper's are up to 400 KiB, ours [`WRITE_CHUNK`].
const DEPTH: usize = 4;

/// Small writes are gathered to this size.
const WRITE_CHUNK: usize = 64 << 10;

/// Small pieces of an upload are handed over together once they come to this size…
const GATHERED: usize = 256 << 10;

/// …or when nothing more has come for this long: each handing over wakes a thread.
const LULL: Duration = Duration::from_millis(1);

/// Pieces of an upload, in order.
type Pieces = io::Result<Vec<Bytes>>;

/// A request's body as a blocking reader. An upload that breaks off reads as an error, never as an early end.
#[derive(Debug)]
pub struct BodyReader {
    chunks: mpsc::Receiver<Pieces>,
    waiting: std::vec::IntoIter<Bytes>,
    current: Bytes,
}

impl BodyReader {
    /// Starts pulling `body`.
    #[must_use]
    pub fn new(body: RequestBody) -> BodyReader {
        let (send, chunks) = mpsc::channel(DEPTH);
        tokio::spawn(pull(body, send));
        BodyReader {
            chunks,
            waiting: Vec::new().into_iter(),
            current: Bytes::new(),
        }
    }
}

/// What comes next of a body.
enum Next {
    Piece(Bytes),
    /// Nothing for now.
    Lull,
    End,
    Broken(hyper::Error),
}

async fn next(body: &mut RequestBody, patience: Option<Duration>) -> Next {
    let frame = match patience {
        None => body.frame().await,
        Some(patience) => match tokio::time::timeout(patience, body.frame()).await {
            Ok(frame) => frame,
            Err(_) => return Next::Lull,
        },
    };
    match frame {
        None => Next::End,
        Some(Err(error)) => Next::Broken(error),
        // Trailers are not data.
        Some(Ok(frame)) => frame.into_data().map_or(Next::Lull, Next::Piece),
    }
}

async fn pull(mut body: RequestBody, send: mpsc::Sender<Pieces>) {
    let (mut gathered, mut size) = (Vec::new(), 0);
    loop {
        let patience = (!gathered.is_empty()).then_some(LULL);
        let end = match next(&mut body, patience).await {
            Next::Piece(bytes) => {
                size += bytes.len();
                gathered.push(bytes);
                if size < GATHERED {
                    continue;
                }
                None
            }
            Next::Lull => None,
            Next::End => Some(None),
            Next::Broken(error) => Some(Some(error)),
        };
        size = 0;
        let ready = std::mem::take(&mut gathered);
        if !ready.is_empty() && send.send(Ok(ready)).await.is_err() {
            return swallow(body).await;
        }
        match end {
            None => {}
            Some(None) => return,
            Some(Some(error)) => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, error);
                // The reader being gone too is fine.
                let _ = send.send(Err(error)).await;
                return;
            }
        }
    }
}

/// The request was refused: what a client has under way is read, so that it gets to read the answer.
async fn swallow(mut body: RequestBody) {
    const LIMIT: usize = 64 << 20;
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len);
        if taken > LIMIT {
            return;
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.len().min(buf.len());
        self.current.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

/// Shows chunks as they came, without a copy.
impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            if let Some(piece) = self.waiting.next() {
                self.current = piece;
                continue;
            }
            match self.chunks.blocking_recv() {
                Some(pieces) => self.waiting = pieces?.into_iter(),
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, used: usize) {
        self.current.advance(used);
    }
}

/// What takes the pieces of a body.
pub type Send = Box<dyn FnMut(Vec<u8>) -> io::Result<()> + std::marker::Send>;

/// A body that blocking `work` hands over in pieces. When the work fails the client sees a broken connection, not a short answer.
#[must_use]
pub fn in_pieces<W>(work: W) -> mpsc::Receiver<Chunk>
where
    W: FnOnce(Send) -> Result<(), wharf_engine::Error> + std::marker::Send + 'static,
{
    let (send, chunks) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        let pieces = send.clone();
        let take: Send = Box::new(move |piece| {
            pieces
                .blocking_send(Ok(Bytes::from(piece)))
                .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client went away"))
        });
        if let Err(error) = work(take) {
            tracing::warn!(%error, "a body ended early");
            // The client may be gone.
            let _ = send.blocking_send(Err(io::Error::other(error)));
        }
    });
    chunks
}

/// A blocking writer into an answer's body.
#[derive(Debug)]
pub struct BodyWriter {
    chunks: mpsc::Sender<Chunk>,
    gathered: BytesMut,
}

impl BodyWriter {
    /// A writer and the body it feeds.
    #[must_use]
    pub fn new() -> (BodyWriter, mpsc::Receiver<Chunk>) {
        let (chunks, receiver) = mpsc::channel(DEPTH);
        (
            BodyWriter {
                chunks,
                gathered: BytesMut::with_capacity(WRITE_CHUNK),
            },
            receiver,
        )
    }

    /// Ends the body before its end: the client sees a broken connection, not a short answer.
    pub fn abort(self, error: io::Error) {
        // The client being gone too is fine.
        let _ = self.chunks.blocking_send(Err(error));
    }

    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.chunks
            .blocking_send(Ok(bytes))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client went away"))
    }
}

impl Write for BodyWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(buf);
        if self.gathered.len() >= WRITE_CHUNK {
            self.flush()?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let bytes = self.gathered.split().freeze();
        self.send(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_gathered_and_flushed() {
        let (mut writer, mut chunks) = BodyWriter::new();
        writer.write_all(b"ab").expect("room");
        writer.write_all(b"cd").expect("room");
        writer.flush().expect("room");
        drop(writer);
        assert_eq!(
            chunks.blocking_recv().map(|c| c.expect("data")),
            Some(Bytes::from_static(b"abcd"))
        );
        assert!(chunks.blocking_recv().is_none());
    }

    #[test]
    fn writer_fails_once_the_client_is_gone() {
        let (mut writer, chunks) = BodyWriter::new();
        drop(chunks);
        assert_eq!(
            writer
                .write(&[0; WRITE_CHUNK])
                .expect_err("nobody reads")
                .kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
