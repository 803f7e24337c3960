//! The root file system as a detached mount, and entering it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use wharf_spec::rootfs::RootfsMount;

use super::root::Root;
use super::{LaunchError, Step};
use crate::plan::{Propagation, PropagationKind};

/// `fsconfig` takes values of up to 255 bytes.
const MAX_FSCONFIG_VALUE: usize = 255;
/// mount(2) takes one page of options.
const MAX_MOUNT_DATA: usize = 4095;

/// Mounts the root file system, attached to nothing.
pub(super) fn mount_detached(rootfs: &RootfsMount) -> Result<OwnedFd, LaunchError> {
    match rootfs {
        RootfsMount::Overlay {
            lower,
            upper,
            work,
            options,
        } => {
            let layers: Vec<&Path> = lower.iter().map(|p| p.as_path()).collect();
            mount_overlay(&layers, upper, work, options)
        }
        RootfsMount::Directory { path } => open_tree(CWD, path, clone_flags(true))
            .step_with(|| format!("open rootfs {}", path.display())),
    }
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

fn mount_overlay(
    lower: &[&Path],
    upper: &Path,
    work: &Path,
    options: &[String],
) -> Result<OwnedFd, LaunchError> {
    let too_long = |p: &&Path| p.as_os_str().len() > MAX_FSCONFIG_VALUE;
    if !lower.iter().chain([&upper, &work]).any(too_long) {
        match overlay_by_fsconfig(lower, upper, work, options) {
            // Linux before 6.8: no `lowerdir+`.
            Err((Some("lowerdir+"), e)) if e.raw_os_error() == Some(libc::EINVAL) => {}
            Err((_, e)) => return Err(e).step_with(|| overlay_failed(lower.len())),
            Ok(fd) => return Ok(fd),
        }
    }
    overlay_by_option_string(lower, upper, work, options).step_with(|| overlay_failed(lower.len()))
}

fn overlay_failed(n_layers: usize) -> String {
    format!("error mounting the root file system (overlay, {n_layers} layers)")
}

/// One option per layer: as many as overlay supports. A failure says which key was refused.
fn overlay_by_fsconfig(
    lower: &[&Path],
    upper: &Path,
    work: &Path,
    options: &[String],
) -> Result<OwnedFd, (Option<&'static str>, io::Error)> {
    let other = |e: rustix::io::Errno| (None, e.into());
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(other)?;
    fsconfig_set_string(&fs, "source", "overlay").map_err(other)?;
    for layer in lower {
        fsconfig_set_string(&fs, "lowerdir+", *layer).map_err(|e| (Some("lowerdir+"), e.into()))?;
    }
    fsconfig_set_string(&fs, "upperdir", upper).map_err(other)?;
    fsconfig_set_string(&fs, "workdir", work).map_err(other)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&fs, key, value),
            None => fsconfig_set_flag(&fs, option.as_str()),
        }
        .map_err(other)?;
    }
    fsconfig_create(&fs).map_err(other)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(other)
}

/// Older kernels take one page of options. Layers are named relative to where most of them live or, if that does
/// not fit either, by descriptor number relative to `/proc/self/fd`.
fn overlay_by_option_string(
    lower: &[&Path],
    upper: &Path,
    work: &Path,
    options: &[String],
) -> io::Result<OwnedFd> {
    let base = upper
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    let relative = |p: &Path| escape(p.strip_prefix(base).unwrap_or(p));
    let mut data = option_string(
        &lower.iter().map(|p| relative(p)).collect::<Vec<_>>(),
        upper,
        work,
        options,
    );
    let mut opened = Vec::new();
    if data.len() > MAX_MOUNT_DATA {
        for layer in lower {
            opened.push(open(*layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        }
        let numbers: Vec<String> = opened
            .iter()
            .map(|fd| std::os::fd::AsRawFd::as_raw_fd(fd).to_string())
            .collect();
        data = option_string(&numbers, upper, work, options);
    }
    chdir(if opened.is_empty() {
        base
    } else {
        Path::new("/proc/self/fd")
    })?;
    let data = std::ffi::CString::new(data)?;
    // Nothing else is at hand to mount on, and in our own mount namespace nobody else looks into the upper directory.
    mount(
        "overlay",
        upper,
        "overlay",
        MountFlags::empty(),
        Some(data.as_c_str()),
    )?;
    let copy = open_tree(CWD, upper, clone_flags(false))?;
    unmount(upper, UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(copy)
}

fn option_string(lower: &[String], upper: &Path, work: &Path, options: &[String]) -> String {
    let mut data = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        escape(upper),
        escape(work)
    );
    for option in options {
        data.push(',');
        data.push_str(option);
    }
    data
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

/// Mounts the detached root over the host's `/`, where it exists in every namespace, and makes it the working
/// directory. Host paths still lead to the host; the root is reached through what is returned.
pub(super) fn attach(rootfs: OwnedFd) -> Result<Root, LaunchError> {
    // Or the mount would travel to the host (`rshared`), and `pivot_root` refuses shared parents.
    mount_change("/", MountPropagationFlags::PRIVATE).step("make the host's root private")?;
    move_mount(
        &rootfs,
        "",
        CWD,
        "/",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step("attach rootfs")?;
    fchdir(&rootfs).step("enter rootfs")?;
    Ok(Root::new(rootfs))
}

/// Makes the working directory (the attached root) the mount namespace's root. The old root is stacked on "."
/// and then detached, so nothing has to be created inside the image.
pub(super) fn enter(root: &Root, propagation: Option<Propagation>) -> Result<(), LaunchError> {
    let old = open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open old root")?;
    fchdir(root.as_fd()).step("enter new root")?;
    pivot_root(".", ".").step("pivot_root")?;
    // "." is still the new root, below the old one. Our unmount must not travel to the host.
    fchdir(&old).step("return to old root")?;
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
        assert_eq!(
            option_string(
                &["x/diff".into(), "y/diff".into()],
                Path::new("/u"),
                Path::new("/w"),
                &["volatile".into()]
            ),
            "lowerdir=x/diff:y/diff,upperdir=/u,workdir=/w,volatile"
        );
    }
}
