//! UDP: a socket towards the container for each client, as long as they have something to say.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A client is forgotten when the container has not answered for so long (as docker-proxy).
const SILENCE: Duration = Duration::from_secs(90);

/// Clients of one port at once; more are not heard.
const MOST_CLIENTS: usize = 4096;

type Clients = Rc<RefCell<HashMap<SocketAddr, Rc<UdpSocket>>>>;

/// Carries every datagram to `target`, and answers back.
pub(super) async fn serve(front: Rc<UdpSocket>, target: SocketAddr) {
    let clients = Clients::default();
    let mut buffer = Vec::with_capacity(usize::from(u16::MAX));
    loop {
        if front.readable().await.is_err() {
            return;
        }
        buffer.clear();
        let Ok((_, client)) = front.try_recv_buf_from(&mut buffer) else {
            continue;
        };
        if let Some(socket) = socket_for(&clients, &front, client, target) {
            // The container may not listen, or not fast enough: datagrams get lost.
            // Not through tokio, which knows nothing of a new socket yet.
            let _ = rustix::net::send(&*socket, &buffer, rustix::net::SendFlags::empty());
        }
        buffer.shrink_to(usize::from(u16::MAX));
    }
}

fn socket_for(
    clients: &Clients,
    front: &Rc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
) -> Option<Rc<UdpSocket>> {
    if let Some(socket) = clients.borrow().get(&client) {
        return Some(Rc::clone(socket));
    }
    if clients.borrow().len() >= MOST_CLIENTS {
        return None;
    }
    let socket = Rc::new(connected(target).ok()?);
    clients.borrow_mut().insert(client, Rc::clone(&socket));
    let (clients, front) = (Rc::clone(clients), Rc::clone(front));
    let back = Rc::clone(&socket);
    tokio::task::spawn_local(async move {
        carry_back(&back, &front, client).await;
        clients.borrow_mut().remove(&client);
    });
    Some(socket)
}

fn connected(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

async fn carry_back(back: &UdpSocket, front: &UdpSocket, client: SocketAddr) {
    let mut buffer = Vec::new();
    while let Ok(Ok(())) = timeout(SILENCE, back.readable()).await {
        buffer.clear();
        buffer.reserve(usize::from(u16::MAX));
        match back.try_recv_buf(&mut buffer) {
            Ok(_) => drop(front.try_send_to(&buffer, client)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // Nobody listens: the next datagram may find somebody.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
        // Kept only while needed: there may be thousands of clients.
        buffer = Vec::new();
    }
}
