//! Bodies: of answers (nothing, one buffer, or a stream fed from elsewhere) and of requests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// An answer's body. Dropping it (the client went away) closes the channel, which ends the producer.
#[derive(Debug, Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes at once.
    Full(Bytes),
    /// Bytes as they come; an error breaks the connection off, so that the client sees a truncated answer.
    Stream(mpsc::Receiver<Chunk>),
}

/// What a producer of a streamed body sends.
pub type Chunk = Result<Bytes, io::Error>;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Body::Empty => Poll::Ready(None),
            body @ Body::Full(_) => match std::mem::take(body) {
                Body::Full(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Body::Stream(chunks) => chunks
                .poll_recv(cx)
                .map(|chunk| chunk.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_empty(),
            Body::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

/// A request's body. Who has to see it before its handler puts back what was read.
#[derive(Debug)]
pub struct RequestBody {
    /// Read already, to be read again.
    front: Option<Bytes>,
    rest: Incoming,
}

impl From<Incoming> for RequestBody {
    fn from(rest: Incoming) -> RequestBody {
        RequestBody { front: None, rest }
    }
}

impl RequestBody {
    /// The whole body, kept for the handler. `None` when it is longer than `limit`, or may be; what was read of it is kept.
    pub async fn peek(&mut self, limit: u64) -> Result<Option<Bytes>, hyper::Error> {
        // Announced too long: nothing needs to be read.
        if http_body::Body::size_hint(&self.rest).lower() > limit {
            return Ok(None);
        }
        let mut whole = bytes::BytesMut::from(self.front.take().unwrap_or_default());
        let mut outcome = Ok(());
        while (whole.len() as u64) <= limit
            && let Some(frame) = self.rest.frame().await
        {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => whole.extend_from_slice(&data),
                // Trailers are not data.
                Ok(Err(_)) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let whole = whole.freeze();
        self.front = Some(whole.clone());
        outcome.map(|()| (whole.len() as u64 <= limit).then_some(whole))
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        match body.front.take() {
            Some(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            _ => Pin::new(&mut body.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.front.as_ref().is_none_or(Bytes::is_empty) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let front = self.front.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + front);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + front);
        }
        hint
    }
}
