//! The root file system as a detached mount, and entering it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::thread::LinkNameSpaceType;
use wharf_spec::rootfs::RootfsMount;

use super::detour::Detour;
use super::root::Root;
use super::{LaunchError, Step, userns};
use crate::plan::{ContainerPlan, Mappings, NamespaceSource, Propagation, PropagationKind};

/// mount(2) takes one page of options.
const MAX_MOUNT_DATA: usize = 4095;

/// Where the root is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Over `/` of a mount namespace of its own, and then entered with `pivot_root`.
    OverRoot,
    /// Over its own directory, or one made for it, in somebody else's mount namespace, whose root stays as it is: entered with
    /// `chroot`, or by another runtime.
    OverItself(PathBuf),
}

impl Place {
    /// Without a mount namespace of its own, a container needs a directory.
    pub(super) fn of(plan: &ContainerPlan) -> Result<Place, LaunchError> {
        match (&plan.namespaces.mount, &plan.rootfs) {
            (NamespaceSource::New, _) => Ok(Place::OverRoot),
            (_, RootfsMount::Directory { path }) => Ok(Place::OverItself(path.clone())),
            _ => Err(LaunchError::setup(
                "a container whose root file system is made of layers needs its own mount namespace",
            )),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Place::OverRoot => Path::new("/"),
            Place::OverItself(path) => path,
        }
    }

    /// Or the mount would travel to the host (`rshared`), and `pivot_root` refuses shared parents. Nobody else's mounts are changed.
    fn isolate(&self) -> Result<(), LaunchError> {
        match self {
            Place::OverRoot => mount_change("/", MountPropagationFlags::PRIVATE)
                .step("make the host's root private"),
            Place::OverItself(_) => Ok(()),
        }
    }

    fn attach(&self, mount: OwnedFd) -> io::Result<OwnedFd> {
        if let Place::OverItself(_) = self {
            let attr = wharf_sys::mount::MountAttr {
                propagation: u64::from(MountPropagationFlags::PRIVATE.bits()),
                ..Default::default()
            };
            wharf_sys::mount::mount_setattr(mount.as_fd(), true, &attr)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, self.path(), flags)?;
        Ok(mount)
    }
}

/// Detaches what a container without a mount namespace of its own has left. None there is success.
pub(super) fn take_away(plan: &ContainerPlan) -> Result<(), LaunchError> {
    let Ok(Place::OverItself(path)) = Place::of(plan) else {
        return Ok(());
    };
    let mut detour = Detour::default();
    detour.join_path(&plan.namespaces.mount, LinkNameSpaceType::Mount)?;
    let result = match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        done => done.step_with(|| format!("unmount {}", path.display())),
    };
    detour.leave().and(result)
}

/// Mounts the root file system over the host's `/`, which exists in every namespace, and makes it the working
/// directory. Host paths still lead to the host, unless they climb; the root is reached through what is returned.
pub(crate) fn mount(
    rootfs: &RootfsMount,
    layers_one_by_one: bool,
    place: &Place,
) -> Result<Root, LaunchError> {
    place.isolate()?;
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
                overlay.by_fsconfig(place)
            } else {
                overlay.by_option_string(place)
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
            .and_then(|tree| place.attach(tree))
            .step_with(|| format!("error mounting the root file system {}", path.display())),
    }?;
    fchdir(&root).step("enter rootfs")?;
    Ok(Root::new(root))
}

/// Attaches a root that was prepared, and makes it the working directory.
pub(super) fn attach_root(root: OwnedFd, place: &Place) -> Result<Root, LaunchError> {
    place.isolate()?;
    let root = place
        .attach(root)
        .step("error mounting the root file system")?;
    fchdir(&root).step("enter rootfs")?;
    Ok(Root::new(root))
}

/// The root file system as a detached mount, with ids mapped where that is wished.
pub(super) fn detached(rootfs: &RootfsMount, mappings: &Mappings) -> io::Result<OwnedFd> {
    let userns = if mappings.is_empty() {
        None
    } else {
        Some(userns::make(mappings).map_err(|e| io::Error::other(e.message))?)
    };
    let mapped = |path: &Path, recursive| -> io::Result<OwnedFd> {
        let tree = open_tree(CWD, path, clone_flags(recursive))?;
        if let Some(userns) = &userns {
            userns::idmap(tree.as_fd(), recursive, userns.as_fd())?;
        }
        Ok(tree)
    };
    match rootfs {
        RootfsMount::Directory { path } => mapped(path, true),
        RootfsMount::Overlay {
            lower,
            upper,
            work,
            options,
        } => {
            // Overlay itself cannot be idmapped, but what it is made of. Upper and work must be on one mount.
            let lower: Vec<OwnedFd> = lower
                .iter()
                .map(|layer| mapped(layer, false))
                .collect::<io::Result<_>>()?;
            let base = upper.parent().ok_or(io::ErrorKind::InvalidInput)?;
            let base_tree = mapped(base, false)?;
            let below = |path: &Path| -> io::Result<OwnedFd> {
                let name = path
                    .strip_prefix(base)
                    .map_err(|_| io::ErrorKind::InvalidInput)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(openat(&base_tree, name, flags, Mode::empty())?)
            };
            overlay_of(&lower, &below(upper)?, &below(work)?, options, mappings)
        }
    }
}

/// An overlay of opened directories, detached. Layers on detached mounts are taken since Linux 6.15.
fn overlay_of(
    lower: &[OwnedFd],
    upper: &OwnedFd,
    work: &OwnedFd,
    options: &[String],
    mappings: &Mappings,
) -> io::Result<OwnedFd> {
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "overlay")?;
    for layer in lower {
        fsconfig_set_string(&fs, "lowerdir+", path(layer).as_str())?;
    }
    fsconfig_set_string(&fs, "upperdir", path(upper).as_str())?;
    fsconfig_set_string(&fs, "workdir", path(work).as_str())?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&fs, key, value)?,
            None => fsconfig_set_flag(&fs, option.as_str())?,
        }
    }
    // What overlay makes by itself (its work directory, copies) belongs to whoever mounts it, who must mean something in the layers.
    let root = |ranges| Mappings::to_host(ranges, 0).unwrap_or(0);
    let (uid, gid) = (root(&mappings.uids), root(&mappings.gids));
    wharf_sys::process::with_fs_ids(uid, gid, || fsconfig_create(&fs))??;
    Ok(fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?)
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
    fn by_fsconfig(&self, place: &Place) -> io::Result<OwnedFd> {
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
        place.attach(fsmount(
            &fs,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?)
    }

    /// Older kernels take one page of options. Layers are named relative to where they live or, if that does not fit
    /// either, by descriptor number relative to `/proc/self/fd`.
    fn by_option_string(&self, place: &Place) -> io::Result<OwnedFd> {
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
            place.path(),
            "overlay",
            MountFlags::empty(),
            Some(data.as_c_str()),
        )?;
        // From `/`, which is still the host's, `..` stays there, but arrives at what is mounted on top.
        Ok(open(
            match place {
                Place::OverRoot => Path::new("/.."),
                Place::OverItself(path) => path,
            },
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
            match option.strip_prefix("context=") {
                // Categories are separated by a comma.
                Some(label) => data.push_str(&format!("context=\"{label}\"")),
                None => data.push_str(option),
            }
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

/// Makes the working directory (the attached root) the mount namespace's root.
pub(crate) fn enter(
    root: &Root,
    propagation: Option<Propagation>,
    no_pivot: bool,
    place: &Place,
) -> Result<(), LaunchError> {
    if no_pivot || *place != Place::OverRoot {
        move_to_root(root)?;
    } else {
        pivot(root)?;
    }
    chdir("/").step("enter /")?;
    match propagation {
        Some(p) => set_propagation("/", p).step("set rootfs propagation"),
        None => Ok(()),
    }
}

/// The old root is stacked on "." and then detached, so nothing has to be created inside the image.
fn pivot(root: &Root) -> Result<(), LaunchError> {
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
    unmount(".", UnmountFlags::DETACH).step("detach old root")
}

/// Where the host's root is an initial RAM disk, which cannot be put elsewhere (`--no-pivot`). The attached root lies over
/// `/` already; the host's mounts below it stay, out of reach for those who may not mount.
fn move_to_root(root: &Root) -> Result<(), LaunchError> {
    fchdir(root.as_fd()).step("enter new root")?;
    chroot(".").step("chroot")
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
