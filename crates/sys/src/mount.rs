//! The mount API by descriptor, where `rustix::mount` stops: `mount_setattr`, feature probes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::mount::{FsOpenFlags, fsconfig_set_string, fsopen};

use crate::outcome::done;

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` bits to set.
    pub attr_set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub attr_clr: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave the propagation.
    pub propagation: u64,
    /// User namespace descriptor for `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

const _: () = assert!(size_of::<MountAttr>() == 32);

/// Changes a mount's attributes (Linux 5.12). `mount` is a descriptor of the mount's root, detached or not.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    setattr_at(mount.as_raw_fd(), c"", recursive, attr)
}

fn setattr_at(dir: i32, path: &CStr, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is NUL-terminated and `attr` points to a struct of the given size; both outlive the call,
    // which only reads them.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    done(r)
}

/// Whether `mount_setattr` exists here.
pub fn has_mount_setattr() -> bool {
    // A bad descriptor is looked at only by a kernel that knows the call.
    let attr = MountAttr {
        attr_set: 1,
        ..MountAttr::default()
    };
    setattr_at(-1, c"", false, &attr).is_err_and(|e| e.raw_os_error() == Some(libc::EBADF))
}

/// Whether overlay takes `lowerdir+` through `fsconfig` (Linux 6.8, when built in or loadable).
pub fn overlay_has_lowerdir_append() -> bool {
    let takes = |key: &str| {
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .is_ok_and(|fs| fsconfig_set_string(&fs, key, "/").is_ok())
    };
    // Before 6.5 any key was taken and only looked at when mounting.
    takes("lowerdir+") && !takes("no-such-option")
}

#[cfg(test)]
mod tests {
    #[test]
    fn probes_agree_with_the_running_kernel() {
        // Every kernel we test on is newer than 5.12.
        assert!(super::has_mount_setattr());
    }
}
