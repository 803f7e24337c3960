//! The root file system as a detached mount, and entering it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use wharf_spec::rootfs::RootfsMount;

use super::root::Root;
use super::{LaunchError, Step};
use crate::plan::{Propagation, PropagationKind};

/// mount(2) takes one page of options.
const MAX_MOUNT_DATA: usize = 4095;

/// Mounts the root file system over the host's `/`, which exists in every namespace, and makes it the working
/// directory. Host paths still lead to the host, unless they climb; the root is reached through what is returned.
pub(crate) fn mount(rootfs: &RootfsMount, layers_one_by_one: bool) -> Result<Root, LaunchError> {
    // Or the mount would travel to the host (`rshared`), and `pivot_root` refuses shared parents.
    mount_change("/", MountPropagationFlags::PRIVATE).step("make the host's root private")?;
    let root = match rootfs {
        RootfsMount::Overlay {
            lower,
            upper,
            work,
            options,
        } => {
            let overlay = Overlay {
                lower,
                upper,
                work,
                options,
            };
            let mounted = if layers_one_by_one {
                overlay.by_fsconfig()
            } else {
                overlay.by_option_string()
            };
            mounted.step_with(|| {
                format!(
                    "error mounting the root file system (overlay, {} layers)",
                    lower.len()
                )
            })
        }
        RootfsMount::Directory { path } => open_tree(CWD, path, clone_flags(true))
            .map_err(io::Error::from)
            .and_then(attach)
            .step_with(|| format!("error mounting the root file system {}", path.display())),
    }?;
    fchdir(&root).step("enter rootfs")?;
    Ok(Root::new(root))
}

fn attach(mount: OwnedFd) -> io::Result<OwnedFd> {
    move_mount(
        &mount,
        "",
        CWD,
        "/",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(mount)
}

/// Flags that copy a mount into a detached one.
pub(super) fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

struct Overlay<'a> {
    lower: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
    options: &'a [String],
}

impl Overlay<'_> {
    /// One option per layer: as many as overlay supports.
    fn by_fsconfig(&self) -> io::Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "overlay")?;
        for layer in self.lower {
            fsconfig_set_string(&fs, "lowerdir+", layer)?;
        }
        fsconfig_set_string(&fs, "upperdir", self.upper)?;
        fsconfig_set_string(&fs, "workdir", self.work)?;
        for option in self.options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&fs, key, value)?,
                None => fsconfig_set_flag(&fs, option.as_str())?,
            }
        }
        fsconfig_create(&fs)?;
        attach(fsmount(
            &fs,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?)
    }

    /// Older kernels take one page of options. Layers are named relative to where they live or, if that does not fit
    /// either, by descriptor number relative to `/proc/self/fd`.
    fn by_option_string(&self) -> io::Result<OwnedFd> {
        let base = self
            .upper
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new("/"));
        let relative = |p: &PathBuf| escape(p.strip_prefix(base).unwrap_or(p));
        let mut opened = Vec::new();
        let mut data = self.option_string(self.lower.iter().map(relative).collect());
        if data.len() > MAX_MOUNT_DATA {
            for layer in self.lower {
                opened.push(open(layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
            }
            data = self.option_string(opened.iter().map(|fd| fd.as_raw_fd().to_string()).collect());
        }
        chdir(if opened.is_empty() {
            base
        } else {
            Path::new("/proc/self/fd")
        })?;
        let data = CString::new(data)?;
        rustix::mount::mount(
            "overlay",
            "/",
            "overlay",
            MountFlags::empty(),
            Some(data.as_c_str()),
        )?;
        // From `/`, which is still the host's, `..` stays there, but arrives at what is mounted on top.
        Ok(open(
            "/..",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    }

    fn option_string(&self, lower: Vec<String>) -> String {
        let (upper, work) = (escape(self.upper), escape(self.work));
        let mut data = format!(
            "lowerdir={},upperdir={upper},workdir={work}",
            lower.join(":")
        );
        for option in self.options {
            data.push(',');
            data.push_str(option);
        }
        data
    }
}

/// Overlay's own escapes for what separates its options.
fn escape(path: &Path) -> String {
    let mut out = String::new();
    for c in path.display().to_string().chars() {
        if matches!(c, ':' | ',' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Sets how mount events travel from here on, for the whole tree.
pub(super) fn set_propagation(path: &str, p: Propagation) -> io::Result<()> {
    let kind = match p.kind {
        PropagationKind::Private => MountPropagationFlags::PRIVATE,
        PropagationKind::Slave => MountPropagationFlags::DOWNSTREAM,
        PropagationKind::Shared => MountPropagationFlags::SHARED,
        PropagationKind::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    let flags = if p.recursive {
        kind | MountPropagationFlags::REC
    } else {
        kind
    };
    Ok(mount_change(path, flags)?)
}

/// Makes the working directory (the attached root) the mount namespace's root. The old root is stacked on "."
/// and then detached, so nothing has to be created inside the image.
pub(crate) fn enter(root: &Root, propagation: Option<Propagation>) -> Result<(), LaunchError> {
    let old = open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open old root")?;
    fchdir(root.as_fd()).step("enter new root")?;
    pivot_root(".", ".").step("pivot_root")?;
    // "." is still the new root, below the old one.
    fchdir(&old).step("return to old root")?;
    // Our unmount must not travel to the host.
    mount_change(
        ".",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .step("isolate old root")?;
    unmount(".", UnmountFlags::DETACH).step("detach old root")?;
    chdir("/").step("enter /")?;
    match propagation {
        Some(p) => set_propagation("/", p).step("set rootfs propagation"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
        let (lower, options) = (["x/diff".into(), "y/diff".into()], ["volatile".into()]);
        let overlay = Overlay {
            lower: &[],
            upper: Path::new("/u"),
            work: Path::new("/w"),
            options: &options,
        };
        assert_eq!(
            overlay.option_string(lower.to_vec()),
            "lowerdir=x/diff:y/diff,upperdir=/u,workdir=/w,volatile"
        );
    }
}
