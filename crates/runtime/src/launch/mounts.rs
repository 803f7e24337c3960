//! Mounts inside the root, by descriptor on both sides.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, open, openat2, stat, statat, symlinkat,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, move_mount, open_tree, unmount,
};
use rustix::process::fchdir;
use wharf_sys::mount::{MountAttr, mount_setattr};

use super::root::{Root, file_type};
use super::rootfs::clone_flags;
use super::{LaunchError, Step, copy_up, errno_text, proc_guard, userns};
use crate::plan::{
    AttrChange, CgroupV1Entry, DeviceNode, Mappings, MountIdmap, MountSource, MountStep,
    Propagation, PropagationKind, attr,
};

/// What a bind shows, found before the root is attached over the host's `/`: afterwards, a path that climbs to `/`
/// (as `/var/run` does where it is a link to `../run`) would come out in the container's root.
#[derive(Debug)]
pub(crate) enum Source {
    /// No bind.
    None,
    /// The place. Its mount is copied at its step, since the mount table lists mounts in the order in which they were
    /// made: the plan's, as under runc.
    Place(OwnedFd),
    /// The copy itself, for the host's `/`: a recursive one made later would include the attached root.
    Tree(OwnedFd),
}

/// What mounts and devices show, in their order.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// One per mount.
    pub(super) mounts: Vec<Source>,
    /// One per device, in a user namespace; otherwise they are made.
    pub(super) devices: Vec<OwnedFd>,
}

impl Sources {
    /// Sorts what [`copy_sources`] made, but for the root.
    pub(super) fn received(
        steps: &[MountStep],
        trees: impl Iterator<Item = OwnedFd>,
    ) -> Result<Sources, LaunchError> {
        let mut trees = trees;
        let mut mounts = Vec::new();
        for step in steps {
            mounts.push(match step.source {
                MountSource::Bind { .. } => {
                    Source::Tree(trees.next().ok_or_else(|| {
                        LaunchError::setup("the source of a mount did not arrive")
                    })?)
                }
                _ => Source::None,
            });
        }
        Ok(Sources {
            mounts,
            devices: trees.collect(),
        })
    }
}

/// Finds the sources of all binds. `userns`: whose mappings an idmapped mount is to have, by position.
pub(crate) fn prepare(
    steps: &[MountStep],
    userns: &[Option<OwnedFd>],
) -> Result<Vec<Source>, LaunchError> {
    let find = |(at, step): (usize, &MountStep)| {
        let userns = userns.get(at).and_then(Option::as_ref);
        find_source(step, userns).map_err(|e| failed(step, "open source", &e))
    };
    steps.iter().enumerate().map(find).collect()
}

fn find_source(step: &MountStep, userns: Option<&OwnedFd>) -> io::Result<Source> {
    let MountSource::Bind { path, recursive } = &step.source else {
        return Ok(Source::None);
    };
    let mut place = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if let Some(subpath) = &step.subpath {
        place = open_part(&place, subpath)?;
    }
    if let (Some(userns), Some(idmap)) = (userns, &step.idmap) {
        let tree = copy_tree(&place, *recursive)?;
        userns::idmap(tree.as_fd(), idmap.recursive, userns.as_fd())?;
        return Ok(Source::Tree(tree));
    }
    if *recursive && is_host_root(place.as_fd())? {
        return copy_tree(&place, true).map(Source::Tree);
    }
    Ok(Source::Place(place))
}

/// Containers may change what a volume holds at any time: the kernel sees to it that no link in it leads out.
fn open_part(whole: &OwnedFd, subpath: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(whole, subpath, flags, Mode::empty(), inside) {
            // A rename elsewhere raced with the check of `..` (openat2(2)).
            Err(rustix::io::Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
}

/// A part of a new mount as a tree of its own. The whole must be attached for that: it is put over the root for a moment, where
/// only this thread's working directory leads to it.
fn part_of(root: &Root, whole: &OwnedFd, subpath: &str) -> io::Result<OwnedFd> {
    attach(whole, root.as_fd())?;
    let part = open_part(whole, subpath).and_then(|place| copy_tree(place, false));
    fchdir(whole)?;
    unmount(".", UnmountFlags::DETACH)?;
    fchdir(root.as_fd())?;
    part
}

/// User namespaces for the idmapped mounts among `steps`, by position; none at all when there are none.
pub(super) fn make_idmaps(steps: &[MountStep]) -> Result<Vec<Option<OwnedFd>>, LaunchError> {
    if steps.iter().all(|step| step.idmap.is_none()) {
        return Ok(Vec::new());
    }
    let make = |step: &MountStep| {
        step.idmap
            .as_ref()
            .map(|idmap| userns::make(&idmap.mappings))
            .transpose()
    };
    steps.iter().map(make).collect()
}

/// The same for a thread of a process with many.
pub(crate) fn idmaps_of_host(steps: &[MountStep]) -> Result<Vec<Option<OwnedFd>>, LaunchError> {
    let make = |step: &MountStep| {
        let Some(MountIdmap { mappings, .. }) = &step.idmap else {
            return Ok(None);
        };
        let (uids, gids) = (
            Mappings::text(&mappings.uids),
            Mappings::text(&mappings.gids),
        );
        let made = wharf_sys::userns::make(&uids, &gids).step("make a user namespace")?;
        Ok(Some(made.user))
    };
    steps.iter().map(make).collect()
}

/// Copies, for an init that cannot, the sources of all binds and the host's device nodes.
pub(super) fn copy_sources(
    steps: &[MountStep],
    devices: &[DeviceNode],
    trees: &mut Vec<OwnedFd>,
) -> Result<(), LaunchError> {
    let idmaps = make_idmaps(steps)?;
    for (step, source) in steps.iter().zip(prepare(steps, &idmaps)?) {
        let MountSource::Bind { recursive, .. } = &step.source else {
            continue;
        };
        let tree = match source {
            Source::Tree(tree) => tree,
            Source::Place(place) => {
                copy_tree(&place, *recursive).map_err(|e| failed(step, "copy source", &e))?
            }
            Source::None => unreachable!("prepare() finds a source for each bind"),
        };
        trees.push(tree);
    }
    trees.extend(copy_devices(devices)?);
    Ok(())
}

/// The host's nodes of the same paths.
pub(super) fn copy_devices(devices: &[DeviceNode]) -> Result<Vec<OwnedFd>, LaunchError> {
    devices
        .iter()
        .map(|device| {
            copy_dir(Path::new(&device.path))
                .step_with(|| format!("error creating device {:?}", device.path))
        })
        .collect()
}

fn is_host_root(place: BorrowedFd<'_>) -> io::Result<bool> {
    let (place, root) = (statat(place, "", AtFlags::EMPTY_PATH)?, stat("/")?);
    Ok((place.st_dev, place.st_ino) == (root.st_dev, root.st_ino))
}

/// A detached copy of the mount at an opened place.
fn copy_tree(place: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(
        place,
        "",
        clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH,
    )?)
}

/// The same by path, for the kernel's own directories.
fn copy_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(false))?)
}

/// Mounts everything, in order.
pub(crate) fn execute(
    root: &Root,
    steps: &[MountStep],
    sources: Vec<Source>,
) -> Result<(), LaunchError> {
    for (step, source) in steps.iter().zip(sources) {
        execute_step(root, step, source).map_err(|(what, e)| failed(step, what, &e))?;
    }
    Ok(())
}

/// runc's frame around the reason.
fn failed(step: &MountStep, what: &str, e: &io::Error) -> LaunchError {
    let source = match &step.source {
        MountSource::Bind { path, .. } => path.display().to_string(),
        MountSource::Filesystem { source, .. } => source.clone(),
        MountSource::CgroupV1 { .. } | MountSource::CgroupV2 { .. } => "cgroup".into(),
    };
    let hint = match e.raw_os_error() {
        Some(libc::ENOTDIR) => {
            ": Are you trying to mount a directory onto a file (or vice-versa)? \
             Check if the specified host path exists and is the expected type"
        }
        _ => "",
    };
    let reason = errno_text(e);
    LaunchError::setup(format!(
        "error mounting {source:?} to rootfs at {:?}: {what}: {reason}{hint}",
        step.target
    ))
}

type StepResult<T> = Result<T, (&'static str, io::Error)>;

trait What<T> {
    fn what(self, what: &'static str) -> StepResult<T>;
}

impl<T, E: Into<io::Error>> What<T> for Result<T, E> {
    fn what(self, what: &'static str) -> StepResult<T> {
        self.map_err(|e| (what, e.into()))
    }
}

fn execute_step(root: &Root, step: &MountStep, source: Source) -> StepResult<()> {
    match &step.source {
        MountSource::Bind { recursive, .. } => {
            let tree = match source {
                Source::Tree(tree) => tree,
                Source::Place(place) => copy_tree(&place, *recursive).what("copy source")?,
                Source::None => unreachable!("prepare() finds a source for each bind"),
            };
            mount_bind(root, step, &tree)
        }
        MountSource::CgroupV1 { entries } => mount_v1(root, step, entries),
        MountSource::CgroupV2 { bind: Some(path) } => {
            let tree = copy_dir(path).what("open source")?;
            mount_bind(root, step, &tree)
        }
        MountSource::CgroupV2 { bind: None } => {
            let target = root.ensure_dir(&step.target).what("create mount point")?;
            mount_new(step, "cgroup2", "cgroup", &[], &target)
        }
        MountSource::Filesystem {
            fstype,
            source,
            options,
        } => mount_filesystem(root, step, fstype, source, options),
    }
}

/// Attributes go onto the detached copy first, so there is no moment in which the container's view is too open.
fn mount_bind(root: &Root, step: &MountStep, tree: &OwnedFd) -> StepResult<()> {
    let is_dir = file_type(tree.as_fd()).what("stat source")? == FileType::Directory;
    let target = if is_dir {
        root.ensure_dir(&step.target)
    } else {
        root.ensure_file(&step.target)
    };
    let target = target.what("create mount point")?;
    proc_guard::check(&step.target, &target, tree).what("mount")?;
    // A plain bind keeps what its source has; only what is asked for is added.
    let clear = if step.attrs.set & attr::ATIME != 0 {
        attr::ATIME
    } else {
        0
    };
    change(
        tree.as_fd(),
        false,
        AttrChange {
            set: step.attrs.set,
            clear,
        },
    )
    .what("set attributes")?;
    change(tree.as_fd(), true, step.recursive_attrs).what("set attributes")?;
    propagate(tree.as_fd(), step.propagation).what("set propagation")?;
    attach(tree, &target).what("mount")
}

fn mount_filesystem(
    root: &Root,
    step: &MountStep,
    fstype: &str,
    source: &str,
    options: &[(String, Option<String>)],
) -> StepResult<()> {
    if let Some(subpath) = &step.subpath {
        let whole = new_mount(fstype, source, options, step.attrs.set).what("mount")?;
        let part = part_of(root, &whole, subpath).what("open subpath")?;
        return mount_bind(root, step, &part);
    }
    // A link here would put the kernel's own files where the image wants them (CVE-2019-16884, CVE-2019-19921).
    if matches!(fstype, "proc" | "sysfs") {
        root.ensure_dir(&step.target).what("create mount point")?;
        let target = root
            .open_no_links(&step.target, OFlags::PATH | OFlags::DIRECTORY)
            .what("open mount point")?;
        if fstype == "sysfs" {
            return mount_sysfs(root, step, source, options, &target);
        }
        return mount_new(step, fstype, source, options, &target);
    }
    let existing = root
        .open(&step.target, OFlags::PATH | OFlags::DIRECTORY)
        .ok();
    let mut all = Vec::new();
    if let (Some(dir), "tmpfs") = (&existing, fstype) {
        // Docker's tmpfs keeps the mode of the directory it covers, unless told otherwise (runc).
        let mode = statat(dir, "", AtFlags::EMPTY_PATH)
            .what("stat mount point")?
            .st_mode
            & 0o7777;
        all.push(("mode".to_string(), Some(format!("{mode:o}"))));
    }
    all.extend_from_slice(options);
    let target = match existing {
        Some(dir) => dir,
        None => root.ensure_dir(&step.target).what("create mount point")?,
    };
    // Nothing is mounted yet, but no new file system but procfs itself may be there.
    proc_guard::check(&step.target, &target, &target).what("mount")?;
    if step.copy_up && fstype == "tmpfs" {
        return mount_copy(step, source, &all, &target);
    }
    mount_new(step, fstype, source, &all, &target)
}

/// The copy is made before anybody sees it, and before it may be read-only.
fn mount_copy(
    step: &MountStep,
    source: &str,
    options: &[(String, Option<String>)],
    target: &OwnedFd,
) -> StepResult<()> {
    let mount =
        new_mount("tmpfs", source, options, step.attrs.set & !attr::RDONLY).what("mount")?;
    copy_up::copy_dir(target.as_fd(), mount.as_fd()).what("copy up")?;
    let readonly = AttrChange {
        set: step.attrs.set & attr::RDONLY,
        clear: 0,
    };
    change(mount.as_fd(), false, readonly).what("set attributes")?;
    change(mount.as_fd(), true, step.recursive_attrs).what("set attributes")?;
    propagate(mount.as_fd(), step.propagation).what("set propagation")?;
    attach(&mount, target).what("mount")
}

/// A new sysfs shows a network namespace, and is for those who own it; another one's is shown as the host sees it (crun).
fn mount_sysfs(
    root: &Root,
    step: &MountStep,
    source: &str,
    options: &[(String, Option<String>)],
    target: &OwnedFd,
) -> StepResult<()> {
    match mount_new(step, "sysfs", source, options, target) {
        Err((_, e)) if e.raw_os_error() == Some(libc::EPERM) => {
            let tree = open_tree(CWD, "/sys", clone_flags(true)).what("open source")?;
            mount_bind(root, step, &tree)
        }
        mounted => mounted,
    }
}

fn mount_new(
    step: &MountStep,
    fstype: &str,
    source: &str,
    options: &[(String, Option<String>)],
    target: &OwnedFd,
) -> StepResult<()> {
    let mount = new_mount(fstype, source, options, step.attrs.set).what("mount")?;
    change(mount.as_fd(), true, step.recursive_attrs).what("set attributes")?;
    propagate(mount.as_fd(), step.propagation).what("set propagation")?;
    attach(&mount, target).what("mount")
}

/// A new, detached instance of a file system.
pub(super) fn new_mount(
    fstype: &str,
    source: &str,
    options: &[(String, Option<String>)],
    attrs: u64,
) -> io::Result<OwnedFd> {
    let fs = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", source)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&fs, key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(&fs, key.as_str())?,
        }
    }
    fsconfig_create(&fs)?;
    let attrs = MountAttrFlags::from_bits_retain(u32::try_from(attrs).unwrap_or(u32::MAX));
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attrs)?)
}

/// Mounts a detached tree on an opened target.
pub(super) fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

/// Changes attributes; nothing to change is no call.
pub(super) fn change(tree: BorrowedFd<'_>, recursive: bool, attrs: AttrChange) -> io::Result<()> {
    if attrs.set == 0 && attrs.clear == 0 {
        return Ok(());
    }
    let attr = MountAttr {
        attr_set: attrs.set,
        attr_clr: attrs.clear & !attrs.set | attrs.clear & attr::ATIME,
        ..MountAttr::default()
    };
    mount_setattr(tree, recursive, &attr)
}

fn propagate(tree: BorrowedFd<'_>, propagation: Option<Propagation>) -> io::Result<()> {
    let Some(p) = propagation else { return Ok(()) };
    let kind = match p.kind {
        PropagationKind::Private => MountPropagationFlags::PRIVATE,
        PropagationKind::Slave => MountPropagationFlags::DOWNSTREAM,
        PropagationKind::Shared => MountPropagationFlags::SHARED,
        PropagationKind::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    let attr = MountAttr {
        propagation: u64::from(kind.bits()),
        ..MountAttr::default()
    };
    mount_setattr(tree, p.recursive, &attr)
}

/// A tmpfs with one directory per hierarchy. The tmpfs itself stays writable as under runc, which makes only the
/// hierarchies read-only.
fn mount_v1(root: &Root, step: &MountStep, entries: &[CgroupV1Entry]) -> StepResult<()> {
    let target = root.ensure_dir(&step.target).what("create mount point")?;
    let mode = [("mode".to_string(), Some("755".to_string()))];
    let base =
        new_mount("tmpfs", "tmpfs", &mode, step.attrs.set & !attr::RDONLY).what("mount tmpfs")?;
    attach(&base, &target).what("mount tmpfs")?;
    for entry in entries {
        rustix::fs::mkdirat(&base, entry.name.as_str(), 0o755.into()).what("create hierarchy")?;
        let dir = rustix::fs::openat(
            &base,
            entry.name.as_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            0.into(),
        );
        let dir = dir.what("open hierarchy")?;
        let tree = match &entry.bind {
            Some(path) => {
                let tree = copy_dir(path).what("open source")?;
                change(
                    tree.as_fd(),
                    false,
                    AttrChange {
                        set: step.attrs.set,
                        clear: 0,
                    },
                )
                .what("set attributes")?;
                tree
            }
            None => new_mount("cgroup", "cgroup", &select(entry), step.attrs.set)
                .what("mount hierarchy")?,
        };
        attach(&tree, &dir).what("mount hierarchy")?;
        for link in &entry.links {
            symlinkat(entry.name.as_str(), &base, link.as_str()).what("link hierarchy")?;
        }
    }
    Ok(())
}

/// `cpu,cpuacct` or `name=systemd` as options.
fn select(entry: &CgroupV1Entry) -> Vec<(String, Option<String>)> {
    let named = entry.select.strip_prefix("name=");
    match named {
        Some(name) => vec![("none".into(), None), ("name".into(), Some(name.into()))],
        None => entry
            .select
            .split(',')
            .map(|c| (c.to_string(), None))
            .collect(),
    }
}
