//! Mount namespaces of single threads: these calls move only the calling one, which also gets a root, a working directory and a
//! umask of its own.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Moves the calling thread into a copy of its mount namespace. Needs `CAP_SYS_ADMIN`.
pub fn unshare() -> io::Result<()> {
    // CLONE_NEWNS implies CLONE_FS.
    leave(UnshareFlags::NEWNS)
}

/// Moves the calling thread into `namespace`, whose root becomes its root and working directory.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // The kernel refuses to change a root that other threads share.
    leave(UnshareFlags::FS)?;
    Ok(rustix::thread::move_into_link_name_space(
        namespace,
        Some(LinkNameSpaceType::Mount),
    )?)
}

fn leave(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the call is unsafe for CLONE_FILES alone, after which descriptors other code owns may differ between threads; the two
    // flags given above touch no memory and no descriptor.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    #[test]
    fn other_threads_stay_where_they_are() {
        let namespace = || std::fs::read_link("/proc/thread-self/ns/mnt").expect("a namespace");
        let before = namespace();
        let (ours, back) = std::thread::spawn(move || {
            let home = std::fs::File::open("/proc/thread-self/ns/mnt").expect("open");
            super::unshare().expect("a namespace of its own");
            let ours = namespace();
            super::enter(home.as_fd()).expect("back");
            (ours, namespace())
        })
        .join()
        .expect("joined");
        assert_ne!(ours, before);
        assert_eq!((&back, namespace()), (&before, before.clone()));
    }
}
