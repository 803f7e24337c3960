//! Asking other name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answer::Transport;
use super::socket::{ADDRESS, PORT};

/// A server that has not answered for this long gets company: the next one is asked too. Docker waits for four seconds, which is
/// longer than some clients wait in all.
const PATIENCE: Duration = Duration::from_millis(800);

/// After this nobody waits any more: clients ask again after five seconds.
const LIMIT: Duration = Duration::from_secs(4);

/// Answer codes after which the next server is asked: it may be a passing weakness of this one.
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// Where a server is reached from, and a namespace to make sockets in.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: IpAddr,
    /// The container's namespace; none is netd's own.
    pub(crate) namespace: Option<Rc<OwnedFd>>,
}

impl Server {
    /// Whether it is anybody else.
    pub(crate) fn is_foreign(&self) -> bool {
        self.namespace.is_none() || self.address != IpAddr::V4(ADDRESS)
    }

    fn socket(&self, home: &OwnedFd, kind: SocketType) -> io::Result<OwnedFd> {
        let family = match self.address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Some(namespace) = &self.namespace else {
            return Ok(rustix::net::socket_with(family, kind, flags, None)?);
        };
        wharf_sys::netns::enter(namespace.as_fd())?;
        let socket = rustix::net::socket_with(family, kind, flags, None);
        // In a wrong namespace this process would serve the wrong sockets from then on.
        if wharf_sys::netns::enter(home.as_fd()).is_err() {
            std::process::abort();
        }
        Ok(socket?)
    }

    fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }
}

/// The first good answer of `servers` to `query`; they are asked in order, and side by side when slow.
pub(crate) async fn ask(
    servers: Vec<Server>,
    home: Rc<OwnedFd>,
    query: Rc<[u8]>,
    transport: Transport,
) -> Option<Vec<u8>> {
    let end = Instant::now() + LIMIT;
    let mut servers = servers.into_iter().peekable();
    let mut asking = JoinSet::new();
    loop {
        if let Some(server) = servers.next() {
            let (home, query) = (Rc::clone(&home), Rc::clone(&query));
            asking.spawn_local(async move { exchange(&server, &home, &query, transport).await });
        }
        tokio::select! {
            answer = asking.join_next() => match answer {
                Some(Ok(Ok(reply))) if is_good(&reply) => return Some(reply),
                None if servers.peek().is_none() => return None,
                _ => {}
            },
            () = sleep(PATIENCE), if servers.peek().is_some() => {}
            () = sleep_until(end) => return None,
        }
    }
}

fn is_good(reply: &[u8]) -> bool {
    reply
        .get(3)
        .is_some_and(|flags| ![SERVER_FAILURE, REFUSED].contains(&(flags & 0x0f)))
}

async fn exchange(
    server: &Server,
    home: &OwnedFd,
    query: &[u8],
    transport: Transport,
) -> io::Result<Vec<u8>> {
    let exchange = async {
        match transport {
            Transport::Udp => over_udp(server, home, query).await,
            Transport::Tcp => over_tcp(server, home, query).await,
        }
    };
    timeout(LIMIT, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The number is a fresh one, so that nobody who knows the client's can answer in the server's place.
async fn over_udp(server: &Server, home: &OwnedFd, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket: std::net::UdpSocket = server.socket(home, SocketType::DGRAM)?.into();
    let any: SocketAddr = match server.address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    rustix::net::bind(&socket, &any)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(server.endpoint()).await?;
    let id = fresh_id();
    let mut asked = query.to_vec();
    asked[..2].copy_from_slice(&id);
    socket.send(&asked).await?;
    // As in Docker: some servers send more than the client said it takes.
    let mut reply = Vec::new();
    loop {
        socket.readable().await?;
        reply.clear();
        reply.reserve(u16::MAX.into());
        match socket.try_recv_buf(&mut reply) {
            Ok(_) if reply.len() >= 12 && reply[..2] == id => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    reply[..2].copy_from_slice(&query[..2]);
    reply.shrink_to_fit();
    Ok(reply)
}

async fn over_tcp(server: &Server, home: &OwnedFd, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket: std::net::TcpStream = server.socket(home, SocketType::STREAM)?.into();
    let mut stream = TcpSocket::from_std_stream(socket)
        .connect(server.endpoint())
        .await?;
    stream.write_all(&framed(query)?).await?;
    read_framed(&mut stream).await
}

/// A message with its length before it (RFC 1035, 4.2.2).
pub(crate) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), message].concat())
}

/// The next message of a stream.
pub(crate) async fn read_framed(stream: &mut tokio::net::TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn fresh_id() -> [u8; 2] {
    let mut id = [0; 2];
    // The kernel's generator does not fail once it is seeded, which it is by the time containers run.
    let _ = getrandom::fill(&mut id);
    id
}
