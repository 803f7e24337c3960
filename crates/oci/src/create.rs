//! From a bundle to a container whose init waits to be started.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use wharf_runtime::cgroup::CgroupPath;
use wharf_runtime::host::HostFacts;
use wharf_runtime::launch::{self, LaunchStdio, Launched, hooks};
use wharf_runtime::plan::ContainerPlan;

use crate::bundle::{Bundle, Wishes};
use crate::console;
use crate::container::{self, Container, Record};
use crate::failure::{Context, Failure, Log};
use crate::notify;

/// What to create.
#[derive(Debug)]
pub struct Request<'a> {
    /// `--root`.
    pub root: &'a Path,
    /// The new container's id.
    pub id: &'a str,
    /// `--bundle`.
    pub bundle: &'a Path,
    /// Of the command line.
    pub wishes: Wishes,
    /// `--console-socket`.
    pub console_socket: Option<PathBuf>,
    /// `--pid-file`.
    pub pid_file: Option<PathBuf>,
    /// Where complaints go that stop nothing.
    pub log: &'a Log,
    /// The caller stays and takes care of the terminal itself.
    pub keeps_terminal: bool,
}

/// A created container.
#[derive(Debug)]
pub struct Created {
    /// Its directory and record.
    pub container: Container,
    /// How it was made.
    pub plan: ContainerPlan,
    /// Master side of its terminal, for who keeps it.
    pub terminal: Option<OwnedFd>,
    /// Its init.
    pub pidfd: OwnedFd,
}

/// Creates a container. On failure nothing of it is left.
pub fn create(request: &Request<'_>) -> Result<Created, Failure> {
    let mut bundle = Bundle::load(request.bundle)?;
    for name in &bundle.unknown_capabilities {
        request
            .log
            .warn(&format!("ignoring unknown capability {name}"));
    }
    let terminal = check_terminal(&bundle, request)?;
    let host = HostFacts::probe().context(|| "read the host's facts".into())?;
    let dir = container::make_dir(request.root, request.id)?;
    let created = create_in(&dir, &mut bundle, terminal, &host, request);
    if created.is_err() {
        // The first failure is the one to report.
        let _ = fs::remove_dir_all(&dir);
    }
    created
}

/// Terminal's size, and the socket that takes it.
#[derive(Debug, Default)]
struct Terminal {
    size: Option<(u16, u16)>,
    socket: Option<OwnedFd>,
}

fn check_terminal(bundle: &Bundle, request: &Request<'_>) -> Result<Terminal, Failure> {
    let process = bundle.spec.process().as_ref();
    let size = process.and_then(terminal_size);
    match (size, &request.console_socket) {
        (None, Some(_)) => Err(Failure::new(
            "cannot use console socket if the container has no terminal",
        )),
        (Some(_), None) if !request.keeps_terminal => Err(Failure::new(
            "cannot allocate tty if the runtime will detach without setting console socket",
        )),
        (size, path) => Ok(Terminal {
            size,
            socket: path.as_deref().map(connect_console).transpose()?,
        }),
    }
}

/// Of a process that wants a terminal: its rows and columns, 0 when nobody says.
pub fn terminal_size(process: &wharf_spec::runtime::Process) -> Option<(u16, u16)> {
    if process.terminal() != Some(true) {
        return None;
    }
    let number = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = process.console_size();
    Some(size.map_or((0, 0), |s| (number(s.height()), number(s.width()))))
}

/// Early, so that a caller's mistake costs nothing.
pub fn connect_console(path: &Path) -> Result<OwnedFd, Failure> {
    console::connect_to(path).context(|| format!("console socket {}", path.display()))
}

fn create_in(
    dir: &Path,
    bundle: &mut Bundle,
    terminal: Terminal,
    host: &HostFacts,
    request: &Request<'_>,
) -> Result<Created, Failure> {
    if notify::wanted().is_some() {
        let mount = notify::prepare(&mut bundle.spec, dir)?;
        bundle.add_mount(mount);
    }
    let plan = bundle.plan(request.id, &request.wishes, host)?;
    let listener =
        container::listen_for_start(dir).context(|| format!("listen in {}", dir.display()))?;
    let stdio = stdio(terminal.size).context(|| "standard streams".into())?;
    let launched = launch::create(&plan, stdio, listener).map_err(|e| {
        Failure::new(format!(
            "runtime create failed: unable to start container process: {e}"
        ))
    })?;
    let (pid, group) = (launched.pid, plan.cgroup.path.clone());
    finish(dir, bundle, plan, terminal, launched, request).inspect_err(|_| undo(pid, &group))
}

/// The streams a program gets: a terminal, or ours.
pub fn stdio(terminal: Option<(u16, u16)>) -> io::Result<LaunchStdio> {
    if let Some((rows, cols)) = terminal {
        return Ok(LaunchStdio::Tty { rows, cols });
    }
    let inherit = |fd: std::os::fd::BorrowedFd<'_>, write: bool| -> io::Result<OwnedFd> {
        match fd.try_clone_to_owned() {
            Ok(fd) => Ok(fd),
            // Ours is closed.
            Err(_) => Ok(File::options()
                .read(!write)
                .write(write)
                .open("/dev/null")?
                .into()),
        }
    };
    Ok(LaunchStdio::Pipes {
        stdin: inherit(io::stdin().as_fd(), false)?,
        stdout: inherit(io::stdout().as_fd(), true)?,
        stderr: inherit(io::stderr().as_fd(), true)?,
    })
}

fn finish(
    dir: &Path,
    bundle: &Bundle,
    plan: ContainerPlan,
    terminal: Terminal,
    mut launched: Launched,
    request: &Request<'_>,
) -> Result<Created, Failure> {
    let container = Container {
        dir: dir.to_path_buf(),
        record: Record {
            id: request.id.into(),
            oci_version: bundle.spec.version().clone(),
            bundle: bundle.dir.clone(),
            rootfs: bundle.rootfs.clone(),
            annotations: bundle.annotations(),
            pid: launched.pid,
            start_time: container::start_time(launched.pid)
                .ok_or_else(|| Failure::new("container init exited prematurely"))?,
            created: jiff::Timestamp::now().to_string(),
            owner: rustix::process::geteuid().as_raw(),
            cgroup: plan.cgroup.path.clone(),
        },
    };
    container.save(&plan)?;
    let mut master = launched.console.take();
    if let (Some(socket), Some(fd)) = (&terminal.socket, &master) {
        console::send(socket, fd).context(|| "send the terminal".into())?;
        master = None;
    }
    if let Some(file) = &request.pid_file {
        write_pid(file, launched.pid)?;
    }
    Ok(Created {
        container,
        plan,
        terminal: master,
        pidfd: launched.pidfd,
    })
}

/// Whole or not at all: somebody waits for the file.
pub fn write_pid(file: &Path, pid: i32) -> Result<(), Failure> {
    let what = || format!("write {}", file.display());
    let name = file
        .file_name()
        .ok_or_else(|| Failure::new(format!("{}: not a file name", what())))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let new = file.with_file_name(hidden);
    fs::write(&new, pid.to_string()).context(what)?;
    fs::rename(&new, file).context(what)
}

fn undo(pid: i32, group: &CgroupPath) {
    let _ = wharf_sys::process::kill(pid, libc::SIGKILL);
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    let _ = group.remove();
}

/// Starts a created container and runs the hooks that follow. Their complaints are returned: it runs all the same.
pub fn start(container: &Container, plan: &ContainerPlan) -> Result<Vec<String>, Failure> {
    let connection = container
        .knock()
        .map_err(|e| Failure::new(format!("cannot start a container that does not wait: {e}")))?;
    launch::start(connection).map_err(|e| {
        Failure::new(format!(
            "runtime start failed: unable to start container process: {e}"
        ))
    })?;
    container
        .started()
        .context(|| "note the container's start".into())?;
    let (list, state) = (&plan.hooks.poststart, &plan.hooks.state);
    let status = hooks::Status::Running;
    let failed = hooks::run_all("poststart", list, state, status, container.record.pid);
    Ok(failed.into_iter().map(|e| e.message).collect())
}
