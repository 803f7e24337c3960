//! The name server: a container's two sockets, served until it is gone.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::answer::{Action, Transport, answer};
use super::upstream::{self, Server, framed, read_framed};
use crate::netd::protocol::Resolving;
use crate::netd::service::Service;

/// Questions to others under way at once, of all containers; more are refused, as in Docker.
const MOST_QUESTIONS: usize = 1024;

/// TCP connections of one container at once.
const MOST_CONNECTIONS: usize = 64;

/// A connection on which nothing is asked is closed.
const IDLE: Duration = Duration::from_secs(10);

/// A container's name server at work.
#[derive(Debug)]
pub(crate) struct Serving {
    udp: Rc<UdpSocket>,
    tcp: Rc<TcpListener>,
    tasks: [AbortHandle; 2],
}

impl Serving {
    /// Begins to answer for the container `id`. Sockets as [`super::socket::ResolverSockets`] makes them.
    pub(crate) fn start(
        service: &Rc<Service>,
        id: &str,
        udp: OwnedFd,
        tcp: OwnedFd,
    ) -> io::Result<Serving> {
        let udp = Rc::new(UdpSocket::from_std(udp.into())?);
        let tcp = Rc::new(TcpListener::from_std(tcp.into())?);
        let client = || Client {
            service: Rc::clone(service),
            id: id.into(),
        };
        let (datagrams, connections) = (Rc::clone(&udp), Rc::clone(&tcp));
        let tasks = [
            tokio::task::spawn_local(serve_udp(client(), datagrams)).abort_handle(),
            tokio::task::spawn_local(serve_tcp(client(), connections)).abort_handle(),
        ];
        Ok(Serving { udp, tcp, tasks })
    }

    /// Its sockets, to be handed on.
    pub(crate) fn sockets(&self) -> [std::os::fd::BorrowedFd<'_>; 2] {
        [self.udp.as_fd(), self.tcp.as_fd()]
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Who asks.
#[derive(Clone)]
struct Client {
    service: Rc<Service>,
    id: Rc<str>,
}

async fn serve_udp(client: Client, socket: Rc<UdpSocket>) {
    while socket.readable().await.is_ok() {
        while let Some((query, from)) = client.service.receive(&socket) {
            client.answer_datagram(&socket, &query, from);
        }
    }
}

async fn serve_tcp(client: Client, listener: Rc<TcpListener>) {
    let open = Rc::new(Cell::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: there will be some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if open.get() >= MOST_CONNECTIONS {
            continue;
        }
        let counted = Counted::one_more(&open);
        let client = client.clone();
        tokio::task::spawn_local(async move {
            // How a client ends its connection is its own affair.
            let _ = client.serve_stream(stream).await;
            drop(counted);
        });
    }
}

impl Client {
    fn answer_datagram(&self, socket: &Rc<UdpSocket>, query: &[u8], from: SocketAddr) {
        let Some((action, container)) = self.decide(query, Transport::Udp) else {
            return;
        };
        match action {
            Action::Reply(reply) => send(socket, &reply, from),
            Action::Forward { failure } => {
                let (client, socket) = (self.clone(), Rc::clone(socket));
                let query = Rc::from(query);
                tokio::task::spawn_local(async move {
                    let reply = client.forward(&container, query, Transport::Udp).await;
                    send(&socket, &reply.unwrap_or(failure), from);
                });
            }
            Action::Ignore => {}
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let query = timeout(IDLE, read_framed(&mut stream)).await??;
            let Some((action, container)) = self.decide(&query, Transport::Tcp) else {
                return Ok(());
            };
            let reply = match action {
                Action::Reply(reply) => reply,
                Action::Forward { failure } => self
                    .forward(&container, query.into(), Transport::Tcp)
                    .await
                    .unwrap_or(failure),
                Action::Ignore => return Ok(()),
            };
            stream.write_all(&framed(&reply)?).await?;
        }
    }

    /// `None`: the container is gone.
    fn decide(&self, query: &[u8], transport: Transport) -> Option<(Action, Rc<Resolving>)> {
        // What the daemon said before this question came counts.
        self.service.hear_daemon();
        let names = self.service.names.borrow();
        let container = Rc::clone(names.get(&self.id)?);
        Some((answer(&names, &container, query, transport), container))
    }

    /// `None`: nobody knew.
    async fn forward(
        &self,
        container: &Resolving,
        query: Rc<[u8]>,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let _counted = Counted::below(&self.service.questions, MOST_QUESTIONS)?;
        let servers = self.service.servers(container);
        upstream::ask(servers, self.service.home.clone(), query, transport).await
    }
}

impl Service {
    /// Whom to ask for what is not ours, in order.
    fn servers(&self, container: &Resolving) -> Vec<Server> {
        if container.servers.is_empty() {
            if !container.external {
                return Vec::new();
            }
            let addresses = self.host_servers.of(&container.host_file);
            let server = |address| Server {
                address,
                namespace: None,
            };
            return addresses.into_iter().map(server).collect();
        }
        let Some(namespace) = self.namespace_of(&container.id) else {
            return Vec::new();
        };
        let namespace = Rc::new(namespace);
        let server = |address: &std::net::IpAddr| Server {
            address: *address,
            namespace: Some(Rc::clone(&namespace)),
        };
        let servers = container.servers.iter().map(server);
        servers.filter(Server::is_foreign).collect()
    }
}

/// A client that does not take its answers does without.
fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    let _ = socket.try_send_to(reply, to);
}

/// One of a limited number.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn one_more(count: &Rc<Cell<usize>>) -> Counted {
        count.set(count.get() + 1);
        Counted(Rc::clone(count))
    }

    fn below(count: &Rc<Cell<usize>>, limit: usize) -> Option<Counted> {
        (count.get() < limit).then(|| Counted::one_more(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
