//! The container's first process, from `clone3` to `execve`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::report::Reporter;
use super::root::Root;
use super::{
    LaunchError, LaunchStdio, Step, console, devices, masks, mounts, program, reaper, rootfs,
};
use crate::plan::{ContainerPlan, NamespaceSource, Namespaces, Propagation, PropagationKind};

/// Namespaces that `clone3` makes. The cgroup namespace is not among them: its root is the group the process is in
/// when it is made, so it comes after joining.
pub(super) fn clone_flags(ns: &Namespaces, has_netns: bool) -> u64 {
    let kinds = [
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

/// Children are born into another pid namespace while this is entered; the process itself never moves.
#[derive(Debug)]
pub(super) struct PidNamespace {
    own: Option<OwnedFd>,
}

impl PidNamespace {
    /// Enters the namespace that the plan names by path, if any.
    pub(super) fn enter(source: &NamespaceSource) -> Result<PidNamespace, LaunchError> {
        let NamespaceSource::Path(path) = source else {
            return Ok(PidNamespace { own: None });
        };
        let own = open_own_pid_namespace()?;
        let join = || -> io::Result<()> {
            let ns = File::open(path)?;
            Ok(move_into_link_name_space(
                ns.as_fd(),
                Some(LinkNameSpaceType::ProcessID),
            )?)
        };
        join().step_with(|| format!("failed to join pid namespace {}", path.display()))?;
        Ok(PidNamespace { own: Some(own) })
    }

    /// Enters that of a process.
    pub(super) fn enter_of(pidfd: &OwnedFd) -> Result<PidNamespace, LaunchError> {
        let own = open_own_pid_namespace()?;
        move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::PROCESS_ID)
            .step("failed to join the container's pid namespace")?;
        Ok(PidNamespace { own: Some(own) })
    }

    /// Back to the caller's own.
    pub(super) fn leave(self) -> Result<(), LaunchError> {
        match self.own {
            Some(own) => move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
                .step("return to own pid namespace"),
            None => Ok(()),
        }
    }
}

fn open_own_pid_namespace() -> Result<OwnedFd, LaunchError> {
    Ok(File::open("/proc/self/ns/pid")
        .step("open own pid namespace")?
        .into())
}

/// Runs in the child; never returns.
pub(super) fn run(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<OwnedFd>,
    reporter: Reporter,
) -> ! {
    match set_up(plan, stdio, netns, &reporter) {
        Ok(streams) => finish(plan, streams, reporter),
        Err(error) => give_up(&reporter, error),
    }
}

/// Everything up to a finished root. The order is the kernel's: what needs host paths comes before `attach`, what
/// needs `/proc` writable before it is made read-only, links and modes under a mask of 0.
fn set_up(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<OwnedFd>,
    reporter: &Reporter,
) -> Result<console::Streams, LaunchError> {
    program::isolate()?;
    join_namespaces(&plan.namespaces, netns)?;
    program::set_oom_score(plan.process.oom_score_adj)?;
    rustix::process::umask(0.into());

    let propagation = plan.rootfs_propagation.unwrap_or(HOST_PROPAGATION);
    rootfs::set_propagation("/", propagation).step("set propagation of host mounts")?;
    let sources = mounts::prepare(&plan.mounts)?;
    let root = rootfs::mount(&plan.rootfs, plan.layers_one_by_one)?;
    join_group(plan, reporter)?;
    mounts::execute(&root, &plan.mounts, sources)?;
    devices::make_nodes(&root, &plan.devices)?;
    devices::make_links(&root, &plan.links)?;
    let streams = console::open(&root, stdio, reporter)?;
    console::mount_console(&root, &streams)?;
    if plan.create_cwd {
        create_cwd(&root, &plan.process.cwd)?;
    }
    set_names(plan)?;
    masks::set_sysctls(&root, &plan.sysctls)?;
    masks::make_readonly(&root, &plan.readonly_paths)?;
    masks::mask(&root, &plan.masked_paths)?;
    if plan.rootfs_readonly {
        masks::make_root_readonly(&root)?;
    }
    rootfs::enter(&root, plan.rootfs_propagation)?;
    Ok(streams)
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
    join_path(&ns.ipc, LinkNameSpaceType::InterProcessCommunication, "ipc")?;
    join_path(&ns.uts, LinkNameSpaceType::HostNameAndNISDomainName, "uts")?;
    match (netns, &ns.net) {
        (Some(fd), _) => move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))
            .step("failed to join the network namespace")?,
        (None, NamespaceSource::New) => {
            wharf_sys::netns::loopback_up().step("bring up the loopback interface")?
        }
        (None, source) => join_path(source, LinkNameSpaceType::Network, "net")?,
    }
    Ok(())
}

/// The namespace comes after joining, for its root is the group the process is in.
fn join_group(plan: &ContainerPlan, reporter: &Reporter) -> Result<(), LaunchError> {
    reporter
        .wait_to_go_on()
        .step("wait for the control group")?;
    plan.cgroup
        .path
        .join()
        .map_err(|e| LaunchError::setup(format!("unable to apply cgroup configuration: {e}")))?;
    match &plan.namespaces.cgroup {
        NamespaceSource::New => {
            wharf_sys::clone::unshare_cgroup_namespace().step("unshare cgroup namespace")
        }
        source => join_path(source, LinkNameSpaceType::ControlGroup, "cgroup"),
    }
}

fn join_path(
    source: &NamespaceSource,
    kind: LinkNameSpaceType,
    name: &str,
) -> Result<(), LaunchError> {
    let NamespaceSource::Path(path) = source else {
        return Ok(());
    };
    let join = || -> io::Result<()> {
        let ns = File::open(path)?;
        Ok(move_into_link_name_space(ns.as_fd(), Some(kind))?)
    };
    join().step_with(|| format!("failed to join {name} namespace {}", path.display()))
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
fn finish(plan: &ContainerPlan, streams: console::Streams, reporter: Reporter) -> ! {
    match program::settle(&plan.process, streams, &reporter) {
        Ok(identity) if plan.init => reaper::run(&plan.process, &identity, reporter),
        Ok(identity) => program::run(&plan.process, &identity, &reporter),
        Err(error) => give_up(&reporter, error),
    }
}

/// Reports and ends.
pub(super) fn give_up(reporter: &Reporter, error: LaunchError) -> ! {
    reporter.send_failure(error);
    wharf_sys::process::exit_now(1)
}
