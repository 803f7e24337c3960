//! The last stretch: becoming the right user with the right powers, finding the program, executing it.

mod lookup;

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, Uid, fchown, fstat, fstatfs, major, minor,
};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use wharf_sys::process as sys;
use wharf_sys::seccomp::{SockFilter, load_filter};

use super::console::Streams;
use super::report::Reporter;
use super::user::{self, Identity};
use super::{LaunchError, Step, errno_text, hooks, waiting};
use crate::plan::{CapSets, Hooks, ProcessPlan, capability};
use crate::seccomp::SeccompProgram;

/// First thing in every child: what it inherited from us must not matter. Until `execve` nobody in the container may
/// look into this process, whose memory and descriptors are the host's (CVE-2016-9962); `execve` lifts it.
pub(super) fn isolate(plan: &ProcessPlan) -> Result<(), LaunchError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("prctl(PR_SET_DUMPABLE)")?;
    sys::reset_signals();
    rustix::process::setsid().step("setsid")?;
    if plan.keep_keyring {
        return Ok(());
    }
    // Kernels without keyrings have none to inherit.
    match sys::join_new_session_keyring() {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        joined => joined.step("join session keyring"),
    }
}

/// What happens between being ready and the program, for the container's own program.
#[derive(Debug)]
pub(super) struct BeforeProgram<'a> {
    /// Wait here to be started.
    pub(super) start: Option<OwnedFd>,
    /// The container's hooks.
    pub(super) hooks: &'a Hooks,
    /// This process as the launching one sees it.
    pub(super) pid: i32,
}

/// Restricts this process to some processors; none named is no restriction.
pub(super) fn run_on(cpus: &[u32]) -> Result<(), LaunchError> {
    if cpus.is_empty() {
        return Ok(());
    }
    sys::set_cpu_affinity(cpus).step("error setting CPU affinity")
}

/// Right after entering a user namespace: its root, with all powers in it. Where no group can be set (a user's own
/// namespace, user_namespaces(7)) those of before stay.
pub(super) fn become_root() -> Result<(), LaunchError> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .step("setgid to the user namespace's root")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .step("setuid to the user namespace's root")?;
    // Changing the user has made this process dumpable by the host's administrator's rule (fs.suid_dumpable).
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("prctl(PR_SET_DUMPABLE)")
}

/// Through the host's `/proc`, which the container cannot have arranged.
pub(super) fn set_oom_score(score: Option<i32>) -> Result<(), LaunchError> {
    match score {
        Some(score) => {
            fs::write("/proc/self/oom_score_adj", score.to_string()).step("write oom_score_adj")
        }
        None => Ok(()),
    }
}

/// Installs the standard streams, closes every other descriptor but the report's, and finds out who to be.
pub(super) fn settle(
    plan: &ProcessPlan,
    streams: Streams,
    reporter: &Reporter,
    start: Option<&OwnedFd>,
) -> Result<Identity, LaunchError> {
    streams.install().step("install standard streams")?;
    let mut keep = vec![reporter.as_fd()];
    keep.extend(start.map(OwnedFd::as_fd));
    close_everything_but(&keep, 3 + plan.preserve_fds).step("close descriptors")?;
    let identity = user::resolve(&plan.user)?;
    give_streams_to(identity.uid).step("change owner of standard streams")?;
    Ok(identity)
}

/// For real, not just on `execve`: the working directory could be given as `/proc/self/fd/<n>` (CVE-2024-21626).
fn close_everything_but(keep: &[BorrowedFd<'_>], first: u32) -> io::Result<()> {
    let mut keep: Vec<u32> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().unsigned_abs())
        .collect();
    keep.sort_unstable();
    let mut next = first;
    for fd in keep.into_iter().filter(|fd| *fd >= first) {
        if fd > next {
            sys::close_range(next, fd - 1)?;
        }
        next = fd + 1;
    }
    sys::close_range(next, u32::MAX)
}

/// A program that is not root must be able to reopen its own `/dev/stdout`. The null device stays everybody's (runc).
fn give_streams_to(uid: u32) -> io::Result<()> {
    for fd in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let stat = fstat(fd)?;
        let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
        if stat.st_uid == uid || is_null {
            continue;
        }
        match fchown(fd, Some(Uid::from_raw(uid)), None) {
            // Read-only and ownerless file systems keep their owner.
            Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            done => done?,
        }
    }
    Ok(())
}

/// Becomes the program; never returns.
pub(super) fn run(
    plan: &ProcessPlan,
    identity: &Identity,
    mut reporter: Reporter,
    before: Option<BeforeProgram<'_>>,
) -> ! {
    let Err(error) = execute(plan, identity, &mut reporter, before);
    reporter.send_failure(error);
    sys::exit_now(1)
}

fn execute(
    plan: &ProcessPlan,
    identity: &Identity,
    reporter: &mut Reporter,
    before: Option<BeforeProgram<'_>>,
) -> Result<Infallible, LaunchError> {
    let env = environment(plan, identity);
    let (args, c_env) = (c_strings(&plan.args)?, c_strings(&env)?);
    set_label("apparmor/", plan.apparmor.as_deref()).step("apply apparmor profile")?;
    set_label("", plan.selinux.as_deref()).step("apply SELinux label")?;
    schedule(plan)?;
    // As root first: Docker's users may start where only root may go.
    let entered = rustix::process::chdir(plan.cwd.as_str());
    become_user(plan, identity)?;
    enter_cwd(&plan.cwd, entered)?;
    let program = lookup::find(&plan.args[0], lookup::search_path(&env))?;
    if let Some(before) = before {
        wait_and_run_hooks(before, reporter)?;
    }
    // The filter may forbid to say so afterwards.
    reporter.send_executing().step("report")?;
    drop_powers(plan)?;
    let Err(e) = sys::execve(&program, &args, &c_env);
    // As under runc the container has started by now: the message is its output, and 255 its exit code.
    let message = format!("exec {}: {}\n", program.to_string_lossy(), errno_text(&e));
    let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
    sys::exit_now(255)
}

/// Once created, whoever starts the container is reported to.
fn wait_and_run_hooks(
    before: BeforeProgram<'_>,
    reporter: &mut Reporter,
) -> Result<(), LaunchError> {
    if let Some(start) = before.start {
        reporter.send_created().step("report")?;
        *reporter = waiting::wait_for_start(&start)?;
    }
    let list = &before.hooks.start_container;
    let status = hooks::Status::Created;
    hooks::run(
        "startContainer",
        list,
        &before.hooks.state,
        status,
        before.pid,
    )
}

/// Policy, I/O priority and execution domain, while still allowed.
fn schedule(plan: &ProcessPlan) -> Result<(), LaunchError> {
    let scheduling = &plan.scheduling;
    if let Some(s) = &scheduling.scheduler {
        let attributes = sys::SchedAttr {
            size: 0,
            policy: s.policy,
            flags: s.flags,
            nice: s.nice,
            priority: s.priority,
            runtime: s.runtime,
            deadline: s.deadline,
            period: s.period,
        };
        sys::set_scheduler(attributes).step("error setting scheduler")?;
    }
    if let Some(priority) = scheduling.io_priority {
        sys::set_io_priority(priority).step("failed to set I/O priority")?;
    }
    if let Some(personality) = scheduling.personality {
        sys::set_personality(personality).step("error setting personality")?;
    }
    if let Some(policy) = &scheduling.memory {
        sys::set_memory_policy(policy.mode, &policy.nodes).step("error setting memory policy")?;
    }
    Ok(())
}

/// Takes on the program's user and powers without becoming it (the `--init` reaper).
pub(super) fn become_like(plan: &ProcessPlan, identity: &Identity) -> Result<(), LaunchError> {
    become_user(plan, identity)?;
    drop_powers(plan)
}

/// Limits, groups, user, capabilities, in the order in which each is still allowed. Where the system call filter
/// needs `CAP_SYS_ADMIN` to be loaded, that stays permitted (not effective) until [`drop_powers`].
fn become_user(plan: &ProcessPlan, identity: &Identity) -> Result<(), LaunchError> {
    for limit in &plan.rlimits {
        let what = || format!("error setting rlimit type {}", limit.resource);
        sys::set_rlimit(limit.resource, limit.soft, limit.hard).step_with(what)?;
    }
    drop_bounding(plan.caps.bounding).step("drop bounding capabilities")?;
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    rustix::thread::set_keep_capabilities(true).step("keep capabilities")?;
    let groups: Vec<Gid> = identity.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_groups(&groups).step("setgroups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).step("setgid")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step("setuid")?;
    rustix::thread::set_keep_capabilities(false).step("keep capabilities")?;
    let caps = &plan.caps;
    let kept = if needs_admin(plan) {
        capability::SYS_ADMIN
    } else {
        0
    };
    sys::set_capabilities(caps.effective, caps.permitted | kept, caps.inheritable)
        .step("set capabilities")?;
    raise_ambient(caps).step("set ambient capabilities")
}

/// In a namespace that a user made for themselves nobody sets groups, and those of before stay (user_namespaces(7)).
fn set_groups(groups: &[Gid]) -> io::Result<()> {
    match rustix::thread::set_thread_groups(groups) {
        Err(Errno::PERM) if are_groups_denied() => Ok(()),
        set => Ok(set?),
    }
}

fn are_groups_denied() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// A filter without `no_new_privs` is a privilege.
fn needs_admin(plan: &ProcessPlan) -> bool {
    plan.seccomp.is_some() && !plan.no_new_privs
}

fn drop_bounding(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        if keep >> capability & 1 == 0 {
            match sys::drop_bounding(capability) {
                // Past the last one this kernel knows.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
                done => done?,
            }
        }
    }
    Ok(())
}

fn raise_ambient(caps: &CapSets) -> io::Result<()> {
    (0..64)
        .filter(|c| caps.ambient >> c & 1 == 1)
        .try_for_each(sys::raise_ambient)
}

/// The filter comes last: what it forbids we do not need any more, but `capset` and `execve`.
fn drop_powers(plan: &ProcessPlan) -> Result<(), LaunchError> {
    let caps = &plan.caps;
    if plan.no_new_privs {
        rustix::thread::set_no_new_privs(true).step("set no new privileges")?;
    }
    let Some(program) = &plan.seccomp else {
        return Ok(());
    };
    if !needs_admin(plan) {
        return load(program).step("error loading seccomp filter");
    }
    let admin = capability::SYS_ADMIN;
    sys::set_capabilities(
        caps.effective | admin,
        caps.permitted | admin,
        caps.inheritable,
    )
    .step("set capabilities")?;
    load(program).step("error loading seccomp filter")?;
    sys::set_capabilities(caps.effective, caps.permitted, caps.inheritable).step("set capabilities")
}

fn load(program: &SeccompProgram) -> io::Result<()> {
    let filter: Vec<SockFilter> = program
        .filter
        .iter()
        .map(|i| SockFilter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect();
    load_filter(&filter, program.flags)
}

/// Of `execve`, for AppArmor (`apparmor/`) or the security module of old (SELinux). Through the container's `/proc`,
/// checked to be one: a running container could have covered it.
fn set_label(module: &str, label: Option<&str>) -> io::Result<()> {
    let Some(label) = label else {
        return Ok(());
    };
    let open = |path: &str| rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let fd =
        open(&format!("/proc/self/attr/{module}exec")).or_else(|_| open("/proc/self/attr/exec"))?;
    if fstatfs(&fd)?.f_type != PROC_SUPER_MAGIC {
        return Err(io::Error::other("not a file of procfs"));
    }
    let text = match module {
        "" => label.to_string(),
        _ => format!("exec {label}"),
    };
    rustix::io::write(&fd, text.as_bytes())?;
    Ok(())
}

/// `entered` is how the attempt as root ended.
fn enter_cwd(cwd: &str, entered: rustix::io::Result<()>) -> Result<(), LaunchError> {
    match entered {
        Err(Errno::ACCESS) => rustix::process::chdir(cwd),
        done => done,
    }
    .step_with(|| format!("chdir to cwd ({cwd:?}) set in config.json failed"))?;
    // The kernel writes "(unreachable)" in front of a directory that is not below our root (CVE-2024-21626).
    let inside =
        rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.as_bytes().starts_with(b"/"));
    if inside {
        return Ok(());
    }
    Err(LaunchError::setup(
        "current working directory is outside of container mount namespace root -- possible container breakout detected",
    ))
}

/// The plan's, with `HOME` where it has none.
fn environment(plan: &ProcessPlan, identity: &Identity) -> Vec<String> {
    let mut env = plan.env.clone();
    if !env
        .iter()
        .any(|e| e.starts_with("HOME=") && e.len() > "HOME=".len())
    {
        env.retain(|e| !e.starts_with("HOME="));
        env.push(format!("HOME={}", identity.home));
    }
    env
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, LaunchError> {
    let converted: Result<Vec<CString>, _> =
        texts.iter().map(|t| CString::new(t.as_str())).collect();
    converted
        .map_err(|_| LaunchError::setup("argument or environment variable contains a NUL byte"))
}
