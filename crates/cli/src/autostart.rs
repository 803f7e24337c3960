//! Starting a daemon when none answers on the default socket.
//!
//! ```text
//! client                          /run/wharf/autostart.lock              daemon
//!   | flock (others wait here)            |                                |
//!   | connect again: another client may have won                           |
//!   | bind an abstract datagram socket, spawn ---------------------------> | own session, output to daemon.log
//!   | poll: socket, pidfd                                                  |
//!   | <---------------------------------------- READY=1 (sd_notify protocol)
//! ```
//! The daemon needs nothing of its own for this: it tells a service manager the same way.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::client::ClientError;
use crate::client::endpoint::DEFAULT_SOCKET;

/// The word that makes the program a daemon in a session of its own.
pub const DETACHED_DAEMON: &str = "detached-daemon";
/// Where the default socket is and where the daemon's output goes.
const EXEC_ROOT: &str = "/run/wharf";
/// How long a daemon may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes sure a daemon listens on the default socket. False means none can be started here and the caller reports
/// that nobody answers.
///
/// # Errors
/// A daemon was started and did not come up.
pub fn ensure_daemon() -> Result<bool, ClientError> {
    if std::env::var_os("WHARF_NO_DAEMON").is_some_and(|value| !value.is_empty() && value != "0") {
        return Ok(false);
    }
    let lock = match lock() {
        Ok(lock) => lock,
        // Not the administrator: the usual refusal says more than one about a lock file.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(false),
        Err(error) => return Err(failed(&format!("cannot lock {EXEC_ROOT}: {error}"))),
    };
    if UnixStream::connect(DEFAULT_SOCKET).is_ok() {
        return Ok(true);
    }
    start().map_err(|error| failed(&error.to_string()))??;
    drop(lock);
    Ok(true)
}

fn lock() -> io::Result<File> {
    if !Path::new(EXEC_ROOT).exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(EXEC_ROOT)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(format!("{EXEC_ROOT}/autostart.lock"))?;
    file.lock()?;
    Ok(file)
}

fn start() -> io::Result<Result<(), ClientError>> {
    let name = format!("wharf-autostart-{}", std::process::id());
    let ready = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    ready.set_nonblocking(true)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(format!("{EXEC_ROOT}/daemon.log"))?;
    let log_start = log.metadata()?.len();
    let mut child = Command::new(std::env::current_exe()?)
        .arg(DETACHED_DAEMON)
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    Ok(wait_until_ready(&ready, &ended, &mut child, log_start))
}

fn wait_until_ready(
    ready: &UnixDatagram,
    ended: &OwnedFd,
    child: &mut Child,
    log_start: u64,
) -> Result<(), ClientError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [
            PollFd::from_borrowed_fd(ready.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
        ];
        let timeout = Timespec::try_from(left).map_err(|error| failed(&error.to_string()))?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => {
                return Err(failed(
                    "it did not listen within 30 seconds; see /run/wharf/daemon.log",
                ));
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(&error.to_string())),
        }
        if fds[0].revents().contains(PollFlags::IN) {
            let mut message = [0; 4096];
            let n = ready.recv(&mut message).unwrap_or(0);
            if String::from_utf8_lossy(&message[..n])
                .lines()
                .any(|line| line == "READY=1")
            {
                return Ok(());
            }
        } else if !fds[1].revents().is_empty() {
            // Reaps it; how it ended is less telling than what it wrote.
            let _ = child.wait();
            return Err(failed(&last_words(log_start)));
        }
    }
}

/// What the daemon wrote since it was started.
fn last_words(log_start: u64) -> String {
    let log = std::fs::read(format!("{EXEC_ROOT}/daemon.log")).unwrap_or_default();
    let start = usize::try_from(log_start).unwrap_or(0).min(log.len());
    let text = String::from_utf8_lossy(&log[start..]);
    let tail: Vec<&str> = text.trim().lines().rev().take(5).collect();
    if tail.is_empty() {
        return "it ended without a word".into();
    }
    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn failed(why: &str) -> ClientError {
    ClientError::Malformed(format!("cannot start a daemon: {why}"))
}
