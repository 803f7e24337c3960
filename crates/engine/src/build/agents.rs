//! SSH agents of clients (`RUN --mount=type=ssh`).
//!
//! A client offers connections ahead: each waits here until a process in a step's container connects to the agent's socket, then gets one
//! byte and carries that conversation. The client answers the byte by offering the next one.
//!
//! ```text
//! container ──► socket in the exec root ──► waiting connection ──► client ──► its agent
//! ```

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::Engine;

/// How long a connection in a container waits for one of the client's.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections of one client that may wait.
const MAX_WAITING: usize = 16;
/// Tells the client that its connection is in use.
const IN_USE: u8 = 1;

/// Connections that wait, by token.
#[derive(Debug, Default)]
pub(crate) struct Agents(Mutex<HashMap<String, Arc<Offers>>>);

#[derive(Debug, Default)]
struct Offers {
    waiting: Mutex<VecDeque<UnixStream>>,
    arrived: Notify,
}

impl Agents {
    fn offers(&self, token: &str) -> Arc<Offers> {
        self.0.lock().entry(token.to_owned()).or_default().clone()
    }

    /// Closes what waits under a token.
    pub(super) fn forget(&self, token: &str) {
        self.0.lock().remove(token);
    }
}

impl Engine {
    /// A client offers a connection to the agent that it calls `token`.
    pub fn build_agent_offer(&self, token: &str, socket: OwnedFd) -> std::io::Result<()> {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let offers = self.builds.agents.offers(token);
        let mut waiting = offers.waiting.lock();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(stream);
        }
        drop(waiting);
        offers.arrived.notify_one();
        Ok(())
    }
}

/// A socket that leads to a client's agent while this lives.
pub(super) struct AgentSocket {
    pub(super) path: PathBuf,
    relay: tokio::task::AbortHandle,
}

impl AgentSocket {
    /// Listens at `path` for a step's container.
    pub(super) fn listen(
        engine: &Arc<Engine>,
        token: &str,
        path: &Path,
        mode: u32,
        owner: (u32, u32),
    ) -> std::io::Result<AgentSocket> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
        let offers = engine.builds.agents.offers(token);
        let relay = tokio::spawn(relay(listener, offers)).abort_handle();
        Ok(AgentSocket {
            path: path.to_owned(),
            relay,
        })
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(listener: UnixListener, offers: Arc<Offers>) {
    let mut conversations = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((inner, _)) => drop(conversations.spawn(converse(inner, offers.clone()))),
                Err(error) => return tracing::warn!(%error, "agent socket of a build"),
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

async fn converse(mut inner: UnixStream, offers: Arc<Offers>) {
    let talk = async {
        loop {
            let offered = offers.waiting.lock().pop_front();
            let Some(mut outer) = offered else {
                offers.arrived.notified().await;
                continue;
            };
            // A client that is gone has closed what it offered.
            if outer.write_all(&[IN_USE]).await.is_ok() {
                return Some(outer);
            }
        }
    };
    let Ok(Some(mut outer)) = tokio::time::timeout(PATIENCE, talk).await else {
        return tracing::debug!("no connection to the client's agent");
    };
    // Either side may end the conversation in the middle of a word.
    let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
}
