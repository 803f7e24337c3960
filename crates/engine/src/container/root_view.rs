//! A container's root file system as the daemon may look at it: a detached mount that no path of the host leads to.
//!
//! For containers that do not run; a running one is reached through its own processes. Paths are resolved inside the root by the
//! kernel (openat2 with `RESOLVE_IN_ROOT`), so no link in the image leads out of it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    open_tree,
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
    match overlay_by_fsconfig(layers) {
        // Before Linux 6.8 it is unknown, which older kernels say late.
        Err(Errno::INVAL) => overlay_by_option_string(layers),
        other => Ok(other?),
    }
}

fn overlay_by_fsconfig(layers: &[&Path]) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(&fs, "lowerdir+", *layer)?;
    }
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_create(&fs)?;
    fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}

/// With mount(2), which takes one page of options and needs a place: a thread has one where nobody else sees it. Layers are named by
/// descriptor, so that hundreds fit.
fn overlay_by_option_string(layers: &[&Path]) -> io::Result<OwnedFd> {
    let place = layers.first().ok_or(io::ErrorKind::InvalidInput)?;
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            wharf_sys::mountns::unshare()?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private)?;
            mount_over(place, layers)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Ok(open_tree(CWD, *place, flags)?)
        });
        made.join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts has panicked")))
    })
}

/// Layers are opened in the namespace of the mount, which takes no others.
fn mount_over(place: &Path, layers: &[&Path]) -> io::Result<()> {
    let opened: Vec<OwnedFd> = layers
        .iter()
        .map(|layer| open_directory(layer))
        .collect::<io::Result<_>>()?;
    let names: Vec<String> = opened
        .iter()
        .map(|layer| path_of(layer).display().to_string())
        .collect();
    let options = CString::new(format!("lowerdir={}", names.join(":")))?;
    let flags = MountFlags::RDONLY;
    mount("overlay", place, "overlay", flags, options.as_c_str())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_show_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let layer = |name: &str, file: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).expect("created");
            std::fs::write(path.join(file), name).expect("written");
            std::fs::write(path.join("all"), name).expect("written");
            path
        };
        let layers = [
            layer("top", "a"),
            layer("middle", "b"),
            layer("bottom", "c"),
        ];
        let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
        for root in [overlay(&layers), overlay_by_option_string(&layers)] {
            let root = root.expect("mounted");
            let root = path_of(&root);
            let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("there");
            assert_eq!(
                ["a", "b", "c", "all"].map(read),
                ["top", "middle", "bottom", "top"]
            );
            assert!(std::fs::write(root.join("new"), "").is_err(), "read-only");
        }
        assert!(!layers[0].join("b").exists(), "nothing is mounted here");
    }
}
