//! Attaching a client's socket to a container: at once when it runs, else at its next start.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wharf_runtime::client::AttachRequest;

use super::status::Status;
use super::{Container, detach_keys};
use crate::{Engine, Error, Result, logs};

/// What a client wants of a container's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Write what was logged so far first.
    pub logs: bool,
    /// Then stay.
    pub stream: bool,
    /// Forward the client's bytes.
    pub stdin: bool,
    /// Give standard output.
    pub stdout: bool,
    /// Give standard error.
    pub stderr: bool,
    /// Key sequence that detaches, in Docker's notation; `None` is the default.
    pub detach_keys: Option<String>,
}

/// A checked wish to attach: the server answers the client's upgrade, then hands over the socket.
#[derive(Debug)]
pub struct Attach {
    container: Arc<Container>,
    options: AttachOptions,
    keys: Vec<u8>,
    promise: Promise,
}

/// A client has been told that it is attached: a start waits until its socket is here, or the client gone. Without this, a
/// `docker run` could miss all output of a short command, since the client starts the container over another connection.
#[derive(Debug)]
struct Promise(Arc<Container>);

impl Promise {
    fn new(container: &Arc<Container>) -> Promise {
        container.attaching.send_modify(|n| *n += 1);
        Promise(container.clone())
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.attaching.send_modify(|n| *n -= 1);
    }
}

/// How long a start waits for sockets; a hand-over takes microseconds, a client that is stuck must not hold others up.
const PROMISE_WAIT: Duration = Duration::from_secs(1);

impl Container {
    /// Waits until every client that was told it is attached is.
    pub(crate) async fn attached(&self) {
        let mut attaching = self.attaching.subscribe();
        // The sender lives in `self`; running out of time means going on without the client.
        let _ = tokio::time::timeout(PROMISE_WAIT, attaching.wait_for(|n| *n == 0)).await;
    }
}

impl Attach {
    /// Whether the bytes are a terminal's, without frames.
    pub fn is_raw(&self) -> bool {
        self.container.record().config.tty
    }
}

impl Engine {
    /// Checks a `POST /containers/{id}/attach` before the connection is taken over.
    pub async fn container_attach(&self, name: &str, options: AttachOptions) -> Result<Attach> {
        let keys = detach_keys::parse(options.detach_keys.as_deref())?;
        let container = self.containers.get(name)?;
        match container.status() {
            Status::Paused => Err(Error::conflict(format!(
                "container {name} is paused, unpause the container before attach"
            ))),
            Status::Restarting => Err(Error::conflict(format!(
                "container {name} is restarting, wait until the container is running"
            ))),
            _ => Ok(Attach {
                promise: Promise::new(&container),
                container,
                options,
                keys,
            }),
        }
    }

    /// Joins the client's socket. `early_input`: what it sent before the hand-over. Returns once the socket is handed over; the
    /// monitor closes it at the end.
    pub async fn attach_client(
        &self,
        attach: Attach,
        client: OwnedFd,
        early_input: Vec<u8>,
    ) -> Result<()> {
        let Attach {
            container,
            options,
            keys,
            promise,
        } = attach;
        let record = container.record();
        let raw = record.config.tty;
        let client = if options.logs {
            self.write_backlog(&container, &options, client).await?
        } else {
            client
        };
        self.tell(&container, "attach", &[]);
        if !options.stream {
            return Ok(());
        }
        let request = AttachRequest {
            stdin: options.stdin && record.config.open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            raw,
            detach_keys: keys,
            early_input,
        };
        let handed_over = match container.add_pending(request, client) {
            Some((live, request, client)) => live
                .monitor
                .attach(request, client)
                .await
                .map_err(|error| Error::caused("attach", error)),
            None => Ok(()),
        };
        drop(promise);
        handed_over
    }

    async fn write_backlog(
        &self,
        container: &Container,
        options: &AttachOptions,
        client: OwnedFd,
    ) -> Result<OwnedFd> {
        let request = logs::Request {
            stdout: options.stdout,
            stderr: options.stderr,
            ..logs::Request::default()
        };
        let mut batches = logs::read(self.log_source(container)?, request, None);
        crate::blocking(move || {
            while let Some(batch) = batches.blocking_recv() {
                let batch = batch.map_err(|error| Error::caused("read log", error))?;
                write_all(&client, &batch).map_err(|error| Error::caused("write log", error))?;
            }
            Ok(client)
        })
        .await
    }
}

/// Writes to a socket that may be non-blocking.
fn write_all(client: &OwnedFd, mut bytes: &[u8]) -> std::io::Result<()> {
    struct Writer<'a>(&'a OwnedFd);
    impl Write for Writer<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(rustix::io::write(self.0, bytes)?)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    while !bytes.is_empty() {
        match Writer(client).write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(client, PollFlags::OUT)], None)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the other end of a socket is closed.
pub(crate) fn has_hung_up(client: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok()
        && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn closed_clients_are_noticed() {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let ours = OwnedFd::from(ours);
        assert!(!has_hung_up(&ours));
        drop(theirs);
        assert!(has_hung_up(&ours));
    }

    #[test]
    fn writing_waits_for_a_slow_client() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("nonblocking");
        let bytes = vec![7u8; 4 << 20];
        let expected = bytes.len();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all.len())
        });
        let ours = OwnedFd::from(ours);
        write_all(&ours, &bytes).expect("write");
        drop(ours);
        assert_eq!(reading.join().expect("reader").expect("read"), expected);
    }
}
