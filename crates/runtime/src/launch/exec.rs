//! A further process in a running container, from fork to `execve`.

use std::os::fd::BorrowedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::console::Streams;
use super::init::give_up;
use super::report::Reporter;
use super::root::Root;
use super::{LaunchError, LaunchStdio, Step, console, program};
use crate::plan::ExecPlan;

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
    // One call for all: namespaces that the container shares with us are joined too, which changes nothing. Only one's own
    // user namespace cannot be joined.
    let mut more = ThreadNameSpaceType::empty();
    more.set(
        ThreadNameSpaceType::USER,
        plan.user_namespace && !is_user_entered,
    );
    more.set(ThreadNameSpaceType::TIME, plan.time_namespace);
    let all = more
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::MOUNT;
    move_into_thread_name_spaces(init, all).step("failed to join the container's namespaces")?;
    if plan.user_namespace {
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
