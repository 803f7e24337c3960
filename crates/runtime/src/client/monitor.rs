//! The daemon's end of one monitor.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, connect, shutdown, socket_with,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::{
    AttachRequest, ClientError, Events, ExecRequest, ExitStatus, MonitorEvent, Started, Target,
    io_error,
};
use crate::monitor::{SOCKET_NAME, address_in, open_dir, read_record};
use crate::protocol::{Call, Incoming, Packet, Report, Request};

/// Handle to one container's monitor. Calls may run concurrently; clones speak to the same monitor.
#[derive(Debug, Clone)]
pub struct Monitor {
    handle: Arc<Handle>,
}

/// Dropping the last one ends the conversation, not the monitor.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    /// Who waits for which answer; `None` once no answers can come.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Report>>>>,
    next_id: AtomicU64,
    /// The daemon ended the conversation itself.
    dropped: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::Release);
        let _ = shutdown(&self.shared.socket, Shutdown::Both);
    }
}

impl Monitor {
    /// Takes over the socket of a monitor that is about to launch its container.
    pub(super) async fn adopt(
        socket: OwnedFd,
        state_dir: PathBuf,
    ) -> Result<(Monitor, Started, Events), ClientError> {
        let socket = watched(socket).map_err(io_error("watch the control socket"))?;
        let incoming = receive(&socket)
            .await
            .map_err(io_error("hear from the monitor"))?;
        let incoming = incoming
            .ok_or(io::ErrorKind::UnexpectedEof.into())
            .map_err(io_error("the monitor died while starting the container"))?;
        let started = started(incoming)?;
        let (monitor, events) = Monitor::new(socket, state_dir);
        Ok((monitor, started, events))
    }

    /// Finds the monitor of a container that outlived an earlier daemon.
    /// `Ok(Err(status))`: it ended while no daemon was there, this is its exit record.
    #[allow(clippy::type_complexity)]
    pub async fn reconnect(
        state_dir: &Path,
    ) -> Result<Result<(Monitor, Started, Events), ExitStatus>, ClientError> {
        match Monitor::greet(state_dir).await {
            Ok(found) => Ok(Ok(found)),
            Err(error) => match read_record(state_dir).map_err(io_error("read the exit record"))? {
                Some(status) => Ok(Err(status)),
                None => Err(error),
            },
        }
    }

    async fn greet(state_dir: &Path) -> Result<(Monitor, Started, Events), ClientError> {
        let socket = dial(state_dir).map_err(|_| ClientError::Gone)?;
        let socket = watched(socket).map_err(io_error("watch the control socket"))?;
        let hello = Packet::new(&Call {
            id: 0,
            request: Request::Hello,
        })
        .map_err(io_error("encode"))?;
        send(&socket, &hello, &[])
            .await
            .map_err(|_| ClientError::Gone)?;
        let incoming = receive(&socket)
            .await
            .ok()
            .flatten()
            .ok_or(ClientError::Gone)?;
        let started = started(incoming)?;
        let (monitor, events) = Monitor::new(socket, state_dir.to_owned());
        Ok((monitor, started, events))
    }

    fn new(socket: UnixStream, state_dir: PathBuf) -> (Monitor, Events) {
        let shared = Arc::new(Shared {
            socket,
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(1),
            dropped: AtomicBool::new(false),
        });
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(listen(shared.clone(), state_dir, sender));
        (
            Monitor {
                handle: Arc::new(Handle { shared }),
            },
            events,
        )
    }

    /// Starts an exec; with `attach`, the client's socket is joined to it and closed at its end. Returns its pid on the host.
    pub async fn exec(
        &self,
        request: ExecRequest,
        attach: Option<(AttachRequest, OwnedFd)>,
    ) -> Result<i32, ClientError> {
        let (client, socket) = attach.unzip();
        match self
            .call(
                Request::Exec {
                    exec: Box::new(request),
                    client,
                },
                socket,
            )
            .await?
        {
            Report::ExecStarted { pid, .. } => Ok(pid),
            other => Err(unexpected(other)),
        }
    }

    /// Joins a client's socket to the container's streams; the monitor closes it at the end.
    pub async fn attach(&self, request: AttachRequest, client: OwnedFd) -> Result<(), ClientError> {
        done(self.call(Request::Attach(request), Some(client)).await?)
    }

    /// Sets a terminal's size.
    pub async fn resize(&self, target: Target, rows: u16, cols: u16) -> Result<(), ClientError> {
        done(
            self.call(Request::Resize { target, rows, cols }, None)
                .await?,
        )
    }

    /// Empties the container's log.
    pub async fn clear_log(&self) -> Result<(), ClientError> {
        done(self.call(Request::ClearLog, None).await?)
    }

    /// Sends a signal to init, or to an exec.
    pub async fn signal(&self, target: Target, signal: i32) -> Result<(), ClientError> {
        done(self.call(Request::Signal { target, signal }, None).await?)
    }

    /// To be called once the end of an exec ([`MonitorEvent::ExecExited`]) is where clients find it: only then its client's connection
    /// ends, so that one who asks for the exit code at the end of the output gets it. Without this call it ends a little later.
    pub async fn exec_recorded(&self, exec_id: String) -> Result<(), ClientError> {
        let request = Request::ExecRecorded { exec_id };
        let packet =
            Packet::new(&Call { id: 0, request }).map_err(io_error("encode the request"))?;
        send(&self.handle.shared.socket, &packet, &[])
            .await
            .map_err(|_| ClientError::Gone)
    }

    async fn call(&self, request: Request, fd: Option<OwnedFd>) -> Result<Report, ClientError> {
        let shared = &self.handle.shared;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let packet = Packet::new(&Call { id, request }).map_err(io_error("encode the request"))?;
        let (sender, answer) = oneshot::channel();
        match &mut *lock(&shared.waiting) {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(ClientError::Gone),
        };
        let fds = fd.as_ref().map(AsFd::as_fd);
        if send(&shared.socket, &packet, fds.as_slice()).await.is_err() {
            return Err(ClientError::Gone);
        }
        drop(fd);
        answer.await.map_err(|_| ClientError::Gone)
    }
}

/// Passes answers to who waits for them and events to the channel, until the monitor is gone.
async fn listen(
    shared: Arc<Shared>,
    state_dir: PathBuf,
    events: mpsc::UnboundedSender<MonitorEvent>,
) {
    let mut exited = false;
    while let Ok(Some(incoming)) = receive(&shared.socket).await {
        match incoming.decode::<Report>() {
            Ok((Report::Event(event), _)) => {
                exited |= matches!(event, MonitorEvent::Exited(_));
                let _ = events.send(event);
            }
            Ok((report, _)) => answer(&shared, report),
            Err(_) => break,
        }
    }
    *lock(&shared.waiting) = None;
    if exited || shared.dropped.load(Ordering::Acquire) {
        return;
    }
    let last = match read_record(&state_dir) {
        Ok(Some(status)) => MonitorEvent::Exited(status),
        Ok(None) | Err(_) => MonitorEvent::Lost,
    };
    let _ = events.send(last);
}

fn answer(shared: &Shared, report: Report) {
    let id = match &report {
        Report::Started { id, .. }
        | Report::Failed { id, .. }
        | Report::ExecStarted { id, .. }
        | Report::Done { id }
        | Report::Refused { id, .. } => *id,
        Report::Event(_) => return,
    };
    if let Some(sender) = lock(&shared.waiting)
        .as_mut()
        .and_then(|waiting| waiting.remove(&id))
    {
        // Whoever asked may have stopped waiting.
        let _ = sender.send(report);
    }
}

fn started(incoming: Incoming) -> Result<Started, ClientError> {
    let (report, mut fds) = incoming
        .decode::<Report>()
        .map_err(io_error("understand the monitor"))?;
    match (report, fds.pop()) {
        (
            Report::Started {
                pid, started_at_ns, ..
            },
            Some(pidfd),
        ) => Ok(Started {
            pid,
            pidfd,
            started_at_ns,
        }),
        (other, _) => Err(unexpected(other)),
    }
}

fn done(report: Report) -> Result<(), ClientError> {
    match report {
        Report::Done { .. } => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// The error behind a report that is not the wanted one.
fn unexpected(report: Report) -> ClientError {
    match report {
        Report::Failed { error, .. } => ClientError::Launch(error),
        Report::Refused { errno, .. } if errno == libc::ESRCH => ClientError::Gone,
        Report::Refused { errno, .. } => {
            io_error("the monitor refused")(io::Error::from_raw_os_error(errno))
        }
        _ => io_error("understand the monitor")(io::ErrorKind::InvalidData.into()),
    }
}

fn dial(state_dir: &Path) -> io::Result<OwnedFd> {
    let dir = open_dir(state_dir)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &address_in(&dir, SOCKET_NAME)?)?;
    Ok(socket)
}

/// Sends at once if possible, else when the socket takes it.
pub(super) async fn send(
    socket: &UnixStream,
    packet: &Packet,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    match packet.send(socket, fds) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            socket
                .async_io(Interest::WRITABLE, || packet.send(socket, fds))
                .await
        }
        result => result,
    }
}

async fn receive(socket: &UnixStream) -> io::Result<Option<Incoming>> {
    socket
        .async_io(Interest::READABLE, || Incoming::receive(socket))
        .await
}

/// A message socket in the hands of tokio, which has no type of its own for these; only readiness is asked of this one.
pub(super) fn watched(socket: OwnedFd) -> io::Result<UnixStream> {
    let flags = rustix::fs::fcntl_getfl(&socket)?;
    rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
    UnixStream::from_std(socket.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
