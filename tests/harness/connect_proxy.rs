//! An HTTP proxy that tunnels (`CONNECT`), as companies have them before the internet.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::Engine;
use crate::registry::inside;

/// A proxy in an engine's network namespace.
pub struct ConnectProxy {
    /// `127.0.0.1:<port>`
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Listens on the loopback.
    #[must_use]
    pub fn start(engine: &Engine) -> ConnectProxy {
        let netns = engine.netns().path();
        let listener = inside(&netns, || {
            TcpListener::bind(("127.0.0.1", 0)).expect("a port on the loopback")
        });
        let address = listener.local_addr().expect("it is bound").to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heads = asked.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (heads, netns) = (heads.clone(), netns.clone());
                // A client that breaks off is no concern of the proxy's.
                std::thread::spawn(move || serve(client, &heads, &netns));
            }
        });
        ConnectProxy { address, asked }
    }

    /// The heads of all requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panicked").clone()
    }
}

fn serve(mut client: TcpStream, heads: &Mutex<Vec<String>>, netns: &std::path::Path) -> Option<()> {
    let head = read_head(&mut client)?;
    heads.lock().ok()?.push(head.clone());
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let server = inside(netns, || TcpStream::connect(&target)).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (client2, server2) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || carry(client2, server2));
    carry(server, client);
    Some(())
}

fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
