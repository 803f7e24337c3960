//! The daemon's end of the spawner.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::net::UnixStream;
use wharf_sys::child::start_with_socket;
use wharf_sys::fdpass::seqpacket_pair;

use super::monitor::{Monitor, send, watched};
use super::{AttachRequest, ClientError, Events, SpawnRequest, Started, io_error};
use crate::protocol::{Packet, SpawnMessage};
use crate::spawner::image;

/// How often a dead spawner is replaced for one request.
const RESTARTS: usize = 2;

/// Handle to the spawner process. Restarts it when it died.
#[derive(Debug)]
pub struct Spawner {
    /// What it runs from.
    image: OwnedFd,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    socket: Arc<UnixStream>,
}

impl Spawner {
    /// Starts the spawner from a write-proof image of `binary`. It and its monitors outlive nothing but what they must: the spawner
    /// ends when this handle is dropped or the daemon dies, monitors with their containers.
    pub async fn start(binary: &Path) -> Result<Spawner, ClientError> {
        let image =
            image::seal(binary).map_err(io_error("make a write-proof image of the binary"))?;
        let running = Mutex::new(Running::start(&image).map_err(io_error("start the spawner"))?);
        Ok(Spawner { image, running })
    }

    /// The spawner's pid, for diagnosis.
    pub fn pid(&self) -> u32 {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .child
            .id()
    }

    /// Makes a monitor and through it the container. `attach`: clients that attached before the start.
    /// Returns when the container's `execve` is done.
    pub async fn spawn(
        &self,
        request: SpawnRequest,
        netns: Option<OwnedFd>,
        attach: Vec<(AttachRequest, OwnedFd)>,
    ) -> Result<(Monitor, Started, Events), ClientError> {
        let (clients, sockets): (Vec<_>, Vec<_>) = attach.into_iter().unzip();
        let state_dir = request.state_dir.clone();
        let message = SpawnMessage {
            request,
            netns: netns.is_some(),
            clients,
        };
        let packet = Packet::new(&message).map_err(io_error("encode the spawn request"))?;
        drop(message);
        let fds: Vec<BorrowedFd<'_>> = netns.iter().chain(&sockets).map(AsFd::as_fd).collect();
        let mut spawner = self.socket();
        for _ in 0..RESTARTS {
            match request_monitor(&spawner, &packet, &fds, &state_dir).await {
                // Its queue died with it, and a monitor would have answered: nothing was started.
                Err(ClientError::Io { .. }) if is_dead(&spawner) => {
                    spawner = self
                        .restart(&spawner)
                        .map_err(io_error("start another spawner"))?;
                }
                result => return result,
            }
        }
        request_monitor(&spawner, &packet, &fds, &state_dir).await
    }

    fn socket(&self) -> Arc<UnixStream> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .socket
            .clone()
    }

    /// Replaces a dead spawner, unless another task just did.
    fn restart(&self, dead: &Arc<UnixStream>) -> io::Result<Arc<UnixStream>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&running.socket, dead) {
            tracing::warn!(
                pid = running.child.id(),
                "the spawner died, starting another"
            );
            let fresh = Running::start(&self.image)?;
            let mut old = std::mem::replace(&mut *running, fresh);
            // Its socket is closed, so it is ending if it has not ended.
            let _ = old.child.kill();
            let _ = old.child.wait();
        }
        Ok(running.socket.clone())
    }
}

/// Sends one request and waits for the monitor that comes of it.
async fn request_monitor(
    spawner: &UnixStream,
    packet: &Packet,
    fds: &[BorrowedFd<'_>],
    state_dir: &Path,
) -> Result<(Monitor, Started, Events), ClientError> {
    let (ours, theirs) = seqpacket_pair().map_err(io_error("make a control socket"))?;
    let all: Vec<BorrowedFd<'_>> = [theirs.as_fd()]
        .into_iter()
        .chain(fds.iter().copied())
        .collect();
    send(spawner, packet, &all)
        .await
        .map_err(io_error("reach the spawner"))?;
    // From here on only the monitor holds it, so that its end is the monitor's end.
    drop(theirs);
    Monitor::adopt(ours, state_dir.to_owned()).await
}

/// The spawner never speaks: its socket is silent while it lives and at its end when it does not.
fn is_dead(spawner: &UnixStream) -> bool {
    !matches!(
        rustix::net::recv(spawner, &mut [0; 1][..], RecvFlags::DONTWAIT),
        Err(Errno::AGAIN)
    )
}

impl Drop for Spawner {
    fn drop(&mut self) {
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // It holds nothing worth an orderly end.
        let _ = running.child.kill();
        let _ = running.child.wait();
    }
}

impl Running {
    fn start(image: &OwnedFd) -> io::Result<Running> {
        let (ours, theirs) = seqpacket_pair()?;
        let args = [OsStr::new("wharf"), OsStr::new("spawner")];
        let child = start_with_socket(image.as_fd(), &args, theirs)?;
        Ok(Running {
            child,
            socket: Arc::new(watched(ours)?),
        })
    }
}
