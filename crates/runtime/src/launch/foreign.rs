//! Containers of another OCI runtime: its program makes them and starts their processes, ours watch them.
//!
//! The monitor is the subreaper: what `create` and `exec --detach` leave behind become its children, with its pipes or terminal as their
//! streams. The root file system is mounted in the monitor's own mount namespace, so that the host's table does not grow here either.
//!
//! ```text
//! monitor                                   runtime program
//!   mount the root below the bundle, write config.json
//!   create --bundle … --pid-file … ───────▶  init waits
//!   start ────────────────────────────────▶  init executes the program
//!   … exec --process … --pid-file … ──────▶  a further process
//!   at the end: delete --force ───────────▶
//! ```

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io::IoSliceMut};

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use super::root::Root;
use super::rootfs::Place;
use super::{LaunchError, LaunchStdio, Launched, Step, rootfs, user};
use crate::plan::{CapSets, ContainerPlan, ExecPlan, ForeignPlan, ProcessPlan, capability};

const CONFIG: &str = "config.json";
const LOG: &str = "log.json";
const PID: &str = "pid";
const ROOTFS: &str = "rootfs";
const INIT: &str = "/sbin/docker-init";

/// What runc puts before the reason of a container that could not be set up; ours is added to it again.
const PREFIXES: [&str; 3] = [
    "runc create failed: ",
    "unable to start container process: ",
    "error during container init: ",
];

/// As [`super::launch`].
pub(super) fn launch(
    foreign: &ForeignPlan,
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<&OwnedFd>,
) -> Result<Launched, LaunchError> {
    let launched = create_and_start(foreign, plan, stdio, netns);
    if launched.is_err() {
        delete(foreign);
    }
    launched
}

fn create_and_start(
    foreign: &ForeignPlan,
    plan: &ContainerPlan,
    stdio: LaunchStdio,
    netns: Option<&OwnedFd>,
) -> Result<Launched, LaunchError> {
    if foreign.root.join(&foreign.id).exists() {
        // Of a run whose monitor was killed.
        let _ = call(foreign, &["delete", "--force", &foreign.id], None);
    }
    let root = mount_root(foreign, plan)?;
    write_config(foreign, plan, &root, netns)?;
    let pid_file = foreign.bundle.join(PID);
    let bundle = foreign.bundle.display().to_string();
    let pid_path = pid_file.display().to_string();
    let args = ["create", "--bundle", &bundle, "--pid-file", &pid_path];
    let console = run(foreign, &args, &foreign.id, stdio)?;
    let launched = started(&pid_file, console)?;
    call(foreign, &["start", &foreign.id], None)?;
    Ok(launched)
}

/// As [`super::launch_exec`].
pub(super) fn launch_exec(
    foreign: &ForeignPlan,
    plan: &ExecPlan,
    stdio: LaunchStdio,
) -> Result<Launched, LaunchError> {
    let name = format!("exec-{}", crate::monitor::now());
    let process_file = foreign.bundle.join(&name);
    let pid_file = foreign.bundle.join(format!("{name}.pid"));
    let root = open_root(foreign)?;
    let config =
        fs::read(foreign.bundle.join(CONFIG)).step("read the container's configuration")?;
    let config: Value =
        serde_json::from_slice(&config).step("understand the container's configuration")?;
    let terminal = matches!(stdio, LaunchStdio::Tty { .. });
    let mut process = process(&config["process"], &plan.process, &root)?;
    process["terminal"] = json!(terminal);
    fs::write(&process_file, process.to_string()).step("write the process")?;
    let (process_path, pid_path) = (
        process_file.display().to_string(),
        pid_file.display().to_string(),
    );
    let args = [
        "exec",
        "--detach",
        "--process",
        &process_path,
        "--pid-file",
        &pid_path,
    ];
    let launched =
        run(foreign, &args, &foreign.id, stdio).and_then(|console| started(&pid_file, console));
    let _ = (fs::remove_file(&process_file), fs::remove_file(&pid_file));
    launched
}

/// Removes what the runtime keeps of a container, and its root. Whatever fails is found again by the next start.
pub fn delete(foreign: &ForeignPlan) {
    let _ = call(foreign, &["delete", "--force", &foreign.id], None);
    if unmount(foreign.bundle.join(ROOTFS), UnmountFlags::DETACH).is_ok() {
        let _ = fs::remove_dir_all(&foreign.bundle);
    }
}

fn mount_root(foreign: &ForeignPlan, plan: &ContainerPlan) -> Result<Root, LaunchError> {
    let target = foreign.bundle.join(ROOTFS);
    fs::create_dir_all(&target).step("make the bundle")?;
    // Its replacement is `unsafe`, for flags that take descriptors from other threads; mounts are not among them.
    #[allow(deprecated)]
    rustix::thread::unshare(UnshareFlags::NEWNS).step("unshare mounts")?;
    // The host's mounts still arrive, ours do not leave.
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).step("isolate mounts")?;
    let place = Place::OverItself(target);
    if plan.rootfs_mappings.is_empty() {
        rootfs::mount(&plan.rootfs, plan.layers_one_by_one, &place)?;
    } else {
        let root = rootfs::detached(&plan.rootfs, &plan.rootfs_mappings);
        rootfs::attach_root(root.step("error mounting the root file system")?, &place)?;
    }
    rustix::process::chdir("/").step("chdir /")?;
    open_root(foreign)
}

fn open_root(foreign: &ForeignPlan) -> Result<Root, LaunchError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(foreign.bundle.join(ROOTFS), flags, Mode::empty());
    Ok(Root::new(root.step("open the root")?))
}

fn write_config(
    foreign: &ForeignPlan,
    plan: &ContainerPlan,
    root: &Root,
    netns: Option<&OwnedFd>,
) -> Result<(), LaunchError> {
    let mut config: Value =
        serde_json::from_str(&foreign.config).step("understand the container's configuration")?;
    config["root"]["path"] = json!(foreign.bundle.join(ROOTFS));
    config["process"] = process(&config["process"], &plan.process, root)?;
    if let Some(binary) = &foreign.init {
        put_init_before(&mut config, binary);
    }
    if let Some(netns) = netns {
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        for namespace in namespaces.into_iter().flatten() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(path);
            }
        }
    }
    fs::write(foreign.bundle.join(CONFIG), config.to_string()).step("write config.json")
}

/// Read-only, so that nobody inside can change the host's binary.
fn put_init_before(config: &mut Value, binary: &Path) {
    let mount =
        json!({"destination": INIT, "type": "bind", "source": binary, "options": ["bind", "ro"]});
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(mount);
    }
    if let Some(args) = config["process"]["args"].as_array_mut() {
        args.splice(0..0, [json!(INIT), json!("--")]);
    }
}

/// The process of the spec with what the plan says: users are numbers by now.
fn process(base: &Value, plan: &ProcessPlan, root: &Root) -> Result<Value, LaunchError> {
    let identity = user::resolve_in(&plan.user, |path| {
        root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    })?;
    let mut env = plan.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    let mut process = base.clone();
    process["args"] = json!(plan.args);
    process["env"] = json!(env);
    process["cwd"] = json!(plan.cwd);
    process["user"] = json!({"uid": identity.uid, "gid": identity.gid, "umask": plan.umask, "additionalGids": identity.groups});
    process["capabilities"] = capabilities(&plan.caps, identity.uid == 0);
    if plan.apparmor.is_none()
        && let Some(process) = process.as_object_mut()
    {
        process.remove("apparmorProfile");
    }
    Ok(process)
}

/// Like Docker: who is not root has them in reach only.
fn capabilities(caps: &CapSets, is_root: bool) -> Value {
    let names = |mask: u64| -> Vec<String> {
        let numbered = capability::NAMES.iter().enumerate();
        numbered
            .filter(|(number, _)| mask >> number & 1 == 1)
            .map(|(_, name)| format!("CAP_{name}"))
            .collect()
    };
    let own = |mask: u64| names(if is_root { mask } else { 0 });
    json!({
        "bounding": names(caps.bounding),
        "permitted": own(caps.permitted),
        "effective": own(caps.effective),
        "inheritable": names(caps.inheritable),
        "ambient": names(caps.ambient),
    })
}

/// Runs a command that leaves a process behind, with the streams given. Gives the terminal's master side.
fn run(
    foreign: &ForeignPlan,
    args: &[&str],
    id: &str,
    stdio: LaunchStdio,
) -> Result<Option<OwnedFd>, LaunchError> {
    match stdio {
        LaunchStdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            let args = [args, &[id]].concat();
            call(foreign, &args, Some([stdin, stdout, stderr]))?;
            Ok(None)
        }
        LaunchStdio::Tty { rows, cols } => {
            let console = ConsoleSocket::new(&foreign.bundle).step("listen for the terminal")?;
            let args = [args, &["--console-socket", &console.path, id]].concat();
            call(foreign, &args, None)?;
            let master = console.receive().step("receive the terminal")?;
            let size = Winsize {
                ws_row: rows,
                ws_col: cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            if (rows, cols) != (0, 0) {
                tcsetwinsize(&master, size).step("set terminal size")?;
            }
            Ok(Some(master))
        }
    }
}

fn started(pid_file: &Path, console: Option<OwnedFd>) -> Result<Launched, LaunchError> {
    let text = fs::read_to_string(pid_file).step("read the runtime's pid file")?;
    let pid = text.trim().parse::<i32>().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| LaunchError::setup(format!("not a pid: {text:?}")))?;
    Ok(Launched {
        pid: pid.as_raw_nonzero().get(),
        pidfd: pidfd_open(pid, PidfdFlags::empty()).step("pidfd_open")?,
        console,
    })
}

/// Runs the runtime's program to its end. Its complaint is what it logged last.
fn call(
    foreign: &ForeignPlan,
    args: &[&str],
    streams: Option<[OwnedFd; 3]>,
) -> Result<(), LaunchError> {
    let log = foreign.bundle.join(LOG);
    let _ = fs::remove_file(&log);
    let mut command = Command::new(&foreign.program);
    command.args(&foreign.args);
    command.arg("--root").arg(&foreign.root);
    command
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json"]);
    command.args(args).current_dir("/");
    match streams {
        Some([stdin, stdout, stderr]) => {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        None => {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        }
    }
    let status = command.status().map_err(|error| {
        LaunchError::setup(format!(
            "unable to retrieve OCI runtime error: fork/exec {}: {}",
            foreign.program.display(),
            super::errno_text(&error)
        ))
    })?;
    if status.success() {
        return Ok(());
    }
    let told = fs::read_to_string(&log).unwrap_or_default();
    let reason = last_error(&told).unwrap_or_else(|| {
        format!(
            "{} did not complete successfully: {status}",
            foreign.program.display()
        )
    });
    Err(LaunchError::setup(reason))
}

/// The last error of a log in JSON lines, without what is put before it again.
fn last_error(log: &str) -> Option<String> {
    let mut errors = log.lines().rev().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_error = line["level"] == "error" || line["level"] == "fatal";
        is_error.then(|| line["msg"].as_str().unwrap_or_default().to_owned())
    });
    let mut text = errors.next()?;
    for prefix in PREFIXES {
        text = text.strip_prefix(prefix).unwrap_or(&text).to_owned();
    }
    Some(text)
}

/// Where a runtime sends the master side of the terminal it made.
struct ConsoleSocket {
    listener: UnixListener,
    file: PathBuf,
    path: String,
    _directory: OwnedFd,
}

impl ConsoleSocket {
    /// Named through a descriptor of ours: the path of a bundle may be longer than an address takes.
    fn new(bundle: &Path) -> io::Result<ConsoleSocket> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, bundle, flags, Mode::empty())?;
        let file = bundle.join("tty");
        let _ = fs::remove_file(&file);
        let path = format!(
            "/proc/{}/fd/{}/tty",
            std::process::id(),
            directory.as_raw_fd()
        );
        Ok(ConsoleSocket {
            listener: UnixListener::bind(&path)?,
            file,
            path,
            _directory: directory,
        })
    }

    fn receive(&self) -> io::Result<OwnedFd> {
        // The runtime has ended: what it sent is there, or never will be.
        self.listener.set_nonblocking(true)?;
        let (connection, _) = self.listener.accept()?;
        connection.set_nonblocking(true)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut name)];
        recvmsg(
            &connection,
            &mut parts,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        descriptor.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_the_reason() {
        let log = concat!(
            "{\"level\":\"warning\",\"msg\":\"odd\"}\n",
            "{\"level\":\"error\",\"msg\":\"runc create failed: unable to start container process: exec: \\\"x\\\": not found\"}\n",
        );
        assert_eq!(last_error(log).as_deref(), Some("exec: \"x\": not found"));
        assert_eq!(last_error("no json"), None);
    }

    #[test]
    fn capabilities_have_names() {
        let caps = CapSets {
            bounding: 3,
            permitted: 1,
            effective: 1,
            ..CapSets::default()
        };
        let sets = capabilities(&caps, true);
        assert_eq!(sets["bounding"], json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE"]));
        assert_eq!(sets["effective"], json!(["CAP_CHOWN"]));
        assert_eq!(capabilities(&caps, false)["effective"], json!([]));
    }
}
