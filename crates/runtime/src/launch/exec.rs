//! A further process in a running container, from fork to `execve`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{chroot, fchdir};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::console::Streams;
use super::init::give_up;
use super::report::Reporter;
use super::root::Root;
use super::{LaunchError, LaunchStdio, Step, console, program};
use crate::plan::{ExecPlan, NamespaceSource, Namespaces};

/// Runs in the child, which was born in the container's pid namespace; never returns.
pub(super) fn run(
    plan: &ExecPlan,
    init: BorrowedFd<'_>,
    stdio: LaunchStdio,
    reporter: Reporter,
    is_user_entered: bool,
) -> ! {
    let settled = set_up(plan, init, stdio, &reporter, is_user_entered)
        .and_then(|streams| program::settle(&plan.process, streams, &reporter, None));
    match settled {
        Ok(identity) => program::run(&plan.process, &identity, reporter, None),
        Err(error) => give_up(&reporter, error),
    }
}

fn set_up(
    plan: &ExecPlan,
    init: BorrowedFd<'_>,
    stdio: LaunchStdio,
    reporter: &Reporter,
    is_user_entered: bool,
) -> Result<Streams, LaunchError> {
    program::isolate(&plan.process)?;
    program::run_on(&plan.process.scheduling.cpus.initial)?;
    super::join_group(&plan.cgroup, plan.cgroup_optional)?;
    program::run_on(&plan.process.scheduling.cpus.last)?;
    program::set_oom_score(plan.process.oom_score_adj)?;
    let other_root = match plan.namespaces.mount {
        NamespaceSource::New => None,
        // The namespace's root is somebody else's.
        _ => Some(open_root_of(init).step("open container root")?),
    };
    let has_user = plan.namespaces.user != NamespaceSource::Host;
    let mut own = own_namespaces(&plan.namespaces);
    own.set(ThreadNameSpaceType::USER, has_user && !is_user_entered);
    if !own.is_empty() {
        move_into_thread_name_spaces(init, own)
            .step("failed to join the container's namespaces")?;
    }
    if let Some(root) = other_root {
        fchdir(&root).step("enter container root")?;
        chroot(".").step("chroot")?;
    }
    if has_user {
        program::become_root()?;
    }
    let root = rustix::fs::openat(
        CWD,
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    console::open(
        &Root::new(root.step("open container root")?),
        stdio,
        reporter,
    )
}

/// Through the host's `/proc`: only there is the number in `fdinfo` that of the process.
fn open_root_of(init: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", init.as_raw_fd()))?;
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:"));
    let root = format!(
        "/proc/{}/root",
        pid.ok_or(io::ErrorKind::InvalidData)?.trim()
    );
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root, flags, Mode::empty())?)
}

/// All but the pid namespace, which was entered by being born.
fn own_namespaces(ns: &Namespaces) -> ThreadNameSpaceType {
    use ThreadNameSpaceType as Kind;
    let kinds = [
        (&ns.ipc, Kind::INTER_PROCESS_COMMUNICATION),
        (&ns.uts, Kind::HOST_NAME_AND_NIS_DOMAIN_NAME),
        (&ns.net, Kind::NETWORK),
        (&ns.cgroup, Kind::CONTROL_GROUP),
        (&ns.mount, Kind::MOUNT),
        (&ns.time, Kind::TIME),
    ];
    kinds
        .into_iter()
        .filter(|(source, _)| **source != NamespaceSource::Host)
        .fold(Kind::empty(), |all, (_, kind)| all | kind)
}
