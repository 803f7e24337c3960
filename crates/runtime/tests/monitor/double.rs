//! Starts plain programs in place of containers, when a plan names no control group.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use wharf_runtime::cgroup::CgroupPath;
use wharf_runtime::launch::{ExecLaunch, LaunchError, LaunchErrorKind, LaunchStdio, Launched};
use wharf_runtime::monitor::Launcher;
use wharf_runtime::plan::{ContainerPlan, ExecPlan};

pub const LAUNCHER: Launcher = Launcher { launch, begin_exec };

fn launch(
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<OwnedFd>,
) -> Result<Launched, LaunchError> {
    if plan.cgroup.path != CgroupPath::V1(vec![]) {
        return wharf_runtime::launch::launch(plan, stdio, netns);
    }
    start(&plan.process.args, &plan.process.env, stdio)
}

fn begin_exec(
    plan: &ExecPlan,
    init: &OwnedFd,
    stdio: LaunchStdio,
) -> Result<ExecLaunch, LaunchError> {
    if plan.cgroup != CgroupPath::V1(vec![]) {
        return wharf_runtime::launch::begin_exec(plan, init, stdio);
    }
    start(&plan.process.args, &plan.process.env, stdio).map(ExecLaunch::Done)
}

fn start(args: &[String], env: &[String], stdio: LaunchStdio) -> Result<Launched, LaunchError> {
    let fail = |error: std::io::Error| LaunchError {
        kind: LaunchErrorKind::NotFound,
        message: format!("exec: \"{}\": {error}", args[0]),
    };
    let mut console = None;
    let mut command = Command::new(&args[0]);
    match stdio {
        LaunchStdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            command
                .args(&args[1..])
                .stdin(stdin)
                .stdout(stdout)
                .stderr(stderr);
        }
        LaunchStdio::Tty { .. } => {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .map_err(|e| fail(e.into()))?;
            grantpt(&master)
                .and_then(|()| unlockpt(&master))
                .map_err(|e| fail(e.into()))?;
            let peer = || -> Result<Stdio, LaunchError> {
                let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
                Ok(ioctl_tiocgptpeer(&master, flags)
                    .map_err(|e| fail(e.into()))?
                    .into())
            };
            command
                .args(&args[1..])
                .stdin(peer()?)
                .stdout(peer()?)
                .stderr(peer()?);
            console = Some(master);
        }
    }
    command
        .env_clear()
        .envs(env.iter().filter_map(|pair| pair.split_once('=')));
    let child = command.spawn().map_err(fail)?;
    let pid = i32::try_from(child.id()).expect("a pid");
    let pidfd = pidfd_open(Pid::from_raw(pid).expect("not 0"), PidfdFlags::empty())
        .map_err(|e| fail(e.into()))?;
    Ok(Launched {
        pid,
        pidfd,
        console,
    })
}
