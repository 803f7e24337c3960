//! Connections, and how files go out over them without passing through memory.
//!
//! hyper frames answers and writes slices. For a file it is handed slices of one static placeholder instead of the bytes; the connection sees
//! by a slice's address that it is one, and lets the kernel send as many bytes of the file (sendfile). hyper writes vectored here and so never copies
//! a slice. To a client on this machine sendfile would only move work: it gets the file's own pages, cold and in pieces of 4 KiB, and is the
//! slower for it than the kernel saves here. It is sent copies, out of a small buffer that stays in the processor's cache (measured with `wrk`,
//! files of 32 MB: 0.7 seconds of the client's processor for a gigabyte with sendfile, 0.27 with copies). Everything else about HTTP (keep-alive, ranges, pipelining, timeouts) stays hyper's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

/// What stands for the bytes of files. Never read: its pages are never there.
pub static PLACEHOLDER: [u8; 1 << 20] = [0; 1 << 20];

/// The most that is sent in one call, so that other connections have their turn.
const AT_ONCE: usize = 1 << 20;

/// The same of a copy; fits into the nearer caches.
const COPY: usize = 256 << 10;

/// What waits in the kernel for a client on this machine, doubled by the kernel (socket(7), `SO_SNDBUF`): what it reads is then still in the
/// caches. No round trip has to be filled. (`wrk` again: 0.45 seconds with the kernel's own choice of 4 MiB.)
const NEAR: usize = 256 << 10;

thread_local! {
    /// What is copied. One for each thread, so that hundreds of connections need none of their own.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Files whose turn comes, in the order of the answers.
#[derive(Debug, Clone)]
pub struct SendQueue {
    pieces: Arc<Mutex<VecDeque<Piece>>>,
    /// The client is on this machine: it gets copies.
    near: bool,
}

#[derive(Debug)]
struct Piece {
    file: File,
    offset: u64,
    left: u64,
}

impl SendQueue {
    /// For one connection.
    pub fn to(stream: &TcpStream) -> SendQueue {
        let ends = (stream.local_addr(), stream.peer_addr());
        let near = matches!(ends, (Ok(ours), Ok(theirs)) if ours.ip() == theirs.ip());
        if near {
            // Only slower without.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(stream, NEAR);
        }
        SendQueue {
            pieces: Arc::default(),
            near,
        }
    }

    /// The next answer's body is this part of a file.
    pub fn push(&self, file: File, offset: u64, length: u64) {
        // Starts reading what is not in memory; refused only by what is no file.
        let ahead = std::num::NonZeroU64::new(length.min(4 << 20));
        let _ = rustix::fs::fadvise(&file, offset, ahead, rustix::fs::Advice::WillNeed);
        self.pieces.lock().push_back(Piece {
            file,
            offset,
            left: length,
        });
    }

    /// Sends up to `n` bytes of the file whose turn it is, and says whether that was all that the socket took.
    fn send(&self, stream: &TcpStream, n: usize) -> io::Result<Sent> {
        let mut queue = self.pieces.lock();
        let piece = queue
            .front_mut()
            .ok_or_else(|| io::Error::other("a placeholder without a file"))?;
        let n = n.min(usize::try_from(piece.left).unwrap_or(usize::MAX));
        let sent = match self.near {
            true => copy(stream, piece, n)?,
            false => sendfile(stream, piece, n)?,
        };
        if sent.bytes == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter",
            ));
        }
        piece.left -= sent.bytes as u64;
        if piece.left == 0 {
            queue.pop_front();
        }
        Ok(sent)
    }
}

struct Sent {
    bytes: usize,
    /// The socket takes no more now.
    full: bool,
}

fn sendfile(stream: &TcpStream, piece: &mut Piece, n: usize) -> io::Result<Sent> {
    let n = n.min(AT_ONCE);
    let bytes = rustix::fs::sendfile(stream, &piece.file, Some(&mut piece.offset), n)?;
    Ok(Sent { bytes, full: false })
}

fn copy(stream: &TcpStream, piece: &mut Piece, n: usize) -> io::Result<Sent> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(COPY, 0);
        let read = piece
            .file
            .read_at(&mut buffer[..n.min(COPY)], piece.offset)?;
        if read == 0 {
            return Ok(Sent {
                bytes: 0,
                full: false,
            });
        }
        let bytes = rustix::net::send(stream, &buffer[..read], SendFlags::NOSIGNAL)?;
        piece.offset += bytes as u64;
        // What it did not take is read again.
        Ok(Sent {
            bytes,
            full: bytes < read,
        })
    })
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
        let mut bytes = 0;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let sent = queue.send(stream, n)?;
            bytes = sent.bytes;
            match sent.full {
                // Waits for the next word of the kernel before the next try.
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            _ if bytes > 0 => return Poll::Ready(Ok(bytes)),
            _ => {}
        }
    }
}
