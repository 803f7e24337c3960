//! The listener of `--metrics-addr`: plain HTTP, one path.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::Server;
use crate::http::body::Body;

/// The one path.
const PATH: &str = "/metrics";
/// What `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds `address` (`host:port`).
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop` turns true. Scrapes are short: those under way are not waited for.
pub async fn serve(listener: TcpListener, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, server.clone()));
                }
                Err(error) => {
                    warn!(%error, "accept of a metrics client failed");
                    return;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, server: Arc<Server>) {
    let service = service_fn(|request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(answer(&server, &request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "metrics connection ended early");
    }
}

async fn answer(server: &Server, request: &Request<Incoming>) -> Response<Body> {
    let plain = |status: StatusCode, text: String| {
        let mut response = Response::new(Body::Full(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n".into());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
    }
    match server.metrics.text(&server.engine).await {
        Ok(text) => {
            let mut response = plain(StatusCode::OK, text);
            let kind = http::HeaderValue::from_static(OPEN_METRICS);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
