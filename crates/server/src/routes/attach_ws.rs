//! `GET /containers/{name}/attach/ws`: attach for browsers. Output loses its frames on the way: both streams become one,
//! as in moby.

use std::io;

use bytes::{Buf, BytesMut};
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tracing::debug;
use wharf_api::stream::{HEADER_LEN, decode_header};

use super::Outcome;
use super::attach::attach_options;
use crate::http::conn::Conn;
use crate::http::error::ApiError;
use crate::http::hijack::into_conn;
use crate::http::request::Call;
use crate::http::respond;
use crate::http::websocket::{self, Opcode};

/// Attaches a WebSocket.
pub async fn attach(mut call: Call) -> Outcome {
    let key = call.header(&SEC_WEBSOCKET_KEY).to_owned();
    let upgrade = call
        .parts
        .extensions
        .remove::<OnUpgrade>()
        .filter(|_| !key.is_empty());
    let Some(upgrade) = upgrade else {
        return Err(ApiError::invalid("not a WebSocket handshake"));
    };
    let attachment = call
        .engine()
        .container_attach(call.name(), attach_options(&call))
        .await?;
    let accept = HeaderValue::from_str(&websocket::accept(&key))
        .map_err(|e| ApiError::internal(e.to_string()))?;
    // moby sends text to clients from before 1.28.
    let opcode = if call.version.before(28) {
        Opcode::Text
    } else {
        Opcode::Binary
    };
    let engine = call.engine().clone();
    tokio::spawn(async move {
        let framed = !attachment.is_raw();
        let joined = async {
            let (conn, early) = into_conn(upgrade.await.map_err(io::Error::other)?)?;
            let (ours, theirs) = UnixStream::pair()?;
            engine
                .attach_client(attachment, theirs.into_std()?.into(), Vec::new())
                .await
                .map_err(io::Error::other)?;
            translate(conn, BytesMut::from(&early[..]), ours, framed, opcode).await
        };
        if let Err(error) = joined.await {
            debug!(%error, "WebSocket attach ended early");
        }
    });
    let mut response = respond::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Moves bytes both ways until either side ends.
async fn translate(
    conn: Conn,
    early: BytesMut,
    process: UnixStream,
    framed: bool,
    opcode: Opcode,
) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(conn);
    let (from_process, to_process) = process.into_split();
    // Pongs and output share one writer.
    let (send, frames) = mpsc::channel(4);
    tokio::select! {
        done = write_frames(to_client, frames) => done,
        done = output(from_process, framed, opcode, send.clone()) => done,
        done = input(from_client, early, to_process, send) => done,
    }
}

async fn write_frames(
    mut client: WriteHalf<Conn>,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        client.write_all(&frame).await?;
        client.flush().await?;
    }
    Ok(())
}

async fn output(
    mut process: OwnedReadHalf,
    framed: bool,
    opcode: Opcode,
    send: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut buf = BytesMut::with_capacity(32 << 10);
    let mut left_in_frame = 0;
    while process.read_buf(&mut buf).await? > 0 {
        while let Some(payload) = next_payload(&mut buf, framed, &mut left_in_frame)? {
            send_frame(&send, websocket::encode(opcode, &payload)).await?;
        }
    }
    send_frame(&send, websocket::encode(Opcode::Close, &[])).await?;
    // The writer has taken the last frame when there is room for all again.
    let _ = send.reserve_many(send.max_capacity()).await;
    Ok(())
}

/// What can be passed on of `buf`, without the frames of a process that has no terminal.
fn next_payload(
    buf: &mut BytesMut,
    framed: bool,
    left_in_frame: &mut usize,
) -> io::Result<Option<BytesMut>> {
    // A frame may be empty.
    while framed && *left_in_frame == 0 {
        let Some(header) = buf.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let (_, length) = decode_header(*header).map_err(io::Error::other)?;
        *left_in_frame = usize::try_from(length).unwrap_or(usize::MAX);
        buf.advance(HEADER_LEN);
    }
    let length = if framed {
        buf.len().min(*left_in_frame)
    } else {
        buf.len()
    };
    if length == 0 {
        return Ok(None);
    }
    if framed {
        *left_in_frame -= length;
    }
    Ok(Some(buf.split_to(length)))
}

async fn input(
    mut client: ReadHalf<Conn>,
    mut buf: BytesMut,
    mut process: OwnedWriteHalf,
    send: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        while let Some(frame) = websocket::decode(&mut buf).map_err(io::Error::other)? {
            match frame.opcode {
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    process.write_all(&frame.payload).await?
                }
                Opcode::Ping => {
                    send_frame(&send, websocket::encode(Opcode::Pong, &frame.payload)).await?
                }
                Opcode::Pong => {}
                Opcode::Close => return Ok(()),
            }
        }
        if client.read_buf(&mut buf).await? == 0 {
            return Ok(());
        }
    }
}

async fn send_frame(send: &mpsc::Sender<Vec<u8>>, frame: Vec<u8>) -> io::Result<()> {
    send.send(frame)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All payloads of `bytes`, arriving in pieces of `step`.
    fn payloads(bytes: &[u8], framed: bool, step: usize) -> Vec<u8> {
        let (mut buf, mut left, mut all) = (BytesMut::new(), 0, Vec::new());
        for piece in bytes.chunks(step) {
            buf.extend_from_slice(piece);
            while let Some(payload) =
                next_payload(&mut buf, framed, &mut left).expect("well formed")
            {
                all.extend_from_slice(&payload);
            }
        }
        all
    }

    #[test]
    fn frames_are_taken_off_wherever_they_break() {
        let bytes = b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x00\x02\0\0\0\0\0\0\x03cde";
        for step in 1..bytes.len() {
            assert_eq!(payloads(bytes, true, step), b"abcde", "{step}");
        }
        assert_eq!(payloads(b"as it is", false, 3), b"as it is");
    }
}
