//! `NOTIFY_SOCKET`: a service manager that wants to know when the container's program is ready, sd_notify(3).
//!
//! The manager's socket is of the host; the container gets one of its own, and what it says there is passed on.

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use wharf_spec::runtime::{Mount, Spec};

use crate::failure::{Context, Failure};

const DIR: &str = "notify";
const SOCKET: &str = "notify.sock";
const INSIDE: &str = "/run/notify";

/// The manager's socket, if there is a manager.
pub fn wanted() -> Option<PathBuf> {
    env::var_os("NOTIFY_SOCKET")
        .filter(|s| !s.is_empty())
        .map(PathBuf::from)
}

/// The container's mount and variable for a socket below its state directory.
pub fn prepare(spec: &mut Spec, state_dir: &Path) -> Result<Mount, Failure> {
    let dir = state_dir.join(DIR);
    std::fs::create_dir(&dir).context(|| format!("mkdir {}", dir.display()))?;
    bind(state_dir).context(|| "listen for the container's readiness".into())?;
    if let Some(mut process) = spec.process().clone() {
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|e| !e.starts_with("NOTIFY_SOCKET="));
        env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
        process.set_env(Some(env));
        spec.set_process(Some(process));
    }
    let mut mount = Mount::default();
    mount.set_destination(INSIDE.into());
    mount.set_typ(Some("bind".into()));
    mount.set_source(Some(dir));
    mount.set_options(Some(vec![
        "bind".into(),
        "nosuid".into(),
        "noexec".into(),
        "nodev".into(),
        "ro".into(),
    ]));
    Ok(mount)
}

/// `create` ends before anything is said, so `start` makes the socket anew.
fn bind(state_dir: &Path) -> io::Result<UnixDatagram> {
    use std::os::unix::fs::PermissionsExt;
    let dir = rustix::fs::open(
        state_dir.join(DIR),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let path = PathBuf::from(format!(
        "/proc/self/fd/{}/{SOCKET}",
        std::os::fd::AsRawFd::as_raw_fd(&dir)
    ));
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket = UnixDatagram::bind(&path)?;
    // The container's program may be anybody.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
    Ok(socket)
}

/// What the container says goes to this socket.
pub fn listen(state_dir: &Path) -> Result<Option<UnixDatagram>, Failure> {
    if wanted().is_none() || !state_dir.join(DIR).is_dir() {
        return Ok(None);
    }
    let socket = bind(state_dir).context(|| "listen for the container's readiness".into())?;
    Ok(Some(socket))
}

/// Waits until the container is ready (or gone: `is_alive` is asked now and then) and tells the manager.
pub fn pass_on(
    socket: &UnixDatagram,
    pid: i32,
    is_alive: impl Fn() -> bool,
) -> Result<(), Failure> {
    let Some(manager) = wanted() else {
        return Ok(());
    };
    let what = || format!("notify {}", manager.display());
    while is_alive() {
        let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        let timeout =
            rustix::event::Timespec::try_from(Duration::from_millis(100)).context(what)?;
        if !poll(&mut fds, Some(&timeout)).is_ok_and(|n| n > 0) {
            continue;
        }
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).context(what)?;
        let ready = String::from_utf8_lossy(&message[..length])
            .lines()
            .any(|line| line == "READY=1");
        if ready {
            return send(&manager, &format!("MAINPID={pid}\nREADY=1\n")).context(what);
        }
    }
    Ok(())
}

/// `@name` is a socket without a file, unix(7).
fn send(manager: &Path, text: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = match manager.as_os_str().as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(manager)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}
