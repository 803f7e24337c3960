//! Connections, and how files go out over them without passing through memory.
//!
//! hyper frames answers and writes slices. For a file it is handed slices of one static placeholder instead of the bytes; the connection sees
//! by a slice's address that it is one, and lets the kernel send as many bytes of the file (sendfile). hyper writes vectored here and so never copies
//! a slice. Everything else about HTTP (keep-alive, ranges, pipelining, timeouts) stays hyper's.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

/// What stands for the bytes of files. Never read: its pages are never there.
pub static PLACEHOLDER: [u8; 1 << 20] = [0; 1 << 20];

/// The most that is sent in one call, so that other connections have their turn.
const AT_ONCE: usize = 1 << 20;

/// Files whose turn comes, in the order of the answers.
#[derive(Debug, Clone, Default)]
pub struct SendQueue(Arc<Mutex<VecDeque<Piece>>>);

#[derive(Debug)]
struct Piece {
    file: File,
    offset: u64,
    left: u64,
}

impl SendQueue {
    /// The next answer's body is this part of a file.
    pub fn push(&self, file: File, offset: u64, length: u64) {
        // Starts reading what is not in memory; refused only by what is no file.
        let ahead = std::num::NonZeroU64::new(length.min(4 << 20));
        let _ = rustix::fs::fadvise(&file, offset, ahead, rustix::fs::Advice::WillNeed);
        self.0.lock().push_back(Piece {
            file,
            offset,
            left: length,
        });
    }

    /// Sends up to `n` bytes of the file whose turn it is.
    fn send(&self, stream: &TcpStream, n: usize) -> io::Result<usize> {
        let mut queue = self.0.lock();
        let piece = queue
            .front_mut()
            .ok_or_else(|| io::Error::other("a placeholder without a file"))?;
        let n = n
            .min(AT_ONCE)
            .min(usize::try_from(piece.left).unwrap_or(usize::MAX));
        let sent = rustix::fs::sendfile(stream, &piece.file, Some(&mut piece.offset), n)?;
        if sent == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter",
            ));
        }
        piece.left -= sent as u64;
        if piece.left == 0 {
            queue.pop_front();
        }
        Ok(sent)
    }
}

fn is_placeholder(slice: &[u8]) -> bool {
    PLACEHOLDER.as_ptr_range().contains(&slice.as_ptr()) && !slice.is_empty()
}

/// A client's connection. A client that takes nothing for too long loses it.
#[derive(Debug)]
pub struct Conn {
    stream: Kind,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream, SendQueue),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Conn {
    /// Without TLS; the queue is where answers put their files.
    pub fn plain(stream: TcpStream, queue: SendQueue, patience: Duration) -> Conn {
        Conn {
            stream: Kind::Tcp(stream, queue),
            patience,
            stalled: None,
        }
    }

    /// After the handshake.
    pub fn tls(stream: TlsStream<TcpStream>, patience: Duration) -> Conn {
        Conn {
            stream: Kind::Tls(Box::new(stream)),
            patience,
            stalled: None,
        }
    }

    /// Passes an answer on; one that is late too long becomes an error.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let patience = self.patience;
        let sleep = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Kind::Tcp(stream, _) => Pin::new(stream).poll_read(cx, buf),
            Kind::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = match &mut self.stream {
            Kind::Tcp(stream, queue) => write_plain(stream, queue, cx, bufs),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Kind::Tcp(..) => true,
            Kind::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = match &mut self.stream {
            Kind::Tcp(stream, _) => Pin::new(stream).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Kind::Tcp(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Writes the slices up to the first placeholder, or, if that is the first, of its file.
fn write_plain(
    stream: &mut TcpStream,
    queue: &SendQueue,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let bytes = bufs.iter().take_while(|buf| !is_placeholder(buf)).count();
    if bytes > 0 {
        return Pin::new(stream).poll_write_vectored(cx, &bufs[..bytes]);
    }
    let n = bufs.first().map_or(0, |buf| buf.len());
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, || queue.send(stream, n)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return Poll::Ready(other),
        }
    }
}
