//! A container's file system for a thread of the daemon, when the container does not run: mounted in a namespace that only this thread
//! is in, as [`launch`](crate::launch) would mount it. Nothing of it can be seen from elsewhere, and it is gone with the thread.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountPropagationFlags, mount_change};
use wharf_spec::rootfs::RootfsMount;

use crate::host::HostFacts;
use crate::launch::{LaunchError, Step, mounts, rootfs};
use crate::plan::{MountStep, layers_one_by_one};

/// Moves the calling thread into a new mount namespace whose root is the container's, with `steps` mounted in it. Mount points that
/// are missing are made, as at a start. Returns the root.
pub fn enter(
    root: &RootfsMount,
    steps: &[MountStep],
    host: &HostFacts,
) -> Result<OwnedFd, LaunchError> {
    wharf_sys::mountns::unshare().step("unshare the mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).step("make mounts private")?;
    let namespaces = mounts::idmaps_of_host(steps)?;
    let sources = mounts::prepare(steps, &namespaces)?;
    let place = rootfs::Place::OverRoot;
    let one_by_one = layers_one_by_one(root, host);
    let mounted = rootfs::mount(root, one_by_one, &place)?;
    mounts::execute(&mounted, steps, sources)?;
    rootfs::enter(&mounted, None, false, &place)?;
    open_root()
}

/// Moves the calling thread into a running container's mount namespace; returns its root.
pub fn join(namespace: &OwnedFd) -> Result<OwnedFd, LaunchError> {
    wharf_sys::mountns::enter(std::os::fd::AsFd::as_fd(namespace))
        .step("join the container's mount namespace")?;
    open_root()
}

fn open_root() -> Result<OwnedFd, LaunchError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open("/", flags, Mode::empty()).step("open /")
}

/// User and group of a user text (`name`, `uid:group`, …), looked up in the texts of a container's `passwd` and `group` files.
pub fn owner_of(user: &str, passwd: &str, group: &str) -> Result<(u32, u32), LaunchError> {
    crate::launch::user::owner_of(user, passwd, group)
}
