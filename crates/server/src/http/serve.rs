//! Listeners and connections: accept, speak HTTP/1.1 or h2c on the same socket, stop gracefully.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tracing::{debug, warn};
use wharf_tls::Certificates;

use super::conn::Conn;
use crate::authz::peer::Peer;
use crate::{Server, routes};

/// How long requests may still run once the daemon was told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// After `accept` failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// `unix://` and `fd://`.
    Unix(UnixListener),
    /// `tcp://`, with TLS or without.
    Tcp(TcpListener, Option<Certificates>),
}

/// Serves one listener until `stop` turns true, then lets its connections finish.
pub async fn serve(listener: Listener, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&listener) => match accepted {
                Ok(accepted) => {
                    connections.spawn(connection(accepted, server.clone(), stop.clone()));
                }
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
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        debug!("requests were still running when the time to finish was over");
    }
}

/// Waits for the word to stop; a daemon that is gone is one.
async fn told(stop: &mut watch::Receiver<bool>) {
    // The borrow of the value must not live across an await.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A connection before its handshake.
enum Accepted {
    Ready(Conn),
    Tls(Box<tokio_rustls::Accept<tokio::net::TcpStream>>),
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    Ok(match listener {
        Listener::Unix(unix) => Accepted::Ready(Conn::Unix(unix.accept().await?.0)),
        Listener::Tcp(tcp, tls) => {
            let (stream, _) = tcp.accept().await?;
            stream.set_nodelay(true)?;
            match tls {
                None => Accepted::Ready(Conn::Tcp(stream)),
                Some(tls) => Accepted::Tls(Box::new(tls.acceptor().accept(stream))),
            }
        }
    })
}

/// One connection from its handshake to its end, or to its hand-over.
async fn connection(accepted: Accepted, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let conn = match accepted {
        Accepted::Ready(conn) => conn,
        Accepted::Tls(handshake) => match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => Conn::Tls(Box::new(stream)),
            Ok(Err(error)) => return debug!(%error, "TLS handshake failed"),
            Err(_) => return debug!("TLS handshake took too long"),
        },
    };
    let peer = Arc::new(Peer::of(&conn, server.authorizer().asks_groups()));
    let service = service_fn(move |request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(routes::dispatch(server, &peer, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Spelled as Go spells them; some clients look at the bytes.
    builder.http1().title_case_headers(true);
    let conn = builder.serve_connection_with_upgrades(TokioIo::new(conn), service);
    tokio::pin!(conn);
    let outcome = tokio::select! {
        outcome = conn.as_mut() => outcome,
        () = told(&mut stop) => {
            conn.as_mut().graceful_shutdown();
            conn.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "connection ended early");
    }
}
