//! `exec`

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wharf_runtime::cgroup::CgroupPath;
use wharf_runtime::host::HostFacts;
use wharf_runtime::launch::launch_exec;
use wharf_runtime::plan::plan_exec_oci;
use wharf_spec::runtime::{Capability, Process, Spec};

use super::{Context, Done, create};
use crate::console;
use crate::container::{Container, Status};
use crate::create::{connect_console, stdio, terminal_size, write_pid};
use crate::failure::{Context as _, Failure};
use crate::foreground::{self, Signals};
use crate::options::{Flag, Parsed, switch, valued};

/// runc's.
pub const FLAGS: &[Flag] = &[
    valued(
        "console-socket",
        "SOCKET",
        "unix socket that takes the terminal",
    ),
    valued("cwd", "DIR", "working directory"),
    valued("env", "KEY=VALUE", "add to the environment").short('e'),
    switch("tty", "with a terminal").short('t'),
    valued("user", "UID[:GID]", "user and group, by number").short('u'),
    valued("additional-gids", "GID", "further group").short('g'),
    valued("process", "FILE", "all of it, as in config.json").short('p'),
    switch("detach", "do not wait for its end").short('d'),
    valued("pid-file", "FILE", "write its pid there"),
    valued("process-label", "LABEL", "SELinux label"),
    valued("apparmor", "PROFILE", "AppArmor profile"),
    switch("no-new-privs", "no new privileges by execve"),
    valued("cap", "CAPABILITY", "add a capability").short('c'),
    valued("preserve-fds", "N", "pass N descriptors from 3 on"),
    valued("cgroup", "PATH", "control group below the container's"),
    switch("ignore-paused", "also in a paused container"),
    valued("no-subreaper", "BOOL", "accepted for compatibility"),
    valued("pidfd-socket", "SOCKET", "accepted for compatibility"),
];

/// Failures of our own end so, to be told from the program's.
const FAILED: u8 = 255;

/// Runs a further program.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    start(context, parsed).map_err(|failure| Failure {
        code: FAILED,
        ..failure
    })
}

fn start(context: &Context, parsed: &Parsed) -> Done {
    let Some((id, args)) = parsed.args.split_first() else {
        return Err(Failure::usage(
            "exec: at least 1 argument required, the container's ID",
        ));
    };
    let container = Container::load(&context.root, id)?;
    match container.status() {
        Status::Stopped => {
            return Err(Failure::new("cannot exec in a stopped container"));
        }
        Status::Paused if !parsed.on("ignore-paused") => {
            return Err(Failure::new(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        _ => {}
    }
    let process = process(parsed, args, &container.record.bundle)?;
    let plan = container.plan()?;
    let host = HostFacts::probe().context(|| "read the host's facts".into())?;
    let mut exec = plan_exec_oci(&plan, &process, create::preserve_fds(parsed)?, &host)?;
    if let Some(below) = parsed.text("cgroup") {
        exec.cgroup = nested(&exec.cgroup, below)?;
    }
    let init =
        Pid::from_raw(container.record.pid).ok_or_else(|| Failure::new("container not running"))?;
    let init =
        pidfd_open(init, PidfdFlags::empty()).map_err(|_| Failure::new("container not running"))?;
    let terminal = terminal_size(&process);
    let detach = parsed.on("detach");
    let socket = console_socket(parsed, terminal.is_some(), detach)?;
    let signals = if detach {
        None
    } else {
        Some(Signals::watch()?)
    };
    let stdio = stdio(terminal).context(|| "standard streams".into())?;
    let mut launched = launch_exec(&exec, &init, stdio).map_err(|e| {
        Failure::new(format!(
            "exec failed: unable to start container process: {e}"
        ))
    })?;
    let mut master = launched.console.take();
    if let (Some(socket), Some(fd)) = (&socket, &master) {
        console::send(socket, fd).context(|| "send the terminal".into())?;
        master = None;
    }
    if let Some(file) = parsed.text("pid-file").filter(|f| !f.is_empty()) {
        write_pid(Path::new(file), launched.pid)?;
    }
    match signals {
        None => Ok(0),
        Some(signals) => foreground::stay(&signals, launched.pid, &launched.pidfd, master),
    }
}

fn console_socket(
    parsed: &Parsed,
    terminal: bool,
    detach: bool,
) -> Result<Option<std::os::fd::OwnedFd>, Failure> {
    let path = parsed.text("console-socket").filter(|p| !p.is_empty());
    match (path, terminal) {
        (Some(_), false) => Err(Failure::usage(
            "cannot use console socket if the process has no terminal",
        )),
        (None, true) if detach => Err(Failure::usage(
            "cannot allocate tty if the runtime will detach without setting console socket",
        )),
        (path, _) => path.map(|p| connect_console(Path::new(p))).transpose(),
    }
}

/// From a file, or the container's own with other arguments.
fn process(parsed: &Parsed, args: &[String], bundle: &Path) -> Result<Process, Failure> {
    if let Some(file) = parsed.text("process") {
        let what = || format!("read {file}");
        let text = fs::read_to_string(file).context(what)?;
        return serde_json::from_str(&text).context(what);
    }
    if args.is_empty() {
        return Err(Failure::usage("process args cannot be empty"));
    }
    let file = bundle.join("config.json");
    let what = || format!("read {}", file.display());
    let text = fs::read_to_string(&file).context(what)?;
    let spec: Spec = serde_json::from_str(&text).context(what)?;
    let mut process = spec
        .process()
        .clone()
        .ok_or_else(|| Failure::new("the container's config.json has no process"))?;
    process.set_args(Some(args.to_vec()));
    process.set_terminal(Some(parsed.on("tty")));
    override_with(&mut process, parsed)?;
    Ok(process)
}

fn override_with(process: &mut Process, parsed: &Parsed) -> Result<(), Failure> {
    if let Some(cwd) = parsed.text("cwd") {
        process.set_cwd(PathBuf::from(cwd));
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(parsed.list("env").map(String::from));
    process.set_env(Some(env));
    if let Some(label) = parsed.text("process-label") {
        process.set_selinux_label(Some(label.into()));
    }
    if let Some(profile) = parsed.text("apparmor") {
        process.set_apparmor_profile(Some(profile.into()));
    }
    if parsed.text("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(parsed.on("no-new-privs")));
    }
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| Failure::usage(format!("{text:?} is not a number of a user or group")))
    };
    let mut user = process.user().clone();
    if let Some(text) = parsed.text("user") {
        let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
        user.set_uid(number(uid)?);
        if !gid.is_empty() {
            user.set_gid(number(gid)?);
        }
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for gid in parsed.list("additional-gids") {
        groups.push(number(gid)?);
    }
    user.set_additional_gids(Some(groups));
    process.set_user(user);
    add_capabilities(process, parsed)
}

fn add_capabilities(process: &mut Process, parsed: &Parsed) -> Result<(), Failure> {
    let mut caps = process.capabilities().clone().unwrap_or_default();
    let mut any = false;
    for name in parsed.list("cap") {
        any = true;
        let capability: Capability = serde_json::from_value(name.into())
            .map_err(|_| Failure::usage(format!("unknown capability {name:?}")))?;
        let with = |set: &Option<std::collections::HashSet<Capability>>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        caps.set_bounding(with(caps.bounding()));
        caps.set_effective(with(caps.effective()));
        caps.set_permitted(with(caps.permitted()));
    }
    if any {
        process.set_capabilities(Some(caps));
    }
    Ok(())
}

/// `PATH`, or for v1 `CONTROLLER[,CONTROLLER...]:PATH`.
fn nested(group: &CgroupPath, below: &str) -> Result<CgroupPath, Failure> {
    let (controllers, path) = match below.split_once(':') {
        Some((controllers, path)) => (Some(controllers), path),
        None => (None, below),
    };
    let path = path.trim_start_matches('/');
    if path.split('/').any(|part| part == "..") {
        return Err(Failure::usage(format!("bad sub cgroup path: {below}")));
    }
    Ok(match group {
        CgroupPath::V2(dir) => CgroupPath::V2(dir.join(path)),
        CgroupPath::V1(dirs) => {
            let wanted = |names: &[String]| {
                controllers.is_none_or(|c| c.split(',').any(|c| names.iter().any(|n| n == c)))
            };
            let mut dirs = dirs.clone();
            for dir in dirs.iter_mut().filter(|d| wanted(&d.controllers)) {
                dir.dir = dir.dir.join(path);
            }
            CgroupPath::V1(dirs)
        }
    })
}
