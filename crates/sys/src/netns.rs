//! Network namespaces by descriptor.
//!
//! A namespace belongs to a thread: these calls move only the calling one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        "/proc/thread-self/ns/net",
        flags,
        Mode::empty(),
    )?)
}

/// Moves the calling thread into a new network namespace, with loopback down. Needs `CAP_SYS_ADMIN`.
pub fn unshare() -> io::Result<()> {
    // SAFETY: the call is unsafe for CLONE_FILES alone, after which descriptors other code owns may differ between threads;
    // CLONE_NEWNET touches no memory and no descriptor.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Moves the calling thread into `namespace`.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(
        namespace,
        Some(LinkNameSpaceType::Network),
    )?)
}
