//! Creating processes: `clone3` as a fork with options.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::outcome::check;

/// `struct clone_args` of `linux/sched.h`, version 2 (Linux 5.7).
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88);

/// Which side of a [`fork_with`] this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The child's pid as the parent sees it.
        pid: i32,
        /// The child's pidfd.
        pidfd: OwnedFd,
    },
}

/// Forks into the given `CLONE_NEW*` namespaces (`CLONE_PARENT` is taken too) and, when given, straight into a v2 cgroup directory.
///
/// # Errors
/// `EINVAL` when the process has other threads: only the calling thread would exist in the child, with every
/// lock of the others held for ever, so this is refused rather than left to luck.
pub fn fork_with(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    if !is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        // A sibling's is that of the caller (clone(2)).
        exit_signal: match namespaces & libc::CLONE_PARENT as u64 {
            0 => libc::SIGCHLD as u64,
            _ => 0,
        },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: no CLONE_VM and no stack: the child continues here on a copy of this stack, as after fork. That the
    // copy is usable (no other thread's locks) was checked above. `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => {
            // SAFETY: the kernel stored a fresh descriptor, owned by nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// `CLONE_INTO_CGROUP` (Linux 5.7); libc has it as an `i32` that does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A thread count of one, from the link count of `/proc/self/task` (two for itself, one per thread).
fn is_single_threaded() -> io::Result<bool> {
    let stat = rustix::fs::stat("/proc/self/task")?;
    Ok(stat.st_nlink == 3)
}

/// Gives the calling thread a cgroup namespace whose root is the control group it is in.
pub fn unshare_cgroup_namespace() -> io::Result<()> {
    // SAFETY: the call is unsafe for CLONE_FILES alone; CLONE_NEWCGROUP touches no memory and no descriptor.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }?)
}

/// Gives the calling thread's children a time namespace of their own, and itself after `execve` (Linux 6.3).
pub fn unshare_time_namespace() -> io::Result<()> {
    // SAFETY: as above: CLONE_NEWTIME touches no memory and no descriptor.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWTIME) }?)
}

/// Plain fork: the child's pid, or 0 in the child. For a process that is a single-threaded child already.
pub fn fork() -> io::Result<i32> {
    // SAFETY: the address space is copied; only a process made by `fork_with` calls this, so no other thread's lock
    // can be held in the copy.
    let pid = unsafe { libc::fork() };
    check(pid)
}

/// Whether `clone3` exists and knows `CLONE_INTO_CGROUP`: a bad descriptor is looked at only then.
pub fn has_clone3() -> bool {
    let mut args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: u64::from(u32::MAX >> 1),
        ..CloneArgs::default()
    };
    // SAFETY: `args` outlives the call, which always fails: no such descriptor can be open.
    let r = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    r < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF)
}
