//! Making processes the plain way: fork of a single-threaded process, and a program started with one extra descriptor.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::outcome::done;

/// Which side of a [`fork`] this is.
#[derive(Debug, PartialEq, Eq)]
pub enum Fork {
    /// The caller; holds the child's pid.
    Parent(i32),
    /// The copy.
    Child,
}

/// fork(2). Fails with `EINVAL` in a process that has more than one thread.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: takes flags only. With CLONE_THREAD alone it changes nothing and fails if other threads exist (unshare(2)).
    if unsafe { libc::unshare(libc::CLONE_THREAD) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the check above established that there is one thread, so the child may run ordinary code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Starts the program behind `image` with `args` (`args[0]` included) and `socket` as its descriptor 3. Standard input and output are
/// `/dev/null`, standard error is the caller's, the working directory is `/`.
pub fn start_with_socket(
    image: BorrowedFd<'_>,
    args: &[&OsStr],
    socket: OwnedFd,
) -> io::Result<Child> {
    let (name, rest) = args.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // Out of the way of descriptor 3, which is overwritten before the image is executed.
    let image = rustix::io::fcntl_dupfd_cloexec(image, 16)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()));
    command
        .arg0(name)
        .args(rest)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let raw = socket.as_raw_fd();
    // SAFETY: the closure runs between fork and exec and makes one or two async-signal-safe system calls on integers.
    unsafe { command.pre_exec(move || place_at_3(raw)) };
    let child = command.spawn();
    drop(socket);
    child
}

/// Descriptor 3 as [`start_with_socket`] left it. For the first moments of the program started that way.
pub fn inherited_socket() -> io::Result<OwnedFd> {
    // SAFETY: reads descriptor flags.
    if unsafe { libc::fcntl(3, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as just seen, and was placed there for this program by whoever started it; nothing else in a program that
    // has just begun owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(3) })
}

/// Closes every descriptor from `first` on. For the first moments of a program that wants nothing it was not given on purpose.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers. The caller has not opened anything yet that it would go on using.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    done(result)
}

fn place_at_3(raw: i32) -> io::Result<()> {
    let result = if raw == 3 {
        // SAFETY: plain fcntl on the socket that the caller keeps open; clears close-on-exec.
        unsafe { libc::fcntl(3, libc::F_SETFD, 0) }
    } else {
        // SAFETY: `raw` is open in the caller until spawn returns. Descriptor 3 of the forked copy may be anything; the exec would
        // close it anyway.
        unsafe { libc::dup2(raw, 3) }
    };
    done(result)
}
