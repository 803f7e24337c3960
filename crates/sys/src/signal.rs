//! Signals as descriptors, and signals by descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::outcome::{check, done};

/// Lets the kernel reap children: none becomes a zombie (`SIGCHLD` ignored, sigaction(2)).
pub fn discard_children() -> io::Result<()> {
    set_sigchld(libc::SIG_IGN)
}

/// Children stay as zombies until waited for, the default.
pub fn keep_children() -> io::Result<()> {
    set_sigchld(libc::SIG_DFL)
}

fn set_sigchld(action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: installs one of the two predefined actions, no handler code runs.
    if unsafe { libc::signal(libc::SIGCHLD, action) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes this process survive the signals by which a terminal, a service manager or a closed pipe would end it. They are caught rather
/// than ignored: a program executed later starts with their default actions (execve(2) resets caught signals only).
pub fn survive_hangups() -> io::Result<()> {
    extern "C" fn nothing(_signal: i32) {}
    let handler = nothing as extern "C" fn(i32) as libc::sighandler_t;
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ] {
        // SAFETY: the handler does nothing and so is async-signal-safe.
        if unsafe { libc::signal(signal, handler) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A descriptor that is readable while a child waits to be reaped; non-blocking, close-on-exec. Blocks `SIGCHLD`.
pub fn child_signals() -> io::Result<OwnedFd> {
    let set = sigchld_set();
    mask(libc::SIG_BLOCK)?;
    // SAFETY: `set` is an initialised signal set.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    check(fd)?;
    // SAFETY: a descriptor just returned by the kernel, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs `action` with `SIGCHLD` unblocked, so that processes it makes inherit an empty mask. A child that ends meanwhile leaves no
/// signal behind: the caller must look for it.
pub fn with_child_signals_open<T>(action: impl FnOnce() -> T) -> io::Result<T> {
    mask(libc::SIG_UNBLOCK)?;
    let result = action();
    mask(libc::SIG_BLOCK)?;
    Ok(result)
}

fn sigchld_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset changes an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        set.assume_init()
    }
}

fn mask(how: i32) -> io::Result<()> {
    let set = sigchld_set();
    // SAFETY: `set` is initialised, the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Sends `signal` (any number, real-time ones too) to the process behind a pidfd.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: integers and a null siginfo, which the kernel fills in itself (pidfd_send_signal(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    done(result)
}

/// Takes the notices that [`child_signals`] has ready.
pub fn drain(notices: impl std::os::fd::AsFd) {
    let mut scrap = [0; 4 * size_of::<libc::signalfd_siginfo>()];
    while matches!(rustix::io::read(&notices, &mut scrap), Ok(n) if n > 0) {}
}
