//! `delete`

use std::fs;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wharf_runtime::launch::{hooks, leave_no_mounts};

use wharf_runtime::systemd;

use super::{Context, Done};
use crate::container::{Container, Status, check_id};
use crate::failure::{Context as _, Failure};
use crate::options::{Flag, Parsed, switch};

/// runc's.
pub const FLAGS: &[Flag] =
    &[switch("force", "kill it first, and do not mind if there is none").short('f')];

/// How long a killed process may take to be gone.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

/// Removes containers.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let force = parsed.on("force");
    if parsed.args.is_empty() {
        parsed.id("delete")?;
    }
    for id in &parsed.args {
        delete(context, id, force)?;
    }
    Ok(0)
}

fn delete(context: &Context, id: &str, force: bool) -> Result<(), Failure> {
    let container = match Container::load(&context.root, id) {
        Ok(container) => container,
        Err(_) if force => return forget_half_made(context, id),
        Err(error) => return Err(error),
    };
    match container.status() {
        Status::Stopped => {}
        Status::Created => end(&container)?,
        Status::Running | Status::Paused if force => end(&container)?,
        status => {
            return Err(Failure::new(format!(
                "cannot delete container {id} that is not stopped: {}",
                status.text()
            )));
        }
    }
    remove(context, &container)
}

/// A creation that was killed leaves a directory and no record.
fn forget_half_made(context: &Context, id: &str) -> Result<(), Failure> {
    check_id(id)?;
    match fs::remove_dir_all(context.root.join(id)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(|| format!("remove the state of {id}"))
        }
        _ => Ok(()),
    }
}

/// Kills a container and waits until its init is gone.
fn end(container: &Container) -> Result<(), Failure> {
    let pid = container.record.pid;
    let pidfd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let _ = wharf_sys::process::kill(pid, libc::SIGKILL);
    let _ = container.record.cgroup.thaw();
    let Some(pidfd) = pidfd else { return Ok(()) };
    let deadline = Instant::now() + GONE_DEADLINE;
    while container.status() != Status::Stopped {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context(|| "deadline".into())?;
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        if matches!(poll(&mut fds, Some(&timeout)), Ok(0)) {
            return Err(Failure::new("container init still running"));
        }
    }
    Ok(())
}

/// What is left of a container whose init is gone: other processes, the group, the record.
pub fn remove(context: &Context, container: &Container) -> Result<(), Failure> {
    let group = &container.record.cgroup;
    // Without a pid namespace they outlive init.
    let _ = group.kill_all();
    group.remove()?;
    let plan = container.plan();
    if let Ok(plan) = &plan
        && let Some(scope) = &plan.cgroup.scope
        && let Err(error) = systemd::stop(scope)
    {
        context.log.warn(&error.to_string());
    }
    if let Ok(plan) = &plan {
        leave_no_mounts(plan)?;
        if let Some(class) = &plan.resctrl
            && let Err(error) = class.remove()
        {
            context.log.warn(&error.to_string());
        }
    }
    container.forget()?;
    if let Ok(plan) = plan {
        let (list, state) = (&plan.hooks.poststop, &plan.hooks.state);
        for error in hooks::run_all("poststop", list, state, hooks::Status::Stopped, 0) {
            context.log.warn(&error.message);
        }
    }
    Ok(())
}
