//! Listeners and connections: accept, count, agree on TLS, speak HTTP, stop gracefully.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};
use wharf_tls::Certificates;

use super::conn::{Conn, SendQueue};
use crate::config::HttpConfig;
use crate::server::Server;

/// After `accept` failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is kept of a connection's requests and answers at most: hundreds of pulls at once must not need much memory. Files that the kernel
/// sends are not counted, because they never pass through here.
const BUFFERED: usize = 128 << 10;

/// The same where TLS is spoken, which keeps a copy of its own.
const BUFFERED_TLS: usize = 64 << 10;

/// What an upload over HTTP/2 may be ahead of us.
const WINDOW: u32 = 1 << 20;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address.
    pub address: SocketAddr,
    /// The common name of the certificate that was shown.
    pub certificate: Option<Arc<str>>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Where answers put files that the kernel is to send, if it can.
    pub queue: Option<SendQueue>,
}

/// What a listener answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// The registry.
    Registry,
    /// Metrics and health only.
    Metrics,
}

/// How many connections there are.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    each: usize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Places {
    /// As configured.
    pub fn new(config: &HttpConfig) -> Places {
        Places {
            all: Arc::new(Semaphore::new(
                config.max_connections.clamp(1, Semaphore::MAX_PERMITS),
            )),
            each: config.max_connections_per_client,
            clients: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Places>, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let mut clients = self.clients.lock();
        let count = clients.entry(address).or_default();
        if self.each > 0 && *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place {
            places: self.clone(),
            address,
            _permit: permit,
        })
    }
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.places.clients.lock();
        if let Some(count) = clients.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.address);
            }
        }
    }
}

/// Serves one listener until `stop` turns true, then lets its requests finish for a while.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Certificates>,
    face: Face,
    server: Arc<Server>,
    places: Arc<Places>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&listener, &places) => match accepted {
                Ok(Some((stream, address, place))) => {
                    let work = connection(stream, address, tls.clone(), face, server.clone(), stop.clone());
                    connections.spawn(async move {
                        work.await;
                        drop(place);
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Reaps finished connections as they end.
            Some(_) = connections.join_next() => {}
            () = told(&mut stop) => break,
        }
    }
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(server.config.http.shutdown_timeout, finish)
        .await
        .is_err()
    {
        debug!("requests were still running when the time to finish was over");
    }
}

/// Waits for the word to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // The borrow of the value must not live across an await.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Places>,
) -> io::Result<Option<(TcpStream, SocketAddr, Place)>> {
    // Whoever finds no place waits in the kernel's queue.
    let permit = places
        .all
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(places
        .enter(address.ip(), permit)
        .map(|place| (stream, address, place)))
}

/// One connection from its handshake to its end.
async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Certificates>,
    face: Face,
    server: Arc<Server>,
    mut stop: watch::Receiver<bool>,
) {
    let config = &server.config.http;
    let (header_timeout, patience) = (config.header_timeout, config.body_timeout);
    let mut peer = Peer {
        address,
        certificate: None,
        tls: tls.is_some(),
        queue: None,
    };
    let (conn, h2) = match tls {
        None => {
            let queue = SendQueue::to(&stream);
            peer.queue = Some(queue.clone());
            (Conn::plain(stream, queue, patience), false)
        }
        Some(tls) => {
            match tokio::time::timeout(header_timeout, tls.acceptor().accept(stream)).await {
                Ok(Ok(mut stream)) => {
                    stream.get_mut().1.set_buffer_limit(Some(BUFFERED_TLS / 2));
                    let session = stream.get_ref().1;
                    let h2 = session.alpn_protocol() == Some(b"h2");
                    let shown = session.peer_certificates().and_then(|chain| chain.first());
                    peer.certificate = shown
                        .and_then(|certificate| wharf_tls::common_name(certificate))
                        .map(Arc::from);
                    (Conn::tls(stream, patience), h2)
                }
                Ok(Err(error)) => return debug!(%error, %address, "TLS handshake failed"),
                Err(_) => return debug!(%address, "TLS handshake took too long"),
            }
        }
    };
    let buffered = if peer.tls { BUFFERED_TLS } else { BUFFERED };
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(server.answer(face, &peer, request).await) }
    });
    let io = TokioIo::new(conn);
    let outcome = if h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(header_timeout))
            .max_concurrent_streams(100)
            .max_send_buf_size(BUFFERED_TLS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_header_list_size(64 << 10);
        let conn = builder.serve_connection(io, service);
        tokio::pin!(conn);
        tokio::select! {
            outcome = conn.as_mut() => outcome,
            () = told(&mut stop) => {
                conn.as_mut().graceful_shutdown();
                conn.await
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        // Vectored always: see `conn` on placeholders.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .writev(true)
            .max_buf_size(buffered)
            .title_case_headers(true);
        let conn = builder.serve_connection(io, service);
        tokio::pin!(conn);
        tokio::select! {
            outcome = conn.as_mut() => outcome,
            () = told(&mut stop) => {
                conn.as_mut().graceful_shutdown();
                conn.await
            }
        }
    };
    if let Err(error) = outcome {
        debug!(%error, %address, "connection ended early");
    }
}
