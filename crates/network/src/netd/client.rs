//! The daemon's end of netd: what it must hold, told to whichever process holds it.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use wharf_sys::child::start_with_socket;
use wharf_sys::fdpass;

use super::protocol::{Answer, ForwardedPort, Request, Resolving, VERSION};
use super::service::SOCKETS_PER_MESSAGE;
use crate::dns::socket::ResolverSockets;
use crate::error::{NetworkError, Step};

/// A netd that does not take a message for this long does not work any more.
const DEAF: Duration = Duration::from_secs(5);

/// One that dies this soon did not come to work.
const HASTE: Duration = Duration::from_millis(100);

/// Between two starts then.
const REST: Duration = Duration::from_millis(500);

/// Starts a netd on a listening socket.
pub(crate) type Starter = Box<dyn Fn(OwnedFd) -> io::Result<Option<Child>> + Send + Sync>;

/// Names and ports that netd serves for this daemon.
#[derive(Clone)]
pub(crate) struct Netd {
    shared: Arc<Shared>,
}

struct Shared {
    /// Path of netd's socket.
    path: PathBuf,
    starter: Starter,
    state: Mutex<State>,
}

/// What netd must hold; given to each new one.
#[derive(Default)]
struct State {
    containers: HashMap<String, Container>,
    forwards: HashMap<String, Vec<(ForwardedPort, Arc<OwnedFd>)>>,
    watched: HashMap<String, (Vec<String>, OwnedFd)>,
    link: Option<Link>,
    started: Option<Instant>,
}

struct Container {
    resolving: Resolving,
    sockets: ResolverSockets,
}

struct Link {
    socket: Arc<OwnedFd>,
    /// None when an earlier daemon started it.
    child: Option<Child>,
}

impl fmt::Debug for Netd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Netd").field(&self.shared.path).finish()
    }
}

/// Starts `program` as netd, or without one a thread that works like it.
pub(crate) fn starter(program: Option<PathBuf>) -> Starter {
    Box::new(move |listener| {
        let Some(program) = &program else {
            thread::Builder::new()
                .name("netd".into())
                .spawn(move || super::run(listener))?;
            return Ok(None);
        };
        let image = fs::File::open(program)?;
        let name = program.as_os_str();
        start_with_socket(image.as_fd(), &[name, "netd".as_ref()], listener).map(Some)
    })
}

impl Netd {
    /// Takes over the netd that listens at `path`, if there is one.
    pub(crate) fn open(path: PathBuf, starter: Starter) -> Netd {
        let shared = Arc::new(Shared {
            path,
            starter,
            state: Mutex::default(),
        });
        let netd = Netd { shared };
        let mut state = netd.shared.state.lock();
        match netd.shared.adopt(&mut state) {
            Ok(()) => {}
            Err(error) if is_absence(&error) => {}
            Err(error) => tracing::warn!(%error, "earlier netd is not taken over"),
        }
        drop(state);
        netd
    }

    /// Serves names for a container, with new sockets or those it has.
    pub(crate) fn resolve(
        &self,
        resolving: Resolving,
        sockets: Option<ResolverSockets>,
    ) -> Result<(), NetworkError> {
        let mut state = self.shared.state.lock();
        let id = resolving.id.clone();
        let fresh = sockets.is_some();
        match (state.containers.get_mut(&id), sockets) {
            (_, Some(sockets)) => {
                let container = Container { resolving, sockets };
                state.containers.insert(id.clone(), container);
            }
            (Some(known), None) if known.resolving == resolving => return Ok(()),
            (Some(known), None) => known.resolving = resolving,
            (None, None) => return Ok(()),
        }
        self.shared.tell(&mut state, |state, link| {
            let known = state.containers.get(&id);
            known.map_or(Ok(()), |container| container.tell(link, fresh))
        })
    }

    /// Whether a container has sockets already.
    pub(crate) fn has_resolver(&self, id: &str) -> bool {
        self.shared.state.lock().containers.contains_key(id)
    }

    /// What it was told last of every container.
    pub(crate) fn resolving(&self) -> Vec<String> {
        self.shared
            .state
            .lock()
            .containers
            .keys()
            .cloned()
            .collect()
    }

    /// Holds an endpoint's ports.
    pub(crate) fn forward(
        &self,
        endpoint: &str,
        ports: Vec<(ForwardedPort, Arc<OwnedFd>)>,
    ) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.state.lock();
        state.forwards.insert(endpoint.to_owned(), ports);
        self.shared.tell(&mut state, |state, link| {
            let ports = state.forwards.get(endpoint);
            tell_ports(link, endpoint, ports.map_or(&[], Vec::as_slice))
        })
    }

    /// Ports of an endpoint as held.
    pub(crate) fn forwarded(&self, endpoint: &str) -> Vec<(ForwardedPort, Arc<OwnedFd>)> {
        let state = self.shared.state.lock();
        state.forwards.get(endpoint).cloned().unwrap_or_default()
    }

    /// Ids of all endpoints with ports.
    pub(crate) fn forwarding(&self) -> Vec<String> {
        self.shared.state.lock().forwards.keys().cloned().collect()
    }

    /// Lets netd end by itself what belongs to a container whose process ends while no daemon is there.
    pub(crate) fn watch(
        &self,
        id: &str,
        endpoints: Vec<String>,
        pidfd: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let mut state = self.shared.state.lock();
        let known = state.containers.contains_key(id)
            || endpoints.iter().any(|id| state.forwards.contains_key(id));
        if !known {
            return Ok(());
        }
        let pidfd = pidfd
            .try_clone_to_owned()
            .step(|| "keep a container's pidfd".into())?;
        state.watched.insert(id.to_owned(), (endpoints, pidfd));
        self.shared.tell(&mut state, |state, link| {
            let watched = state.watched.get(id);
            watched.map_or(Ok(()), |watched| tell_watch(link, id, watched))
        })
    }

    /// Forgets containers and endpoints. When this returns, no later question is answered with them, and ports are free.
    pub(crate) fn forget(&self, ids: &[String]) {
        let mut state = self.shared.state.lock();
        let (mut known, mut ports) = (false, false);
        for id in ids {
            known |= state.containers.remove(id).is_some();
            ports |= state.forwards.remove(id).is_some();
            state.watched.remove(id);
        }
        if !known && !ports {
            return;
        }
        // Closed by netd when it has closed the sockets, or by its death.
        let done = if ports { pipe().ok() } else { None };
        let request = Request::Forget { ids: ids.to_vec() };
        let told = self.shared.tell(&mut state, |_, link| {
            let fds: Vec<_> = done.iter().map(|(_, end)| end.as_fd()).collect();
            send(link, &request, &fds)
        });
        drop(state);
        if let Err(error) = told {
            tracing::warn!(%error, "netd not told of what is gone");
        } else if let Some((start, end)) = done {
            drop(end);
            wait_until_closed(&start);
        }
    }
}

impl Shared {
    /// Says something to netd; starts one first if there is none, in which case everything is said.
    fn tell(
        self: &Arc<Self>,
        state: &mut State,
        say: impl FnOnce(&State, BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<(), NetworkError> {
        if let Some(link) = &state.link {
            let socket = Arc::clone(&link.socket);
            match say(state, socket.as_fd()) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%error, "netd does not listen; starting another"),
            }
            self.unlink(state);
        }
        if state.is_empty() {
            return Ok(());
        }
        self.start(state).step(|| "start netd".into())
    }

    /// A new process, with everything the last one had.
    fn start(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let listener = self.listen()?;
        let child = (self.starter)(listener)?;
        state.started = Some(Instant::now());
        let socket = Arc::new(self.connect()?);
        self.follow(&socket)?;
        state.link = Some(Link {
            socket: Arc::clone(&socket),
            child,
        });
        state.tell_all(socket.as_fd())
    }

    fn listen(&self) -> io::Result<OwnedFd> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = unix_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&self.path)?)?;
        restrict(&self.path)?;
        rustix::net::listen(&socket, 4)?;
        Ok(socket)
    }

    fn connect(&self) -> io::Result<OwnedFd> {
        let socket = unix_socket()?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(DEAF))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        Ok(socket)
    }

    /// Connects to a running netd and takes everything it holds.
    fn adopt(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let socket = Arc::new(self.connect()?);
        let hello = Request::Hello { version: VERSION };
        send(socket.as_fd(), &hello, &[])?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(DEAF))?;
        let same = state.receive_all(socket.as_fd())?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, None)?;
        if same {
            self.follow(&socket)?;
            state.link = Some(Link {
                socket,
                child: None,
            });
            return Ok(());
        }
        // One of another version gives up what it has and ends.
        let ids = state.ids();
        send(socket.as_fd(), &Request::Forget { ids }, &[])?;
        drop(socket);
        if state.is_empty() {
            return Ok(());
        }
        self.start(state)
    }

    /// A thread that waits for the end of the process behind `socket` and starts another.
    fn follow(self: &Arc<Self>, socket: &Arc<OwnedFd>) -> io::Result<()> {
        let (shared, socket) = (Arc::downgrade(self), Arc::clone(socket));
        thread::Builder::new()
            .name("netd-watch".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                wait_for_end(&socket);
                if let Some(shared) = Weak::upgrade(&shared) {
                    shared.replace(&socket);
                }
            })?;
        Ok(())
    }

    /// The process behind `socket` is gone.
    fn replace(self: &Arc<Self>, socket: &Arc<OwnedFd>) {
        let mut state = self.state.lock();
        let is_current = |link: &Link| Arc::ptr_eq(&link.socket, socket);
        if !state.link.as_ref().is_some_and(is_current) {
            return;
        }
        self.unlink(&mut state);
        if state.is_empty() {
            return;
        }
        tracing::warn!("netd ended; starting another");
        // One that dies of what it is told would die again and again.
        if state
            .started
            .is_some_and(|started| started.elapsed() < HASTE)
        {
            thread::sleep(REST);
        }
        if let Err(error) = self.start(&mut state) {
            tracing::error!(%error, "netd not started");
        }
    }

    /// Ends with the process there is. It may be deaf, and two must not serve the same sockets.
    fn unlink(&self, state: &mut State) {
        let Some(mut link) = state.link.take() else {
            return;
        };
        let _ = rustix::net::shutdown(&link.socket, Shutdown::Both);
        if let Some(child) = &mut link.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Netd goes on; the thread that waits for its end does not.
        if let Some(link) = &self.state.get_mut().link {
            let _ = rustix::net::shutdown(&link.socket, Shutdown::Both);
        }
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.forwards.is_empty()
    }

    fn ids(&self) -> Vec<String> {
        let ids = self.containers.keys().chain(self.forwards.keys());
        ids.cloned().collect()
    }

    fn tell_all(&self, link: BorrowedFd<'_>) -> io::Result<()> {
        for container in self.containers.values() {
            container.tell(link, true)?;
        }
        for (endpoint, ports) in &self.forwards {
            tell_ports(link, endpoint, ports)?;
        }
        for (id, watched) in &self.watched {
            tell_watch(link, id, watched)?;
        }
        Ok(())
    }

    /// Reads what a running netd holds. Says whether it is of our version.
    fn receive_all(&mut self, link: BorrowedFd<'_>) -> io::Result<bool> {
        let mut same = false;
        loop {
            let message = fdpass::receive(link)?;
            if message.bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer = postcard::from_bytes(&message.bytes)
                .map_err(|error| io::Error::other(format!("answer of netd: {error}")))?;
            let mut fds = message.fds.into_iter();
            match answer {
                Answer::Version(version) => same = version == VERSION,
                Answer::Resolving(resolving) => {
                    if let (Some(udp), Some(tcp)) = (fds.next(), fds.next()) {
                        let sockets = ResolverSockets { udp, tcp };
                        let container = Container {
                            resolving: *resolving,
                            sockets,
                        };
                        self.containers
                            .insert(container.resolving.id.clone(), container);
                    }
                }
                Answer::Forwarding { id, ports } => {
                    let ports = ports.into_iter().zip(fds.map(Arc::new));
                    self.forwards.entry(id).or_default().extend(ports);
                }
                Answer::Complete => return Ok(same),
            }
        }
    }
}

impl Container {
    fn tell(&self, link: BorrowedFd<'_>, with_sockets: bool) -> io::Result<()> {
        let request = Request::Resolve(Box::new(self.resolving.clone()));
        let sockets = [self.sockets.udp.as_fd(), self.sockets.tcp.as_fd()];
        send(link, &request, if with_sockets { &sockets } else { &[] })
    }
}

fn tell_ports(
    link: BorrowedFd<'_>,
    endpoint: &str,
    ports: &[(ForwardedPort, Arc<OwnedFd>)],
) -> io::Result<()> {
    for some in ports.chunks(SOCKETS_PER_MESSAGE) {
        let request = Request::Forward {
            id: endpoint.to_owned(),
            ports: some.iter().map(|(port, _)| port.clone()).collect(),
        };
        let sockets: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
        send(link, &request, &sockets)?;
    }
    Ok(())
}

fn tell_watch(link: BorrowedFd<'_>, id: &str, watched: &(Vec<String>, OwnedFd)) -> io::Result<()> {
    let (endpoints, pidfd) = watched;
    let request = Request::Watch {
        id: id.to_owned(),
        endpoints: endpoints.clone(),
    };
    send(link, &request, &[pidfd.as_fd()])
}

fn send(link: BorrowedFd<'_>, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(request).map_err(io::Error::other)?;
    fdpass::send(link, &bytes, fds)
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Waits for the other end of a pipe to be closed, though not for a process that has stopped working.
fn wait_until_closed(pipe: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    while let Err(rustix::io::Errno::INTR) = poll(&mut fds, Some(&limit)) {}
}

/// For root alone.
fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Nothing is said after the greeting: whatever comes is the end.
fn wait_for_end(socket: &OwnedFd) {
    loop {
        match fdpass::receive(socket) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(message) if !message.bytes.is_empty() => {}
            _ => return,
        }
    }
}

/// Whether there just is no netd.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
