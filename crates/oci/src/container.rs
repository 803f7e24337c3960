//! A container between two commands: a directory below `--root` with what later commands must know.
//!
//! `state.json` says what it is, `plan` (postcard) how it was made, and `start.sock` is there until it is started.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use serde::{Deserialize, Serialize};
use wharf_runtime::cgroup::CgroupPath;
use wharf_runtime::plan::ContainerPlan;

use crate::failure::{Context, Failure};

const STATE: &str = "state.json";
const PLAN: &str = "plan";
const START: &str = "start.sock";

/// What is written down of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Version of the specification that its bundle follows.
    pub oci_version: String,
    /// Its bundle, absolute.
    pub bundle: PathBuf,
    /// Its root file system, absolute.
    pub rootfs: PathBuf,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its init.
    pub pid: i32,
    /// When that began, in ticks since boot: a pid alone could be somebody else's by now.
    pub start_time: u64,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Who created it.
    pub owner: u32,
    /// Its control group.
    pub cgroup: CgroupPath,
}

/// What a container is doing (runtime-spec, runtime, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waits to be started.
    Created,
    /// Runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its init is gone.
    Stopped,
}

impl Status {
    /// As `state` prints it.
    pub fn text(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's directory and record.
#[derive(Debug)]
pub struct Container {
    /// The directory.
    pub dir: PathBuf,
    /// The record.
    pub record: Record,
}

/// Ids are names of directories.
pub fn check_id(id: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() {
        return Err(Failure::new("container id cannot be empty"));
    }
    if id.len() > 1024 || !id.chars().all(fits) || id == "." || id == ".." {
        return Err(Failure::new(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

/// Makes the directory of a new container.
pub fn make_dir(root: &Path, id: &str) -> Result<PathBuf, Failure> {
    check_id(id)?;
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o711);
    let dir = root.join(id);
    let made = match builder.create(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => builder
            .recursive(true)
            .create(root)
            .and_then(|()| builder.recursive(false).create(&dir)),
        made => made,
    };
    match made {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::new("container with given ID already exists"))
        }
        made => made
            .context(|| format!("mkdir {}", dir.display()))
            .map(|()| dir),
    }
}

impl Container {
    /// Finds one.
    pub fn load(root: &Path, id: &str) -> Result<Container, Failure> {
        check_id(id)?;
        let dir = root.join(id);
        let file = dir.join(STATE);
        match fs::read(&file) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(Failure::no_container()),
            read => {
                let bytes = read.context(|| format!("read {}", file.display()))?;
                let record = serde_json::from_slice(&bytes)
                    .context(|| format!("read {}", file.display()))?;
                Ok(Container { dir, record })
            }
        }
    }

    /// Writes down a new one: the record last, and whole or not at all.
    pub fn save(&self, plan: &ContainerPlan) -> Result<(), Failure> {
        let what = || format!("write the state of container {}", self.record.id);
        let plan = postcard::to_stdvec(plan).context(what)?;
        fs::write(self.dir.join(PLAN), plan).context(what)?;
        let record = serde_json::to_vec(&self.record).context(what)?;
        let new = self.dir.join("state.json.new");
        fs::write(&new, record).context(what)?;
        fs::rename(&new, self.dir.join(STATE)).context(what)
    }

    /// How it was made.
    pub fn plan(&self) -> Result<ContainerPlan, Failure> {
        let file = self.dir.join(PLAN);
        let what = || format!("read {}", file.display());
        let bytes = fs::read(&file).context(what)?;
        postcard::from_bytes(&bytes).context(what)
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        if start_time(self.record.pid) != Some(self.record.start_time) {
            Status::Stopped
        } else if self.dir.join(START).exists() {
            Status::Created
        } else if self.record.cgroup.is_frozen() {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// How long ago it was started: when its directory last changed.
    pub fn age(&self) -> Option<std::time::Duration> {
        let changed = fs::metadata(&self.dir).and_then(|m| m.modified()).ok()?;
        changed.elapsed().ok()
    }

    /// Connects to its waiting init.
    pub fn knock(&self) -> io::Result<OwnedFd> {
        let (_dir, address) = address_in(&self.dir)?;
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        connect(&socket, &address)?;
        Ok(socket)
    }

    /// It does not wait any more.
    pub fn started(&self) -> io::Result<()> {
        fs::remove_file(self.dir.join(START))
    }

    /// Removes what is written down.
    pub fn forget(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.context(|| format!("remove {}", self.dir.display())),
        }
    }
}

/// The socket on which a container's init waits to be started.
pub fn listen_for_start(dir: &Path) -> io::Result<OwnedFd> {
    let (_dir, address) = address_in(dir)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    bind(&socket, &address)?;
    listen(&socket, 1)?;
    Ok(socket)
}

/// By descriptor: an address holds no more than 107 bytes, and a root is often longer.
fn address_in(dir: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let fd = rustix::fs::open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{START}", fd.as_raw_fd()))?;
    Ok((fd, address))
}

/// When a process began; `None` when it is gone, or a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything, comes field 3; the start is field 22, proc(5).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_in_their_directory() {
        for id in ["", ".", "..", "a/b", "a b", "a\0"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        check_id("a_B-1.+").expect("valid");
    }

    #[test]
    fn our_own_start_is_known_and_a_zombie_is_gone() {
        let own = i32::try_from(std::process::id()).expect("pids are small");
        assert!(start_time(own).is_some());
        let mut child = std::process::Command::new("true").spawn().expect("spawn");
        let pid = i32::try_from(child.id()).expect("pids are small");
        let pidfd = rustix::process::pidfd_open(
            rustix::process::Pid::from_raw(pid).expect("a pid"),
            rustix::process::PidfdFlags::empty(),
        )
        .expect("pidfd");
        let mut fds = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).expect("ended");
        assert_eq!(start_time(pid), None);
        child.wait().expect("reaped");
    }

    #[test]
    fn a_second_container_of_the_same_id_is_refused() {
        let root = tempfile::tempdir().expect("tempdir");
        let root = root.path().join("deep/er");
        make_dir(&root, "x").expect("made");
        let error = make_dir(&root, "x").expect_err("there");
        assert_eq!(error.message, "container with given ID already exists");
    }
}
