//! Bodies of answers, and of requests.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body as _, Frame, SizeHint};

use super::conn::{PLACEHOLDER, SendQueue};
use crate::content::uploads::Incoming;

/// What is read of a file at once, where the kernel cannot send it.
const CHUNK: u64 = 32 << 10;

/// The body of an answer. Its size is always known.
pub struct Body {
    left: u64,
    from: From,
}

enum From {
    Bytes(Bytes),
    /// Sent by the kernel: hyper is handed placeholders, see [`super::conn`].
    Kernel {
        file: Option<std::fs::File>,
        offset: u64,
        queue: SendQueue,
    },
    File {
        file: Arc<std::fs::File>,
        offset: u64,
        reading: Option<tokio::task::JoinHandle<io::Result<Bytes>>>,
    },
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.left)
    }
}

impl Body {
    /// Nothing.
    pub fn empty() -> Body {
        Body::full(Bytes::new())
    }

    /// What is in memory.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        Body {
            left: bytes.len() as u64,
            from: From::Bytes(bytes),
        }
    }

    /// Part of a file. With a queue, the kernel sends it.
    pub fn file(file: std::fs::File, range: Range<u64>, queue: Option<SendQueue>) -> Body {
        let from = match queue {
            Some(queue) => From::Kernel {
                file: Some(file),
                offset: range.start,
                queue,
            },
            None => From::File {
                file: Arc::new(file),
                offset: range.start,
                reading: None,
            },
        };
        Body {
            left: range.end.saturating_sub(range.start),
            from,
        }
    }

    /// What comes from elsewhere, `size` bytes.
    pub fn stream(
        size: u64,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Body {
        Body {
            left: size,
            from: From::Stream(Box::pin(stream)),
        }
    }

    fn take(&mut self, bytes: &Bytes) -> io::Result<()> {
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(io::Error::other("the content is longer than it was")),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let left = this.left;
        if left == 0 {
            return Poll::Ready(None);
        }
        let next = match &mut this.from {
            From::Bytes(bytes) => Some(Ok(std::mem::take(bytes))),
            From::Kernel {
                file,
                offset,
                queue,
            } => {
                if let Some(file) = file.take() {
                    queue.push(file, *offset, left);
                }
                let n = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(PLACEHOLDER.len());
                Some(Ok(Bytes::from_static(&PLACEHOLDER[..n])))
            }
            From::File {
                file,
                offset,
                reading,
            } => {
                let job = reading.get_or_insert_with(|| {
                    let (file, at, n) = (file.clone(), *offset, left.min(CHUNK));
                    tokio::task::spawn_blocking(move || read_at(&file, at, n))
                });
                let bytes = std::task::ready!(Pin::new(job).poll(cx))
                    .unwrap_or_else(|error| Err(io::Error::other(error)));
                *reading = None;
                if let Ok(bytes) = &bytes {
                    *offset += bytes.len() as u64;
                }
                Some(bytes)
            }
            From::Stream(stream) => std::task::ready!(stream.as_mut().poll_next(cx)),
        };
        let Some(next) = next else {
            // The size was promised; ending silently would look like success to some clients.
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof))));
        };
        Poll::Ready(Some(next.and_then(|bytes| {
            this.take(&bytes)?;
            Ok(Frame::data(bytes))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn read_at(file: &std::fs::File, offset: u64, n: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(n).unwrap_or(0)];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}

/// A request's body: bytes only, and not for ever.
pub fn incoming(body: hyper::body::Incoming, patience: Duration) -> Incoming {
    let state = (body, false);
    Box::pin(futures_util::stream::unfold(
        state,
        move |(mut body, ended)| async move {
            if ended {
                return None;
            }
            loop {
                let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
                let frame = match tokio::time::timeout(patience, next).await {
                    Ok(frame) => frame?,
                    Err(_) => {
                        let error =
                            io::Error::new(io::ErrorKind::TimedOut, "the client sends no more");
                        return Some((Err(error), (body, true)));
                    }
                };
                match frame.map(Frame::into_data) {
                    Ok(Ok(bytes)) => return Some((Ok(bytes), (body, false))),
                    // Trailers.
                    Ok(Err(_)) => {}
                    Err(error) => return Some((Err(io::Error::other(error)), (body, true))),
                }
            }
        },
    ))
}
