//! The container's first process, from `clone3` to `execve`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::detour::{join_path, joins_before_clone};
use super::program::BeforeProgram;
use super::report::Reporter;
use super::root::Root;
use super::{
    LaunchError, LaunchStdio, Step, console, devices, hooks, masks, mounts, program, reaper,
    rootfs, userns,
};
use crate::plan::{ContainerPlan, NamespaceSource, Namespaces, Propagation, PropagationKind};

/// Namespaces that `clone3` makes. The cgroup namespace is not among them: its root is the group the process is in
/// when it is made, so it comes after joining.
pub(super) fn clone_flags(ns: &Namespaces, has_netns: bool) -> u64 {
    let kinds = [
        (&ns.user, libc::CLONE_NEWUSER),
        (&ns.mount, libc::CLONE_NEWNS),
        (&ns.pid, libc::CLONE_NEWPID),
        (&ns.ipc, libc::CLONE_NEWIPC),
        (&ns.uts, libc::CLONE_NEWUTS),
    ];
    let mut flags: i32 = kinds
        .iter()
        .filter(|(s, _)| **s == NamespaceSource::New)
        .map(|(_, f)| f)
        .sum();
    if ns.net == NamespaceSource::New && !has_netns {
        flags |= libc::CLONE_NEWNET;
    }
    u64::from(flags.unsigned_abs())
}

/// What the child is given by descriptor.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) stdio: LaunchStdio,
    pub(super) netns: Option<OwnedFd>,
    /// Where to wait to be started; without, it starts by itself.
    pub(super) start: Option<OwnedFd>,
    /// User namespaces of idmapped mounts, by position.
    pub(super) idmaps: Vec<Option<OwnedFd>>,
}

/// Runs in the child; never returns.
pub(super) fn run(plan: &ContainerPlan, given: Given, reporter: Reporter) -> ! {
    let Given {
        stdio,
        netns,
        start,
        idmaps,
    } = given;
    match set_up(plan, stdio, netns, &idmaps, &reporter) {
        Ok((streams, pid)) => finish(plan, streams, start, pid, reporter),
        Err(error) => give_up(&reporter, error),
    }
}

/// Everything up to a finished root, and our pid on the host. The order is the kernel's: what needs host paths comes
/// before `attach`, what needs `/proc` writable before it is made read-only, links and modes under a mask of 0.
fn set_up(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<OwnedFd>,
    idmaps: &[Option<OwnedFd>],
    reporter: &Reporter,
) -> Result<(console::Streams, i32), LaunchError> {
    let entered = userns::wait_for_ids(plan, reporter)?;
    program::isolate(&plan.process)?;
    if entered.is_some() {
        userns::enter(plan)?;
    }
    join_namespaces(&plan.namespaces, netns)?;
    // With a user namespace the launching process has: init's own file belongs to the host's root.
    if entered.is_none() {
        program::set_oom_score(plan.process.oom_score_adj)?;
    }
    rustix::process::umask(0.into());

    join_path(&plan.namespaces.mount, LinkNameSpaceType::Mount)?;
    let place = rootfs::Place::of(plan)?;
    if place == rootfs::Place::OverRoot {
        let propagation = plan.rootfs_propagation.unwrap_or(HOST_PROPAGATION);
        rootfs::set_propagation("/", propagation).step("set propagation of host mounts")?;
    }
    let (pid, trees) = match entered {
        Some(entered) => (Some(entered.pid), entered.trees),
        None => (None, Vec::new()),
    };
    let mut trees = trees.into_iter();
    let (root, sources) = match trees.next() {
        Some(root) => {
            let sources = mounts::Sources::received(&plan.mounts, trees)?;
            (rootfs::attach_root(root, &place)?, sources)
        }
        None => {
            let sources = mounts::Sources {
                mounts: mounts::prepare(&plan.mounts, idmaps)?,
                devices: match pid {
                    Some(_) => mounts::copy_devices(&plan.devices)?,
                    None => Vec::new(),
                },
            };
            let root = rootfs::mount(&plan.rootfs, plan.layers_one_by_one, &place)?;
            (root, sources)
        }
    };
    let pid = match pid {
        Some(pid) => pid,
        None => {
            reporter
                .wait_to_go_on()
                .step("wait for the control group")?
                .0
        }
    };
    join_group(plan)?;
    mounts::execute(&root, &plan.mounts, sources.mounts)?;
    devices::make_nodes(&root, &plan.devices, sources.devices)?;
    devices::make_links(&root, &plan.links)?;
    let streams = console::open(&root, stdio, reporter)?;
    console::mount_console(&root, &streams)?;
    if plan.create_cwd {
        create_cwd(&root, &plan.process.cwd)?;
    }
    run_hooks(plan, pid, reporter)?;
    set_names(plan)?;
    masks::set_sysctls(&root, &plan.sysctls)?;
    masks::make_readonly(&root, &plan.readonly_paths)?;
    masks::mask(&root, &plan.masked_paths)?;
    if plan.rootfs_readonly {
        masks::make_root_readonly(&root)?;
    }
    rootfs::enter(&root, plan.rootfs_propagation, plan.no_pivot, &place)?;
    Ok((streams, pid))
}

/// Those of the launching process first, then those in the container's namespaces.
fn run_hooks(plan: &ContainerPlan, pid: i32, reporter: &Reporter) -> Result<(), LaunchError> {
    let list = &plan.hooks;
    if !list.any_before_root() {
        return Ok(());
    }
    reporter.send_prepared().step("report")?;
    reporter.wait_to_go_on().step("wait for hooks")?;
    let status = hooks::Status::Creating;
    hooks::run(
        "createContainer",
        &list.create_container,
        &list.state,
        status,
        pid,
    )
}

/// The host's mounts keep arriving until the root is left, but nothing of ours travels back (runc's default).
const HOST_PROPAGATION: Propagation = Propagation {
    kind: PropagationKind::Slave,
    recursive: true,
};

/// Docker makes a missing working directory, owned by root. What is there is left as it is.
fn create_cwd(root: &Root, cwd: &str) -> Result<(), LaunchError> {
    root.ensure_dir(cwd)
        .map(drop)
        .step_with(|| format!("mkdir {cwd}"))
}

fn join_namespaces(ns: &Namespaces, netns: Option<OwnedFd>) -> Result<(), LaunchError> {
    let is_new_network = ns.net == NamespaceSource::New && netns.is_none();
    if !joins_before_clone(ns) {
        join_path(&ns.ipc, LinkNameSpaceType::InterProcessCommunication)?;
        join_path(&ns.uts, LinkNameSpaceType::HostNameAndNISDomainName)?;
        match netns {
            Some(fd) => move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))
                .step("failed to join the network namespace")?,
            None => join_path(&ns.net, LinkNameSpaceType::Network)?,
        }
    }
    if is_new_network {
        wharf_sys::netns::loopback_up().step("bring up the loopback interface")?;
    }
    Ok(())
}

/// The namespace comes after joining, for its root is the group the process is in.
fn join_group(plan: &ContainerPlan) -> Result<(), LaunchError> {
    if plan.namespaces.user == NamespaceSource::Host {
        super::join_group(&plan.cgroup.path, plan.cgroup_optional)?;
    }
    match &plan.namespaces.cgroup {
        NamespaceSource::New => {
            wharf_sys::clone::unshare_cgroup_namespace().step("unshare cgroup namespace")
        }
        source => join_path(source, LinkNameSpaceType::ControlGroup),
    }
}

fn set_names(plan: &ContainerPlan) -> Result<(), LaunchError> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).step("sethostname")?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).step("setdomainname")?;
    }
    Ok(())
}

/// With `--init` this process stays as PID 1 and a child goes on; without, it goes on itself.
fn finish(
    plan: &ContainerPlan,
    streams: console::Streams,
    start: Option<OwnedFd>,
    pid: i32,
    reporter: Reporter,
) -> ! {
    match program::settle(&plan.process, streams, &reporter, start.as_ref()) {
        Ok(identity) => {
            let before = BeforeProgram {
                start,
                hooks: &plan.hooks,
                pid,
            };
            if plan.init {
                reaper::run(&plan.process, &identity, reporter, before)
            }
            program::run(&plan.process, &identity, reporter, Some(before))
        }
        Err(error) => give_up(&reporter, error),
    }
}

/// Reports and ends.
pub(super) fn give_up(reporter: &Reporter, error: LaunchError) -> ! {
    reporter.send_failure(error);
    wharf_sys::process::exit_now(1)
}
