//! A connected stream: unix, tcp, or one end of a pair whose other end another program or thread holds.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::endpoint::Endpoint;
use super::tls;

/// One connection to the daemon. Reading and writing take `&self`, so that two threads can share it.
#[derive(Debug)]
pub enum Socket {
    /// Through the file system.
    Unix(UnixStream),
    /// Over the network.
    Tcp(TcpStream),
    /// Through TLS or `ssh`.
    Bridge(Bridge),
}

/// Why the other end of a pair closed, if there was a reason.
type Tell = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Our end of a pair of sockets.
pub struct Bridge {
    stream: UnixStream,
    /// Something has come: an end from now on is an ordinary one.
    spoken: AtomicBool,
    tell: Tell,
}

impl Bridge {
    /// `tell` is asked once the other end has closed before it said anything.
    pub fn new(stream: UnixStream, tell: Tell) -> Bridge {
        Bridge {
            stream,
            spoken: AtomicBool::new(false),
            tell,
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match (&self.stream).read(buffer) {
            // The other end closed without reading all we said.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            other => other?,
        };
        if n > 0 {
            self.spoken.store(true, Ordering::Relaxed);
        } else if !buffer.is_empty() {
            self.closed()?;
        }
        Ok(n)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&self.stream).write(bytes);
        if written.is_err() {
            self.closed()?;
        }
        written
    }

    /// The reason, if the other end closed before it said anything and had one.
    fn closed(&self) -> io::Result<()> {
        if self.spoken.load(Ordering::Relaxed) {
            return Ok(());
        }
        (self.tell)().map_or(Ok(()), |why| Err(io::Error::other(why)))
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bridge").field(&self.stream).finish()
    }
}

impl Socket {
    /// Connects.
    pub fn connect(endpoint: &Endpoint) -> io::Result<Socket> {
        match endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
            Endpoint::Tcp(address) => tcp(address).map(Socket::Tcp),
            Endpoint::Tls(address, files) => {
                let host = address
                    .rsplit_once(':')
                    .map_or(&**address, |(host, _)| host);
                tls::connect(tcp(address)?, host, files).map(Socket::Bridge)
            }
            Endpoint::Ssh(target) => target.connect().map(Socket::Bridge),
        }
    }

    /// Says that no more will be written; reading goes on.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Bridge(bridge) => bridge.stream.shutdown(Shutdown::Write),
        }
    }

    /// Ends the conversation in both directions; whoever reads sees the end.
    pub fn shutdown(&self) {
        let _ = match self {
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Socket::Bridge(bridge) => bridge.stream.shutdown(Shutdown::Both),
        };
    }
}

fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(&*resolve(address)?)?;
    // Attach streams are keystrokes: Nagle would hold each one back for an acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The addresses of `host:port`. A static binary has no NSS, so names are looked up in `/etc/hosts` by ourselves.
fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(literal) = address.parse() {
        return Ok(vec![literal]);
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("no port in {address}"));
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_| invalid())?;
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let found = look_up_in_hosts(&hosts, host, port);
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::HostUnreachable,
            format!("lookup {host}: no such host"),
        ));
    }
    Ok(found)
}

fn look_up_in_hosts(hosts: &str, host: &str, port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(host))
                .then(|| SocketAddr::new(address, port))
        })
        .collect();
    // RFC 6761 section 6.3: localhost is the loopback whatever the files say.
    if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        found.push((Ipv4Addr::LOCALHOST, port).into());
        found.push((Ipv6Addr::LOCALHOST, port).into());
    }
    found
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&*stream).read(buffer),
            Socket::Tcp(stream) => (&*stream).read(buffer),
            Socket::Bridge(bridge) => bridge.read(buffer),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&*stream).write(bytes),
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Bridge(bridge) => bridge.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Bridge(bridge) => bridge.stream.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_hosts_file() {
        let hosts =
            "127.0.0.1 localhost\n10.0.0.7 engine engine.example # the box\n# 10.0.0.8 other\n";
        for (name, expected) in [
            ("engine.example", vec!["10.0.0.7:1"]),
            ("other", vec![]),
            ("ENGINE", vec!["10.0.0.7:1"]),
        ] {
            let found: Vec<String> = look_up_in_hosts(hosts, name, 1)
                .iter()
                .map(SocketAddr::to_string)
                .collect();
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(look_up_in_hosts("", "localhost", 1).len(), 2);
    }
}
