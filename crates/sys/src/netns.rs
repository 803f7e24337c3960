//! Network namespaces by descriptor.
//!
//! A namespace belongs to a thread: these calls move only the calling one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::outcome::{check, done};

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

/// The network namespace a socket lives in. Needs `CAP_NET_ADMIN`.
pub fn of_socket(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd};
    /// `SIOCGSKNS`, Linux 4.10.
    const GET_NAMESPACE: libc::c_ulong = 0x894c;
    // SAFETY: the request takes no argument and answers with a new descriptor or an error.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), GET_NAMESPACE as libc::Ioctl) };
    check(fd)?;
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Brings up the loopback interface of the calling thread's network namespace.
pub fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid `ifreq`: a name of NULs and a union of plain numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: `request` is a NUL-terminated name and flags, as SIOCSIFFLAGS takes them, and outlives the call.
    let r = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    done(r)
}
