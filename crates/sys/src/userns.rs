//! A user namespace that nobody lives in yet, with a network namespace that belongs to it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use crate::outcome::check;

/// The two, to be joined by descriptor.
#[derive(Debug)]
pub struct Namespaces {
    /// Users and groups.
    pub user: OwnedFd,
    /// Network: whoever is root in `user` may configure it.
    pub network: OwnedFd,
}

/// Makes both. The texts are those of `uid_map` and `gid_map` (user_namespaces(7)). May be called with other threads around: the helper
/// process that the namespaces begin with does nothing but wait to be killed.
///
/// # Errors
/// No further namespace may be made (`max_user_namespaces`), or the maps are refused.
pub fn make(uid_map: &str, gid_map: &str) -> io::Result<Namespaces> {
    let pid = spawn_waiting(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    let opened = open(pid, uid_map, gid_map);
    // SAFETY: `pid` is our child, not waited for yet, so the number is still its own; the status is not asked for.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
    }
    opened
}

fn open(pid: i32, uid_map: &str, gid_map: &str) -> io::Result<Namespaces> {
    for (name, text) in [("uid_map", uid_map), ("gid_map", gid_map)] {
        let mut file = File::options()
            .write(true)
            .open(format!("/proc/{pid}/{name}"))?;
        file.write_all(text.as_bytes())?;
    }
    let namespace = |name: &str| File::open(format!("/proc/{pid}/ns/{name}")).map(OwnedFd::from);
    Ok(Namespaces {
        user: namespace("user")?,
        network: namespace("net")?,
    })
}

fn spawn_waiting(namespaces: i32) -> io::Result<i32> {
    // No exit signal: nobody's handler for children hears of it.
    let flags = libc::c_long::from(namespaces);
    // SAFETY: without CLONE_VM the child has a copy of this memory and continues here on a copy of this stack. Other threads may have
    // held locks at that moment, so the child only makes system calls: it takes no lock, allocates nothing and never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: plain system calls; `prctl` ends the child with the thread that made it, should that end first.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    check(pid)?;
    i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_outlive_their_helper() {
        // Root only; elsewhere mapping more than oneself is refused.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let made = make("0 100000 65536\n", "0 100000 65536\n").expect("made");
        let (own, theirs) = (
            rustix::fs::stat("/proc/self/ns/user").expect("ours"),
            rustix::fs::fstat(&made.user).expect("theirs"),
        );
        assert_ne!(own.st_ino, theirs.st_ino);
        assert!(make("nonsense", "").is_err());
    }
}
