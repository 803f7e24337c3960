//! A created container waits to be started: its init listens on a socket in the container's state directory, and whoever
//! connects hears how the start goes.
//!
//! The socket is made by the creating process and inherited, so its path means nothing inside the container.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};
use wharf_sys::signal_watch::SignalWatch;

use super::report::{Listener, Outcome, Reporter};
use super::{LaunchError, Step, errno_text};

/// Signals that end a program which does not handle them. As process 1 of a pid namespace we would be spared; but whoever
/// sends one to a container that was not started yet wants it gone (runc).
const ENDING: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// In the child: blocks until somebody connects, and reports to them from then on.
pub(super) fn wait_for_start(listener: &OwnedFd) -> Result<Reporter, LaunchError> {
    let signals = SignalWatch::new(&ENDING).step("watch signals")?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled.step("wait to be started")?,
        };
        if let Some(signal) = signals.next().step("read signal")? {
            wharf_sys::process::exit_now(128 + signal);
        }
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => {
                wharf_sys::process::reset_signals();
                return Ok(Reporter::of_connection(connection));
            }
            // Whoever knocked is gone.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => {}
            Err(e) => return Err(io::Error::from(e)).step("accept"),
        }
    }
}

/// Lets a created container run: `connection` leads to its init. Returns once its program executes.
pub fn start(connection: OwnedFd) -> Result<(), LaunchError> {
    match Listener::of_connection(connection).listen() {
        Ok(Outcome::Executed { .. }) => Ok(()),
        Ok(Outcome::Failed(error)) => Err(error),
        Ok(Outcome::Died) => Err(LaunchError::setup("container init exited prematurely")),
        Err(e) => Err(LaunchError::setup(format!(
            "wait for the container process: {}",
            errno_text(&e)
        ))),
    }
}
