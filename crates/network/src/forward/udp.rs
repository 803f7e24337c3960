//! UDP: a socket towards the container for each client, as long as they have something to say.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use wharf_sys::pktinfo::{self, Local};

/// A client is forgotten when the container has not answered for so long (as docker-proxy).
const SILENCE: Duration = Duration::from_secs(90);

/// Clients of one port at once; more are not heard.
const MOST_CLIENTS: usize = 4096;

/// Who asked, and which address of the host: answers must come from there.
type Client = (SocketAddr, Option<Local>);

type Clients = Rc<RefCell<HashMap<Client, Rc<UdpSocket>>>>;

/// Carries every datagram to `target`, and answers back.
pub(super) async fn serve(front: Rc<UdpSocket>, target: SocketAddr) {
    let is_v6 = front.local_addr().is_ok_and(|address| address.is_ipv6());
    if let Err(error) = pktinfo::enable(front.as_fd(), is_v6) {
        tracing::warn!(%error, "answers may come from another address than was asked");
    }
    let clients = Clients::default();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        if front.readable().await.is_err() {
            return;
        }
        let receive = || pktinfo::receive(front.as_fd(), &mut buffer);
        let Ok(datagram) = front.try_io(Interest::READABLE, receive) else {
            continue;
        };
        let client = (datagram.sender, datagram.local);
        if let Some(socket) = socket_for(&clients, &front, client, target) {
            // The container may not listen, or not fast enough: datagrams get lost.
            // Not through tokio, which knows nothing of a new socket yet.
            let bytes = &buffer[..datagram.length];
            let _ = rustix::net::send(&*socket, bytes, rustix::net::SendFlags::empty());
        }
    }
}

fn socket_for(
    clients: &Clients,
    front: &Rc<UdpSocket>,
    client: Client,
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

async fn carry_back(back: &UdpSocket, front: &UdpSocket, (client, local): Client) {
    let mut buffer = Vec::new();
    while let Ok(Ok(())) = timeout(SILENCE, back.readable()).await {
        buffer.clear();
        buffer.reserve(usize::from(u16::MAX));
        match back.try_recv_buf(&mut buffer) {
            // A client that hears too slowly loses answers, as on any network.
            Ok(_) => drop(pktinfo::send(front.as_fd(), &buffer, client, local)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // Nobody listens: the next datagram may find somebody.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
        // Kept only while needed: there may be thousands of clients.
        buffer = Vec::new();
    }
}
