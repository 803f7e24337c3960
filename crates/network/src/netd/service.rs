//! The process: hears the daemon, keeps sockets, does what it was told.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use wharf_sys::fdpass;

use super::protocol::{Answer, ForwardedPort, Request, Resolving, VERSION};
use crate::dns::names::Names;
use crate::dns::resolv_conf::HostServers;
use crate::dns::server::Serving;
use crate::forward::Forwarding;

/// Who starts this process connects at once.
const FIRST_DAEMON: Duration = Duration::from_secs(30);

/// Sockets in one message, below the limit of [`fdpass::MAX_FDS`].
pub(super) const SOCKETS_PER_MESSAGE: usize = 100;

/// Everything the process has.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) names: RefCell<Names>,
    pub(crate) host_servers: HostServers,
    /// Questions to other servers under way.
    pub(crate) questions: Rc<Cell<usize>>,
    /// This process's own network namespace.
    pub(crate) home: Rc<OwnedFd>,
    serving: RefCell<HashMap<String, Serving>>,
    forwarding: RefCell<HashMap<String, Vec<Forwarding>>>,
    watching: RefCell<HashMap<String, AbortHandle>>,
    daemon: RefCell<Option<Rc<UnixStream>>>,
    /// Signalled when the daemon is gone, or the last thing held.
    less: Notify,
    buffer: RefCell<Vec<u8>>,
}

/// See [`super::run`].
pub(super) async fn serve(listener: OwnedFd) -> io::Result<()> {
    let service = Rc::new(Service::new()?);
    // Messages instead of a stream; accepting is the same.
    rustix::io::ioctl_fionbio(&listener, true)?;
    let listener = UnixListener::from_std(listener.into())?;
    let first = timeout(FIRST_DAEMON, listener.accept()).await;
    let (daemon, _) = first.map_err(|_| io::Error::other("no daemon came"))??;
    service.talk_to(daemon);
    loop {
        tokio::select! {
            daemon = listener.accept() => service.talk_to(daemon?.0),
            () = service.less.notified() => {
                if service.is_superfluous() {
                    return Ok(());
                }
            }
        }
    }
}

impl Service {
    fn new() -> io::Result<Service> {
        Ok(Service {
            names: RefCell::default(),
            host_servers: HostServers::default(),
            questions: Rc::default(),
            home: Rc::new(wharf_sys::netns::current()?),
            serving: RefCell::default(),
            forwarding: RefCell::default(),
            watching: RefCell::default(),
            daemon: RefCell::default(),
            less: Notify::new(),
            buffer: RefCell::new(Vec::with_capacity(usize::from(u16::MAX))),
        })
    }

    /// The newest daemon is the one that counts.
    fn talk_to(self: &Rc<Self>, daemon: UnixStream) {
        let daemon = Rc::new(daemon);
        self.daemon.replace(Some(Rc::clone(&daemon)));
        let service = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while daemon.readable().await.is_ok() && service.is_current(&daemon) {
                // Everything is read: the next readiness is a new one.
                let _: io::Result<()> = daemon.try_io(Interest::READABLE, || {
                    service.hear_daemon();
                    Err(ErrorKind::WouldBlock.into())
                });
            }
        });
    }

    fn is_current(&self, daemon: &Rc<UnixStream>) -> bool {
        let current = self.daemon.borrow();
        current.as_ref().is_some_and(|c| Rc::ptr_eq(c, daemon))
    }

    fn is_superfluous(&self) -> bool {
        self.daemon.borrow().is_none()
            && self.serving.borrow().is_empty()
            && self.forwarding.borrow().is_empty()
    }

    /// Does everything the daemon has said so far.
    pub(crate) fn hear_daemon(self: &Rc<Self>) {
        loop {
            let Some(daemon) = self.daemon.borrow().clone() else {
                return;
            };
            // Not through tokio, which would only look where it was told of something.
            let heard = fdpass::receive(&*daemon);
            let outcome = match heard {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(message) if !message.bytes.is_empty() => {
                    self.obey(&daemon, &message.bytes, message.fds)
                }
                // The end, or a connection that cannot be used any more.
                _ => Err(ErrorKind::UnexpectedEof.into()),
            };
            if let Err(error) = outcome {
                if error.kind() != ErrorKind::UnexpectedEof {
                    report(&error);
                }
                self.daemon.replace(None);
                self.less.notify_one();
            }
        }
    }

    fn obey(
        self: &Rc<Self>,
        daemon: &UnixStream,
        message: &[u8],
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let request = postcard::from_bytes(message)
            .map_err(|error| io::Error::other(format!("message of the daemon: {error}")))?;
        match request {
            Request::Hello { .. } => self.introduce(daemon.as_fd()),
            Request::Resolve(container) => self.resolve(*container, fds),
            Request::Forward { id, ports } => {
                self.forward(&id, ports, fds);
                Ok(())
            }
            Request::Watch { id, endpoints } => self.watch(id, endpoints, fds),
            Request::Forget { ids } => {
                self.forget(&ids);
                tokio::task::spawn_local(async move {
                    // Tasks that hold sockets were ended before this one was made: they are dropped before this goes on.
                    tokio::task::yield_now().await;
                    drop(fds);
                });
                Ok(())
            }
        }
    }

    /// Tells a daemon what is held and hands it the sockets. It reads meanwhile, so waiting is short.
    fn introduce(&self, daemon: BorrowedFd<'_>) -> io::Result<()> {
        rustix::io::ioctl_fionbio(daemon, false)?;
        let sent = self.tell_all(daemon);
        rustix::io::ioctl_fionbio(daemon, true)?;
        sent
    }

    fn tell_all(&self, daemon: BorrowedFd<'_>) -> io::Result<()> {
        tell(daemon, &Answer::Version(VERSION), &[])?;
        let serving = self.serving.borrow();
        for container in self.names.borrow().all() {
            if let Some(sockets) = serving.get(&container.id).map(Serving::sockets) {
                let answer = Answer::Resolving(Box::new((**container).clone()));
                tell(daemon, &answer, &sockets)?;
            }
        }
        for (id, forwarding) in self.forwarding.borrow().iter() {
            for some in forwarding.chunks(SOCKETS_PER_MESSAGE) {
                let answer = Answer::Forwarding {
                    id: id.clone(),
                    ports: some.iter().map(|one| one.port().clone()).collect(),
                };
                let sockets: Vec<_> = some.iter().map(Forwarding::socket).collect();
                tell(daemon, &answer, &sockets)?;
            }
        }
        tell(daemon, &Answer::Complete, &[])
    }

    fn resolve(self: &Rc<Self>, container: Resolving, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut fds = fds.into_iter();
        if let (Some(udp), Some(tcp)) = (fds.next(), fds.next()) {
            // A new run: the end of the one before must not end this one.
            self.stop_watching(&container.id);
            let serving = Serving::start(self, &container.id, udp, tcp)?;
            self.serving
                .borrow_mut()
                .insert(container.id.clone(), serving);
        }
        self.names.borrow_mut().put(container);
        Ok(())
    }

    fn forward(self: &Rc<Self>, id: &str, ports: Vec<ForwardedPort>, fds: Vec<OwnedFd>) {
        let mut all = self.forwarding.borrow_mut();
        let forwarding = all.entry(id.to_owned()).or_default();
        for (port, socket) in ports.into_iter().zip(fds) {
            match Forwarding::start(port, socket) {
                Ok(one) => forwarding.push(one),
                Err(error) => report(&error),
            }
        }
    }

    /// While no daemon is there to say so, the end of a container's process is the end of its names and ports.
    fn watch(
        self: &Rc<Self>,
        id: String,
        mut endpoints: Vec<String>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let Some(pidfd) = fds.into_iter().next() else {
            return Ok(());
        };
        // Tokio waits for sockets that do not block; only the waiting is used, which works for any descriptor.
        let flags = rustix::fs::fcntl_getfl(&pidfd)?;
        rustix::fs::fcntl_setfl(&pidfd, flags | rustix::fs::OFlags::NONBLOCK)?;
        let pidfd = UnixStream::from_std(pidfd.into())?;
        self.stop_watching(&id);
        endpoints.push(id.clone());
        let service = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            let _ = pidfd.readable().await;
            service.forget(&endpoints);
        });
        self.watching.borrow_mut().insert(id, task.abort_handle());
        Ok(())
    }

    fn stop_watching(&self, id: &str) {
        if let Some(task) = self.watching.borrow_mut().remove(id) {
            task.abort();
        }
    }

    fn forget(&self, ids: &[String]) {
        for id in ids {
            self.names.borrow_mut().remove(id);
            self.serving.borrow_mut().remove(id);
            self.forwarding.borrow_mut().remove(id);
            self.stop_watching(id);
        }
        self.less.notify_one();
    }

    /// The next datagram that waits in `socket`.
    pub(crate) fn receive(&self, socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.clear();
        let (_, from) = socket.try_recv_buf_from(&mut *buffer).ok()?;
        Some((buffer.clone(), from))
    }

    /// Network namespace of a container that has sockets here.
    pub(crate) fn namespace_of(&self, id: &str) -> Option<OwnedFd> {
        let serving = self.serving.borrow();
        let [udp, _] = serving.get(id)?.sockets();
        wharf_sys::netns::of_socket(udp).ok()
    }
}

fn tell(daemon: BorrowedFd<'_>, answer: &Answer, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(answer).map_err(io::Error::other)?;
    fdpass::send(daemon, &bytes, fds)
}

/// Standard error is the daemon's that started this process, which may be gone.
fn report(error: &io::Error) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "wharf netd: {error}");
}
