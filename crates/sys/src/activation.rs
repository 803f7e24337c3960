//! Sockets that the service manager opened for us (systemd `sd_listen_fds(3)`).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// First passed descriptor, fixed by the protocol.
const FIRST: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The passed sockets, close-on-exec; empty when there are none, when they are meant for another process, and on every
/// call but the first.
#[must_use]
pub fn listen_fds() -> Vec<OwnedFd> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    if number("LISTEN_PID") != Some(std::process::id()) || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let count = RawFd::try_from(number("LISTEN_FDS").unwrap_or(0)).unwrap_or(0);
    (FIRST..FIRST.saturating_add(count))
        .filter_map(take)
        .collect()
}

fn take(raw: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl only reads and sets a flag; on a number that is no descriptor it fails, which is checked.
    if unsafe { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: open (fcntl succeeded), and nobody else's: LISTEN_PID named this process, so descriptors from 3 up were
    // passed to it by the service manager before it opened any, and TAKEN lets this run once.
    Some(unsafe { OwnedFd::from_raw_fd(raw) })
}
