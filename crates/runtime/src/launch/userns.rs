//! User namespaces: whose ids mean whose, and what a container's root therefore cannot do itself.
//!
//! In its own user namespace the container's init has power over nothing of the host: it may not read directories that only
//! the host's root may, nor mount what only the host's root may. So the launching process prepares those mounts, detached,
//! and hands them over by descriptor. One that is no more than the container's root will be (rootless) leaves it to init.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitOptions, geteuid};
use rustix::thread::LinkNameSpaceType;
use wharf_sys::clone::{Forked, fork_with};

use super::report::Reporter;
use super::{LaunchError, LaunchStdio, Step, detour, errno_text, mounts, program, rootfs};
use crate::plan::{ContainerPlan, IdRange, Mappings, NamespaceSource};

/// `CLONE_PARENT`: the new process is the caller's sibling.
const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

/// What init was handed.
#[derive(Debug)]
pub(super) struct Entered {
    /// Its pid as the launching process sees it.
    pub(super) pid: i32,
    /// The root, then the sources of binds and devices; empty where it prepares them itself.
    pub(super) trees: Vec<OwnedFd>,
}

/// In init, first of all: waits until its ids mean something. `None` without a user namespace.
///
/// A launching process that is nobody may give them only while this one can be dumped, as it was born. It is in a user namespace
/// that no process of a container has power over.
pub(super) fn wait_for_ids(
    plan: &ContainerPlan,
    reporter: &Reporter,
) -> Result<Option<Entered>, LaunchError> {
    if plan.namespaces.user == NamespaceSource::Host {
        return Ok(None);
    }
    let (pid, trees) = reporter
        .wait_to_go_on()
        .step("wait for the user namespace's ids")?;
    Ok(Some(Entered { pid, trees }))
}

/// Becomes the namespace's root.
pub(super) fn enter(plan: &ContainerPlan) -> Result<(), LaunchError> {
    program::become_root()?;
    match &plan.namespaces.time {
        NamespaceSource::New => detour::new_time_namespace(&plan.time_offsets)?,
        source => detour::join_path(source, LinkNameSpaceType::Time)?,
    }
    Ok(())
}

/// In the launching process: gives the ids their meaning and prepares what init cannot. The descriptors are init's.
pub(super) fn prepare(plan: &ContainerPlan, pid: i32) -> Result<Vec<OwnedFd>, LaunchError> {
    match &plan.namespaces.user {
        NamespaceSource::Host => return Ok(Vec::new()),
        NamespaceSource::New => map(pid, &plan.mappings)?,
        NamespaceSource::Path(_) => {}
    }
    set_oom_score(plan, pid)?;
    let root = match rootfs::detached(&plan.rootfs, &plan.rootfs_mappings) {
        // We are nobody ourselves.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) && !geteuid().is_root() => {
            return Ok(Vec::new());
        }
        root => root.step("error mounting the root file system")?,
    };
    let mut trees = vec![root];
    mounts::copy_sources(&plan.mounts, &plan.devices, &mut trees)?;
    Ok(trees)
}

/// Standard streams become the container's root's, who then gives them to the program's user. What is not ours to give stays.
pub(super) fn own_streams(plan: &ContainerPlan, stdio: &LaunchStdio) {
    let LaunchStdio::Pipes {
        stdin,
        stdout,
        stderr,
    } = stdio
    else {
        return;
    };
    let mappings = match plan.mappings.is_empty() {
        true => &plan.rootfs_mappings,
        false => &plan.mappings,
    };
    let owner = (
        Mappings::to_host(&mappings.uids, 0),
        Mappings::to_host(&mappings.gids, 0),
    );
    let (Some(uid), Some(gid)) = owner else {
        return;
    };
    for fd in [stdin, stdout, stderr] {
        let is_pipe = rustix::fs::fstat(fd).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
        });
        if is_pipe {
            let (uid, gid) = (
                rustix::fs::Uid::from_raw(uid),
                rustix::fs::Gid::from_raw(gid),
            );
            let _ = rustix::fs::fchown(fd, Some(uid), Some(gid));
        }
    }
}

/// For init, whose file in `/proc` is root's as long as it cannot be looked into. Without privileges nobody can (rootless).
fn set_oom_score(plan: &ContainerPlan, pid: i32) -> Result<(), LaunchError> {
    let Some(score) = plan.process.oom_score_adj else {
        return Ok(());
    };
    match std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        Err(_) if !geteuid().is_root() => Ok(()),
        written => written.step("write oom_score_adj"),
    }
}

/// Writes the maps of a process that was just made in a new user namespace.
fn map(pid: i32, mappings: &Mappings) -> Result<(), LaunchError> {
    let uid = geteuid().as_raw();
    let own = |ranges: &[IdRange], id: u32| matches!(ranges, [r] if r.size == 1 && r.host == id);
    if uid == 0 {
        return write_maps(pid, mappings);
    }
    let gid = rustix::process::getegid().as_raw();
    if own(&mappings.uids, uid) && own(&mappings.gids, gid) {
        // Or a process could shed groups that keep it from a file (user_namespaces(7)).
        let file = format!("/proc/{pid}/setgroups");
        std::fs::write(&file, "deny").step_with(|| format!("write {file}"))?;
        return write_maps(pid, mappings);
    }
    run_helper("newuidmap", pid, &mappings.uids)?;
    run_helper("newgidmap", pid, &mappings.gids)
}

fn write_maps(pid: i32, mappings: &Mappings) -> Result<(), LaunchError> {
    for (name, ranges) in [("uid_map", &mappings.uids), ("gid_map", &mappings.gids)] {
        let file = format!("/proc/{pid}/{name}");
        // One write: the kernel takes the first as the whole.
        File::options()
            .write(true)
            .open(&file)
            .and_then(|mut f| f.write_all(Mappings::text(ranges).as_bytes()))
            .step_with(|| format!("failed to write {file}"))?;
    }
    Ok(())
}

/// The set-user-ID program that maps what `/etc/subuid` grants to a user, newuidmap(1).
fn run_helper(name: &str, pid: i32, ranges: &[IdRange]) -> Result<(), LaunchError> {
    let mut command = Command::new(name);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for r in ranges {
        command.args([r.container, r.host, r.size].map(|n| n.to_string()));
    }
    let output = command
        .output()
        .step_with(|| format!("run {name}, which maps more than one's own id"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(LaunchError::setup(format!("{name}: {}", why.trim())))
}

/// A user namespace that nobody lives in, for idmapped mounts.
pub(super) fn make(mappings: &Mappings) -> Result<OwnedFd, LaunchError> {
    let new_user = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    match fork_with(new_user, None).step("clone for an idmapped mount")? {
        Forked::Child => wait_to_be_killed(),
        Forked::Parent { pid, pidfd } => {
            let made = write_maps(pid, mappings).and_then(|()| {
                let ns = File::open(format!("/proc/{pid}/ns/user"));
                Ok(OwnedFd::from(ns.step("open user namespace")?))
            });
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            reap(pid);
            made
        }
    }
}

fn wait_to_be_killed() -> ! {
    // Dies with the thread that made it, should that be killed first.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    loop {
        let _ = rustix::thread::nanosleep(&rustix::time::Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        });
    }
}

fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    }
}

/// Forks into new namespaces of an existing user namespace.
pub(super) fn fork_inside(
    path: &Path,
    flags: u64,
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Forked> {
    let ns = File::open(path)?;
    let enter = || {
        let kind = Some(LinkNameSpaceType::User);
        Ok(rustix::thread::move_into_link_name_space(ns.as_fd(), kind)?)
    };
    fork_behind(enter, flags, group)
}

/// Forks into the user and pid namespaces of a container, for those who may enter the second only from inside the first.
pub(super) fn fork_beside(init: &OwnedFd, group: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    use rustix::thread::{ThreadNameSpaceType as Kind, move_into_thread_name_spaces};
    let enter = || {
        move_into_thread_name_spaces(init.as_fd(), Kind::USER)?;
        Ok(move_into_thread_name_spaces(
            init.as_fd(),
            Kind::PROCESS_ID,
        )?)
    };
    fork_behind(enter, 0, group)
}

/// A process between enters other namespaces, and makes its sibling there.
fn fork_behind(
    enter: impl FnOnce() -> io::Result<()>,
    flags: u64,
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Forked> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match fork_with(0, None)? {
        Forked::Child => {
            drop(reader);
            let forked = enter().and_then(|()| fork_with(flags | CLONE_PARENT, group));
            if let Ok(Forked::Child) = forked {
                return Ok(Forked::Child);
            }
            let answer = match forked {
                Ok(Forked::Parent { pid, .. }) => pid,
                Ok(Forked::Child) => unreachable!("handled above"),
                Err(e) => -e.raw_os_error().unwrap_or(libc::EIO),
            };
            let _ = rustix::io::write(&writer, &answer.to_le_bytes());
            wharf_sys::process::exit_now(0)
        }
        Forked::Parent { pid, .. } => {
            drop(writer);
            let mut answer = [0; 4];
            let read = File::from(reader).read_exact(&mut answer);
            reap(pid);
            read?;
            adopt(i32::from_le_bytes(answer))
        }
    }
}

/// Our child by another's doing.
fn adopt(answer: i32) -> io::Result<Forked> {
    let Some(pid) = Pid::from_raw(answer).filter(|_| answer > 0) else {
        return Err(io::Error::from_raw_os_error(-answer));
    };
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    Ok(Forked::Parent { pid: answer, pidfd })
}

/// Makes a detached mount show ids mapped by a user namespace.
pub(super) fn idmap(
    tree: BorrowedFd<'_>,
    recursive: bool,
    userns: BorrowedFd<'_>,
) -> io::Result<()> {
    /// `MOUNT_ATTR_IDMAP` of `linux/mount.h` (Linux 5.12).
    const IDMAP: u64 = 0x0010_0000;
    let attr = wharf_sys::mount::MountAttr {
        attr_set: IDMAP,
        userns_fd: u64::from(userns.as_raw_fd().unsigned_abs()),
        ..Default::default()
    };
    wharf_sys::mount::mount_setattr(tree, recursive, &attr).map_err(|e| {
        let hint = match e.raw_os_error() {
            Some(libc::EINVAL) => " (does the file system support idmapped mounts?)",
            _ => "",
        };
        io::Error::other(format!("idmapped mount: {}{hint}", errno_text(&e)))
    })
}
