//! Taking a connection over: attach and exec start leave HTTP and become a stream of bytes both ways.
//!
//! With `Upgrade` the client gets 101 and its own socket is handed on. Without it, and over HTTP/2, the answer is 200
//! and the bodies carry the bytes, through a socket pair.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tracing::debug;

use super::body::{Body, RequestBody};
use super::conn::{Conn, Handover};
use super::error::ApiError;
use super::request::Call;
use super::respond;

/// How long a client may take to read the head before the stream begins regardless.
const HEAD_WAIT: Duration = Duration::from_millis(50);

/// Part of [`HEAD_WAIT`] that is worth looking again and again.
const HEAD_SPIN: Duration = Duration::from_micros(200);

/// The client's end, ready to be handed to another process.
#[derive(Debug)]
pub struct Client {
    /// Non-blocking stream socket.
    pub socket: OwnedFd,
    /// What the client had sent behind its request already.
    pub early_input: Vec<u8>,
}

/// Answers `call` and hands its connection to `take` once the answer's head is out.
pub fn take_over<F, Fut>(
    call: Call,
    content_type: &'static str,
    take: F,
) -> Result<Response<Body>, ApiError>
where
    F: FnOnce(Client) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Call {
        mut parts, body, ..
    } = call;
    match parts.extensions.remove::<OnUpgrade>() {
        Some(upgrade) => Ok(switch_protocols(upgrade, content_type, take)),
        None => stream_bodies(body, take),
    }
}

/// 101, then the client's own socket.
fn switch_protocols<F, Fut>(
    upgrade: OnUpgrade,
    content_type: &'static str,
    take: F,
) -> Response<Body>
where
    F: FnOnce(Client) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return debug!(%error, "client left before its connection was taken over"),
        };
        match into_client(upgraded) {
            Ok(client) => {
                head_is_read(&client.socket).await;
                take(client).await;
            }
            Err(error) => debug!(%error, "connection could not be taken over"),
        }
    });
    let mut response = respond::empty(StatusCode::SWITCHING_PROTOCOLS);
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    response
}

/// Waits until the client has read the answer's head, a moment at most. Docker's Python SDK loses output that arrives
/// together with the head, and here, unlike in dockerd, a process can be that fast.
async fn head_is_read(socket: &OwnedFd) {
    let began = Instant::now();
    while began.elapsed() < HEAD_WAIT {
        if !matches!(wharf_sys::queue::unread_by_peer(socket), Ok(1..)) {
            return;
        }
        // A client that waits for the head reads it within microseconds; the timer ticks in milliseconds.
        if began.elapsed() < HEAD_SPIN {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn into_client(upgraded: Upgraded) -> io::Result<Client> {
    let (conn, early) = into_conn(upgraded)?;
    match conn.into_handover()? {
        Handover::Socket(socket) => Ok(Client {
            socket,
            early_input: early.into(),
        }),
        Handover::Proxied(conn) => Ok(Client {
            socket: proxy(conn, early)?,
            early_input: Vec::new(),
        }),
    }
}

/// The connection under an upgraded request, and what was read from it already.
pub fn into_conn(upgraded: Upgraded) -> io::Result<(Conn, Bytes)> {
    let parts = auto::upgrade::downcast::<TokioIo<Conn>>(upgraded)
        .map_err(|_| io::Error::other("connection of an unknown type"))?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// Translates between a TLS connection and one end of a socket pair; returns the other.
fn proxy(mut conn: Conn, early: Bytes) -> io::Result<OwnedFd> {
    let (mut ours, theirs) = UnixStream::pair()?;
    tokio::spawn(async move {
        let copied = async {
            ours.write_all(&early).await?;
            tokio::io::copy_bidirectional(&mut conn, &mut ours).await
        };
        if let Err(error) = copied.await {
            debug!(%error, "proxied connection ended early");
        }
    });
    Ok(theirs.into_std()?.into())
}

/// 200, then the bodies as the two directions. The content type is the old one whatever the framing, as moby's.
fn stream_bodies<F, Fut>(body: RequestBody, take: F) -> Result<Response<Body>, ApiError>
where
    F: FnOnce(Client) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let pair = || -> io::Result<(UnixStream, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((ours, theirs.into_std()?.into()))
    };
    let (ours, socket) = pair().map_err(|e| ApiError::internal(format!("socket pair: {e}")))?;
    let (output, input) = ours.into_split();
    let (send, chunks) = mpsc::channel(4);
    tokio::spawn(copy_output(output, send));
    tokio::spawn(copy_input(body, input));
    tokio::spawn(async move {
        take(Client {
            socket,
            early_input: Vec::new(),
        })
        .await
    });
    let mut response = respond::stream(wharf_api::stream::RAW, chunks);
    // HTTP/1.0 has no chunks: the bytes behind the head are the stream's own, up to the end of the connection, which is
    // what clients of this old way expect.
    *response.version_mut() = Version::HTTP_10;
    Ok(response)
}

async fn copy_output(
    mut from: tokio::net::unix::OwnedReadHalf,
    to: mpsc::Sender<super::body::Chunk>,
) {
    let mut buf = vec![0; 32 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buf) => read,
            () = to.closed() => return,
        };
        let chunk = match read {
            Ok(0) => return,
            Ok(n) => Ok(Bytes::copy_from_slice(&buf[..n])),
            Err(error) => Err(error),
        };
        if to.send(chunk).await.is_err() {
            return;
        }
    }
}

/// Request body to the process. A request without a body does not close the process's input: its client cannot
/// have meant to say anything by it.
async fn copy_input(mut body: RequestBody, mut to: tokio::net::unix::OwnedWriteHalf) {
    use http_body::Body as _;
    if body.is_end_stream() {
        to.forget();
        return;
    }
    while let Some(Ok(frame)) = body.frame().await {
        // Trailers are not data.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if to.write_all(&data).await.is_err() {
            return;
        }
    }
    // The process may be gone already.
    let _ = to.shutdown().await;
}
