//! A container's root file system as the daemon may look at it: a detached mount that no path of the host leads to.
//!
//! For containers that do not run; a running one is reached through its own processes. Paths are resolved inside the root by the
//! kernel (openat2 with `RESOLVE_IN_ROOT`), so no link in the image leads out of it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use wharf_spec::rootfs::RootfsMount;

/// An open root.
#[derive(Debug)]
pub struct RootView {
    root: OwnedFd,
}

impl RootView {
    /// The root of a container that does not run, read-only.
    pub fn read_only(rootfs: &RootfsMount) -> io::Result<RootView> {
        let root = match rootfs {
            RootfsMount::Directory { path } => open_directory(path)?,
            RootfsMount::Overlay { lower, upper, .. } => {
                let layers: Vec<&Path> = std::iter::once(upper.as_path())
                    .chain(lower.iter().map(PathBuf::as_path))
                    .collect();
                overlay(&layers)?
            }
        };
        Ok(RootView { root })
    }

    /// Layers of an image, topmost first, at least one.
    pub fn of_layers(layers: &[PathBuf]) -> io::Result<OwnedFd> {
        match layers {
            [only] => open_directory(only),
            many => overlay(&many.iter().map(PathBuf::as_path).collect::<Vec<_>>()),
        }
    }

    /// Opens a path inside, following links inside. Only for looking at (`O_PATH`).
    pub fn open(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        Ok(openat2(
            &self.root,
            relative,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?)
    }
}

/// A path of this process that leads to an open descriptor, for functions that take paths. Valid while the descriptor is.
pub fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Read-only overlay of the layers, topmost first.
fn overlay(layers: &[&Path]) -> io::Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mut appended = true;
    for layer in layers {
        // One layer per call since Linux 6.8.
        if fsconfig_set_string(&fs, "lowerdir+", *layer).is_err() {
            appended = false;
            break;
        }
    }
    let fs = if appended {
        fs
    } else {
        overlay_by_list(layers)?
    };
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_create(&fs)?;
    Ok(fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?)
}

fn overlay_by_list(layers: &[&Path]) -> io::Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let list: Vec<String> = layers
        .iter()
        .map(|layer| layer.display().to_string())
        .collect();
    fsconfig_set_string(&fs, "lowerdir", list.join(":"))?;
    Ok(fs)
}
