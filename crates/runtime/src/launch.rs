//! Carries out a [`ContainerPlan`]: clones the container's init, builds its world from inside, executes the user's program.
//!
//! ```text
//! caller (single-threaded)                     child
//!   v2: make and fill the control group
//!   clone3 into new namespaces  ───────────▶  join other namespaces                   [init]
//!   v1: make and fill the control groups       mount the root                          [rootfs]
//!   go on  ────────────────────────────────▶  v1: join the control groups
//!                                              mount everything in the root            [mounts, devices]
//!                                              pivot_root, hide paths                  [masks]
//!          ◀── terminal's master side ──────   terminal                                [console]
//!                                              user, limits, capabilities              [program]
//!          ◀── about to execute ────────────   filter
//!          ◀── error text, or end of file ──   execve
//! ```
//!
//! Both directions of the conversation are one socket pair (`report`); it is close-on-exec, so its end of file
//! means that `execve` succeeded.

mod console;
mod copy_up;
mod detour;
mod devices;
mod exec;
mod foreign;
pub mod hooks;
mod init;
mod masks;
pub(crate) mod mounts;
mod proc_guard;
mod program;
mod reaper;
mod report;
pub(crate) mod root;
pub(crate) mod rootfs;
pub(crate) mod user;
mod userns;
mod waiting;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};
use serde::{Deserialize, Serialize};
use wharf_sys::clone::{Forked, fork_with};

use self::detour::Detour;
use self::report::{Event, Heard, Outcome};
use crate::cgroup::{self, CgroupPath};
use crate::plan::{ContainerPlan, ExecPlan, Hooks, NamespaceSource};
use crate::systemd;

pub use waiting::start;

/// Standard streams of a new process.
#[derive(Debug)]
pub enum LaunchStdio {
    /// Three descriptors that become 0, 1 and 2.
    Pipes {
        /// Becomes descriptor 0.
        stdin: OwnedFd,
        /// Becomes descriptor 1.
        stdout: OwnedFd,
        /// Becomes descriptor 2.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal from the container's own devpts.
    Tty {
        /// Initial height in characters, 0 when unknown.
        rows: u16,
        /// Initial width in characters, 0 when unknown.
        cols: u16,
    },
}

/// A process that has reached its `execve`.
#[derive(Debug)]
pub struct Launched {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Master side of its terminal, with [`LaunchStdio::Tty`].
    pub console: Option<OwnedFd>,
}

/// Why a process did not reach its `execve`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct LaunchError {
    /// What kind of failure, for exit codes and for how Docker introduces it.
    pub kind: LaunchErrorKind,
    /// Text in runc's wording, without the "OCI runtime create failed" prefixes.
    pub message: String,
}

/// Kinds of launch failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchErrorKind {
    /// The program does not exist (exit code 127).
    NotFound,
    /// The program exists but may not be run (exit code 126).
    NotExecutable,
    /// The user or group is not in the image. Docker resolves these itself, so the text is an error of its own,
    /// without any runtime's prefix.
    User,
    /// The log cannot be kept where it should; no runtime is involved.
    Log,
    /// Anything else while setting up.
    Setup,
}

impl LaunchError {
    pub(crate) fn setup(message: impl Into<String>) -> LaunchError {
        LaunchError {
            kind: LaunchErrorKind::Setup,
            message: message.into(),
        }
    }
}

/// Names the step that failed, in front of the kernel's reason.
pub(crate) trait Step<T> {
    /// `what: reason`.
    fn step(self, what: &str) -> Result<T, LaunchError>;
    /// As [`Step::step`], with the text made only when needed.
    fn step_with(self, what: impl FnOnce() -> String) -> Result<T, LaunchError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: &str) -> Result<T, LaunchError> {
        self.step_with(|| what.to_string())
    }

    fn step_with(self, what: impl FnOnce() -> String) -> Result<T, LaunchError> {
        self.map_err(|e| LaunchError::setup(format!("{}: {}", what(), errno_text(&e.into()))))
    }
}

/// An error number's text as Go prints it, which is what Docker's users know: lower case, no number.
pub(crate) fn errno_text(e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

pub use foreign::delete as delete_foreign;
pub use reaper::main as init_main;

/// Starts the container's init. Blocking; the caller must be single-threaded. Returns once `execve` succeeded.
///
/// `netns` is the network namespace that the daemon has prepared. On failure the control group is removed again.
pub fn launch(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<OwnedFd>,
) -> Result<Launched, LaunchError> {
    if let Some(foreign) = &plan.foreign {
        return foreign::launch(foreign, plan, stdio, netns.as_ref());
    }
    launch_given(plan, stdio, netns, None)
}

/// As [`launch`], but returns when everything up to the program is done: whoever connects to `listener` (a listening
/// sequenced-packet socket) starts it, by [`start`].
pub fn create(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    listener: OwnedFd,
) -> Result<Launched, LaunchError> {
    launch_given(plan, stdio, None, Some(listener))
}

fn launch_given(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<OwnedFd>,
    start: Option<OwnedFd>,
) -> Result<Launched, LaunchError> {
    let launched = start_init(plan, stdio, netns, start);
    if launched.is_err() {
        // The launch error is the one to report; a group that cannot be removed is found again by the daemon's
        // start-up check.
        let _ = plan.cgroup.path.remove();
        let _ = plan.resctrl.as_ref().map(|class| class.remove());
        let _ = leave_no_mounts(plan);
    }
    launched
}

/// Of a container without a mount namespace of its own, what it mounted stays where it was; this takes it away.
pub fn leave_no_mounts(plan: &ContainerPlan) -> Result<(), LaunchError> {
    rootfs::take_away(plan)
}

/// On v2 the child is born in its group; on v1 it joins by itself, so that the groups can be made while it mounts.
fn start_init(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<OwnedFd>,
    start: Option<OwnedFd>,
) -> Result<Launched, LaunchError> {
    let group = match &plan.cgroup.path {
        CgroupPath::V2(dir) if plan.cgroup.scope.is_none() && make_group(plan)? => {
            Some(open_group(dir)?)
        }
        CgroupPath::V1(_) if plan.cgroup.scope.is_none() => {
            cgroup::make_birthplace(&plan.cgroup.path)
        }
        _ => None,
    };
    // With a user namespace they are mounted by us, after the clone.
    let idmaps = match plan.namespaces.user {
        NamespaceSource::Host => mounts::make_idmaps(&plan.mounts)?,
        _ => Vec::new(),
    };
    userns::own_streams(plan, &stdio);
    let (parent, child) = report::pair().step("create socket pair")?;
    let detour = Detour::for_init(plan, netns.as_ref().map(AsFd::as_fd))?;
    let flags = init::clone_flags(&plan.namespaces, netns.is_some());
    let group_fd = group.as_ref().map(AsFd::as_fd);
    let forked = match &plan.namespaces.user {
        NamespaceSource::Path(path) => userns::fork_inside(path, flags, group_fd),
        _ => fork_with(flags, group_fd),
    };
    match forked {
        Ok(Forked::Child) => {
            drop((parent, detour));
            let given = init::Given {
                stdio,
                netns,
                start,
                idmaps,
            };
            init::run(plan, given, child)
        }
        forked => {
            drop((child, stdio, netns, start, idmaps));
            let child = StartedChild::new(forked, detour, parent)?;
            let told = start_scope(plan, child.pid)
                .and_then(|()| make_v1_group(plan, child.pid))
                .and_then(|()| join_class(plan, child.pid))
                .and_then(|()| userns::prepare(plan, child.pid))
                .and_then(|trees| child.go_on(&trees));
            match told {
                Ok(()) => child.wait_for_exec(&plan.cgroup.path, &plan.hooks),
                Err(error) => Err(child.end(error)),
            }
        }
    }
}

/// Whether there is a group now. Those who may not manage any do without.
fn make_group(plan: &ContainerPlan) -> Result<bool, LaunchError> {
    match cgroup::create(&plan.cgroup) {
        Ok(()) => Ok(true),
        Err(_) if plan.cgroup_optional => Ok(false),
        Err(e) => Err(LaunchError::setup(format!(
            "unable to apply cgroup configuration: {e}"
        ))),
    }
}

/// systemd makes the group around init, which waits. On v2 it is filled then; on v1 the other hierarchies come later.
fn start_scope(plan: &ContainerPlan, pid: i32) -> Result<(), LaunchError> {
    let Some(scope) = &plan.cgroup.scope else {
        return Ok(());
    };
    match systemd::start(scope, pid.unsigned_abs()) {
        Err(_) if plan.cgroup_optional => return Ok(()),
        started => started.map_err(|e| {
            LaunchError::setup(format!("unable to apply cgroup configuration: {e}"))
        })?,
    }
    match &plan.cgroup.path {
        CgroupPath::V2(_) => make_group(plan).map(drop),
        CgroupPath::V1(_) => Ok(()),
    }
}

/// The groups belong to us, so that the root of a user namespace cannot join them by itself.
fn make_v1_group(plan: &ContainerPlan, pid: i32) -> Result<(), LaunchError> {
    if !matches!(plan.cgroup.path, CgroupPath::V1(_)) || !make_group(plan)? {
        return Ok(());
    }
    match plan.namespaces.user {
        NamespaceSource::Host => Ok(()),
        _ => {
            plan.cgroup.path.adopt(pid).map_err(|e| {
                LaunchError::setup(format!("unable to apply cgroup configuration: {e}"))
            })
        }
    }
}

fn join_class(plan: &ContainerPlan, pid: i32) -> Result<(), LaunchError> {
    let class = plan.resctrl.as_ref();
    class
        .map_or(Ok(()), |class| class.join(pid))
        .map_err(|e| LaunchError::setup(e.to_string()))
}

/// In a child: moves into the container's group.
fn join_group(group: &CgroupPath, optional: bool) -> Result<(), LaunchError> {
    match group.join() {
        Err(e) if !optional => Err(LaunchError::setup(format!(
            "unable to apply cgroup configuration: {e}"
        ))),
        _ => Ok(()),
    }
}

fn open_group(dir: &Path) -> Result<OwnedFd, LaunchError> {
    cgroup::open_dir(dir).step_with(|| format!("open cgroup {}", dir.display()))
}

/// How long a further process may take to its `execve`: the container may be frozen, or its file system not answer.
const EXEC_DEADLINE: Duration = Duration::from_secs(20);

/// Where the start of a further process has got to.
#[derive(Debug)]
pub enum ExecLaunch {
    /// It is the user's program.
    Done(Launched),
    /// It is on its way there.
    Starting(Box<Starting>),
}

/// A further process on its way to its `execve`. When its descriptor can be read, [`Starting::proceed`] gets further.
#[derive(Debug)]
pub struct Starting {
    child: StartedChild,
    heard: Heard,
    group: CgroupPath,
    deadline: Instant,
}

impl Starting {
    /// Its pid in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// When [`Starting::proceed`] gives it up.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes in what it has said meanwhile, without waiting for more.
    pub fn proceed(mut self: Box<Self>) -> Result<ExecLaunch, LaunchError> {
        loop {
            match self.child.report.next_before(Instant::now()) {
                Ok(event) => {
                    if let Some(outcome) = self.heard.take(event) {
                        return self
                            .child
                            .conclude(outcome, &self.group)
                            .map(ExecLaunch::Done);
                    }
                }
                Err(e) if e.kind() != io::ErrorKind::TimedOut => {
                    return Err(self.child.lost(&e));
                }
                Err(_) if Instant::now() >= self.deadline => return Err(self.child.give_up()),
                Err(_) => return Ok(ExecLaunch::Starting(self)),
            }
        }
    }

    /// Gives it up before its time.
    pub fn cancel(self, why: &str) -> LaunchError {
        self.child.end(LaunchError::setup(why))
    }

    fn wait(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(self, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.report.as_fd()
    }
}

/// Starts a further process in the container whose init is `init`. Blocking, for `EXEC_DEADLINE` at most; single-threaded callers
/// only.
pub fn launch_exec(
    plan: &ExecPlan,
    init: &OwnedFd,
    stdio: LaunchStdio,
) -> Result<Launched, LaunchError> {
    let mut launch = begin_exec(plan, init, stdio)?;
    loop {
        let starting = match launch {
            ExecLaunch::Done(launched) => return Ok(launched),
            ExecLaunch::Starting(starting) => starting,
        };
        starting.wait().step("wait for the container process")?;
        launch = starting.proceed()?;
    }
}

/// The same without waiting for its `execve`; but another runtime's program is waited for.
pub fn begin_exec(
    plan: &ExecPlan,
    init: &OwnedFd,
    stdio: LaunchStdio,
) -> Result<ExecLaunch, LaunchError> {
    if let Some(foreign) = &plan.foreign {
        return foreign::launch_exec(foreign, plan, stdio).map(ExecLaunch::Done);
    }
    let group = match &plan.cgroup {
        CgroupPath::V1(_) => plan
            .cgroup
            .birthplace()
            .and_then(|dir| open_group(dir).ok()),
        CgroupPath::V2(dir) if plan.cgroup_optional => open_group(dir).ok(),
        CgroupPath::V2(dir) => Some(open_group(dir)?),
    };
    let deadline = Instant::now() + EXEC_DEADLINE;
    let has_user = plan.namespaces.user != NamespaceSource::Host;
    let rootless = has_user && !rustix::process::geteuid().is_root();
    let detour = match rootless {
        true => Detour::default(),
        false => Detour::to_pid_namespace_of(init)?,
    };
    let (parent, child) = report::pair().step("create socket pair")?;
    let group_fd = group.as_ref().map(AsFd::as_fd);
    let forked = match rootless {
        true => userns::fork_beside(init, group_fd),
        false => fork_with(0, group_fd),
    };
    let forked = match forked {
        // The container has made groups of its own, as a service manager does: then none but leaves hold processes,
        // and the one of its init is as good as any.
        Err(e) if group.is_some() && e.raw_os_error() == Some(libc::EBUSY) => {
            let nested = plan
                .cgroup
                .group_of(init)
                .step("find the group of the container's init")?;
            fork_with(0, Some(open_group(&nested)?.as_fd()))
        }
        forked => forked,
    };
    match forked {
        Ok(Forked::Child) => {
            drop(parent);
            exec::run(plan, init.as_fd(), stdio, child, rootless)
        }
        forked => {
            drop((child, stdio));
            let starting = Starting {
                child: StartedChild::new(forked, detour, parent)?,
                heard: Heard::default(),
                group: plan.cgroup.clone(),
                deadline,
            };
            Ok(ExecLaunch::Starting(Box::new(starting)))
        }
    }
}

/// A child on its way to `execve`, as its parent holds it.
#[derive(Debug)]
struct StartedChild {
    pid: i32,
    pidfd: OwnedFd,
    report: report::Listener,
}

impl StartedChild {
    /// Comes back from the namespaces in which the fork was made, whether or not it was.
    fn new(
        forked: io::Result<Forked>,
        detour: Detour,
        report: report::Listener,
    ) -> Result<StartedChild, LaunchError> {
        let left = detour.leave();
        let Forked::Parent { pid, pidfd } = forked.step("clone")? else {
            unreachable!("the child does not get here")
        };
        let child = StartedChild { pid, pidfd, report };
        match left {
            Ok(()) => Ok(child),
            Err(error) => Err(child.end(error)),
        }
    }

    fn go_on(&self, fds: &[OwnedFd]) -> Result<(), LaunchError> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.report
            .go_on(self.pid, &fds)
            .step("tell the container process to go on")
    }

    /// Listens until it has become the user's program (or waits for its start), or has given up and been reaped.
    fn wait_for_exec(self, group: &CgroupPath, hooks: &Hooks) -> Result<Launched, LaunchError> {
        let mut heard = Heard::default();
        loop {
            let event = match self.report.next() {
                Ok(event) => event,
                Err(e) => return Err(self.lost(&e)),
            };
            if matches!(event, Event::Prepared)
                && let Err(error) = self.run_hooks(hooks)
            {
                return Err(self.end(error));
            }
            if let Some(outcome) = heard.take(event) {
                return self.conclude(outcome, group);
            }
        }
    }

    fn lost(self, error: &io::Error) -> LaunchError {
        let text = format!("wait for the container process: {}", errno_text(error));
        self.end(LaunchError::setup(text))
    }

    /// It may hang in the kernel (a file system that does not answer), so its end is not waited for: whoever reaps our children will.
    fn give_up(self) -> LaunchError {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        let seconds = EXEC_DEADLINE.as_secs();
        LaunchError::setup(format!(
            "the process did not start within {seconds} seconds"
        ))
    }

    fn run_hooks(&self, hooks: &Hooks) -> Result<(), LaunchError> {
        use hooks::Status::{Created, Creating};
        for (kind, list, status) in [
            ("prestart", &hooks.prestart, Created),
            ("createRuntime", &hooks.create_runtime, Creating),
        ] {
            hooks::run(kind, list, &hooks.state, status, self.pid)?;
        }
        self.go_on(&[])
    }

    fn conclude(self, outcome: Outcome, group: &CgroupPath) -> Result<Launched, LaunchError> {
        match outcome {
            Outcome::Executed { console } => Ok(Launched {
                pid: self.pid,
                pidfd: self.pidfd,
                console,
            }),
            Outcome::Failed(error) => Err(self.end(error)),
            Outcome::Died => {
                let text = match group.oom_kills() {
                    0 => "container init exited prematurely",
                    _ => "container init was OOM-killed (memory limit too low?)",
                };
                Err(self.end(LaunchError::setup(text)))
            }
        }
    }

    /// Makes sure that it is gone; answers the reason.
    fn end(self, reason: LaunchError) -> LaunchError {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        reason
    }
}
