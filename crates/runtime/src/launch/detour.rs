//! Children are born into another namespace while the launching process has entered it; afterwards it goes back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::{LaunchError, Step};
use crate::plan::{ContainerPlan, NamespaceSource, Namespaces};

/// Namespaces that were entered, with the way back. Without an end by [`Detour::leave`] there is none.
#[derive(Debug, Default)]
pub(super) struct Detour {
    back: Vec<(OwnedFd, LinkNameSpaceType)>,
}

impl Detour {
    /// Enters what a container's init must be born into.
    ///
    /// That is its pid namespace, which a process never enters itself, and its clocks'. With a user namespace of its own it could
    /// not join the others either: they belong to us.
    pub(super) fn for_init(
        plan: &ContainerPlan,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<Detour, LaunchError> {
        let mut detour = Detour::default();
        let entered = detour.enter_all(plan, netns);
        detour.or_leave(entered)
    }

    fn enter_all(
        &mut self,
        plan: &ContainerPlan,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<(), LaunchError> {
        let ns = &plan.namespaces;
        self.join_path(&ns.pid, LinkNameSpaceType::ProcessID)?;
        self.enter_time(plan)?;
        if joins_before_clone(ns) {
            self.join_path(&ns.ipc, LinkNameSpaceType::InterProcessCommunication)?;
            self.join_path(&ns.uts, LinkNameSpaceType::HostNameAndNISDomainName)?;
            match netns {
                Some(netns) => self
                    .join(netns, LinkNameSpaceType::Network)
                    .step("failed to join the network namespace")?,
                None => self.join_path(&ns.net, LinkNameSpaceType::Network)?,
            }
        }
        Ok(())
    }

    /// Enters the pid namespace of a process.
    pub(super) fn to_pid_namespace_of(pidfd: &OwnedFd) -> Result<Detour, LaunchError> {
        let mut detour = Detour::default();
        let entered = detour
            .remember(LinkNameSpaceType::ProcessID)
            .and_then(|()| {
                Ok(move_into_thread_name_spaces(
                    pidfd.as_fd(),
                    ThreadNameSpaceType::PROCESS_ID,
                )?)
            });
        detour.or_leave(entered.step("failed to join the container's pid namespace"))
    }

    fn or_leave(self, entered: Result<(), LaunchError>) -> Result<Detour, LaunchError> {
        match entered {
            Ok(()) => Ok(self),
            Err(error) => {
                // The first failure is the one to report.
                let _ = self.leave();
                Err(error)
            }
        }
    }

    fn remember(&mut self, kind: LinkNameSpaceType) -> io::Result<()> {
        let own = File::open(format!("/proc/self/ns/{}", file_name(kind)))?;
        self.back.push((own.into(), kind));
        Ok(())
    }

    fn join(&mut self, ns: BorrowedFd<'_>, kind: LinkNameSpaceType) -> io::Result<()> {
        self.remember(kind)?;
        Ok(move_into_link_name_space(ns, Some(kind))?)
    }

    /// Joins the namespace that a plan names by path, if it does.
    pub(super) fn join_path(
        &mut self,
        source: &NamespaceSource,
        kind: LinkNameSpaceType,
    ) -> Result<(), LaunchError> {
        let NamespaceSource::Path(path) = source else {
            return Ok(());
        };
        File::open(path)
            .and_then(|ns| self.join(ns.as_fd(), kind))
            .step_with(|| cannot_join(kind, path))
    }

    /// A new one is entered by children only, and takes offsets until the first is born (time_namespaces(7)).
    fn enter_time(&mut self, plan: &ContainerPlan) -> Result<(), LaunchError> {
        if plan.namespaces.user != NamespaceSource::Host {
            return Ok(());
        }
        if plan.namespaces.time == NamespaceSource::New {
            self.remember(LinkNameSpaceType::Time)
                .step("open own time namespace")?;
            return new_time_namespace(&plan.time_offsets);
        }
        self.join_path(&plan.namespaces.time, LinkNameSpaceType::Time)
    }

    /// Back to the caller's own.
    pub(super) fn leave(self) -> Result<(), LaunchError> {
        for (own, kind) in self.back.iter().rev() {
            move_into_link_name_space(own.as_fd(), Some(*kind))
                .step_with(|| format!("return to own {} namespace", file_name(*kind)))?;
        }
        Ok(())
    }
}

/// With a new user namespace, which `clone3` makes first of all. One that is joined owns the others as a rule, and is entered
/// before them.
pub(super) fn joins_before_clone(ns: &Namespaces) -> bool {
    ns.user == NamespaceSource::New
}

/// Makes a time namespace for children, or for the program after `execve` (since Linux 6.3).
pub(super) fn new_time_namespace(offsets: &[(u32, i64, u32)]) -> Result<(), LaunchError> {
    wharf_sys::clone::unshare_time_namespace().step("unshare time namespace")?;
    if offsets.is_empty() {
        return Ok(());
    }
    let lines: String = offsets
        .iter()
        .map(|(clock, seconds, nanos)| format!("{clock} {seconds} {nanos}\n"))
        .collect();
    std::fs::write("/proc/self/timens_offsets", lines)
        .step("failed to update time namespace offsets")
}

/// Joins the namespace that a plan names by path, if it does.
pub(super) fn join_path(
    source: &NamespaceSource,
    kind: LinkNameSpaceType,
) -> Result<(), LaunchError> {
    let NamespaceSource::Path(path) = source else {
        return Ok(());
    };
    let join = || -> io::Result<()> {
        let ns = File::open(path)?;
        Ok(move_into_link_name_space(ns.as_fd(), Some(kind))?)
    };
    join().step_with(|| cannot_join(kind, path))
}

fn cannot_join(kind: LinkNameSpaceType, path: &Path) -> String {
    let name = file_name(kind);
    format!("failed to join {name} namespace {}", path.display())
}

fn file_name(kind: LinkNameSpaceType) -> &'static str {
    match kind {
        LinkNameSpaceType::ProcessID => "pid",
        LinkNameSpaceType::Network => "net",
        LinkNameSpaceType::InterProcessCommunication => "ipc",
        LinkNameSpaceType::HostNameAndNISDomainName => "uts",
        LinkNameSpaceType::Time => "time",
        LinkNameSpaceType::User => "user",
        LinkNameSpaceType::ControlGroup => "cgroup",
        _ => "mnt",
    }
}
