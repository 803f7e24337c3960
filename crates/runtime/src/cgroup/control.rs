//! Making, joining, freezing, killing and removing control groups.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::{CgroupError, CgroupPath, V1Dir};
use crate::plan::{CgroupPlan, CgroupWrite};

/// How long exited processes may take to leave their group.
const REMOVE_DEADLINE: Duration = Duration::from_secs(2);
/// How long the kernel may take to freeze.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// Makes the group, missing parents included, and fills in its values. On failure nothing is left behind.
pub fn create(plan: &CgroupPlan) -> Result<(), CgroupError> {
    let made = match &plan.path {
        CgroupPath::V1(dirs) => v1_only(dirs).try_for_each(make_v1),
        // systemd has handed down what it was told to delegate.
        CgroupPath::V2(dir) if plan.scope.is_some() => make_dirs(dir),
        CgroupPath::V2(dir) => make_v2(dir),
    };
    let filled = made
        .and_then(|()| plan.writes.iter().try_for_each(write_value))
        .and_then(|()| attach_devices(plan));
    if filled.is_err() {
        // The first failure is what the caller must hear; the group is empty, so this hardly fails.
        let _ = plan.path.remove();
    }
    filled
}

impl CgroupPath {
    /// Moves the calling process in (v1 only; on v2 it is born there).
    ///
    /// Writing `0` to `tasks` moves one thread by itself, for which the kernel takes no process-wide lock; through
    /// `cgroup.procs`, each hierarchy would wait for an RCU grace period.
    pub fn join(&self) -> Result<(), CgroupError> {
        let CgroupPath::V1(dirs) = self else {
            return Ok(());
        };
        v1_only(dirs).try_for_each(|d| write_file(&d.dir.join("tasks"), "0"))
    }

    /// Moves a process of one thread in, for one that may not do so itself (v1 only).
    pub fn adopt(&self, pid: i32) -> Result<(), CgroupError> {
        let CgroupPath::V1(dirs) = self else {
            return Ok(());
        };
        v1_only(dirs).try_for_each(|d| write_file(&d.dir.join("tasks"), &pid.to_string()))
    }

    /// v2: the directory, among this and nested ones, that a process is in.
    pub(crate) fn group_of(&self, pidfd: &OwnedFd) -> io::Result<PathBuf> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
        let pid = info
            .lines()
            .find_map(|l| l.strip_prefix("Pid:"))
            .map(str::trim);
        let pid = pid.ok_or(ErrorKind::InvalidData)?;
        let mut todo: Vec<PathBuf> = self
            .process_dir()
            .map(Path::to_path_buf)
            .into_iter()
            .collect();
        while let Some(dir) = todo.pop() {
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            if procs.lines().any(|l| l == pid) {
                return Ok(dir);
            }
            todo.extend(nested_groups(&dir));
        }
        Err(ErrorKind::NotFound.into())
    }

    /// Applies values to a running container (`docker update`).
    ///
    /// Some are valid only together: memory may not exceed memory plus swap, a quota not what the period allows. What is refused
    /// as invalid (or, on v1, busy) is tried again once the others are in force.
    pub fn write(&self, writes: &[CgroupWrite]) -> Result<(), CgroupError> {
        let mut refused = Vec::new();
        for write in writes {
            match write_value(write) {
                Err(CgroupError::Write { source, .. })
                    if source.raw_os_error() == Some(libc::EINVAL) =>
                {
                    refused.push(write);
                }
                done => done?,
            }
        }
        // Each value was refused once at most because of one that came later.
        refused.into_iter().rev().try_for_each(write_value)
    }

    /// Gives the groups above this one realtime scheduling time, without which none below can have any (v1,
    /// `sched-rt-group.rst`). Microseconds. Groups that have enough already keep it.
    pub fn grant_realtime(&self, period: i64, runtime: i64) -> Result<(), CgroupError> {
        let CgroupPath::V1(dirs) = self else {
            return Ok(());
        };
        let Some(cpu) = dirs
            .iter()
            .find(|d| d.controllers.iter().any(|c| c == "cpu"))
        else {
            return Ok(());
        };
        let below = |d: &&Path| d.starts_with(&cpu.mount) && *d != cpu.mount;
        let mut ancestors: Vec<&Path> = cpu.dir.ancestors().skip(1).take_while(below).collect();
        ancestors.reverse();
        for dir in ancestors {
            make_dirs(dir)?;
            if period != 0 {
                write_file(&dir.join("cpu.rt_period_us"), &period.to_string())?;
            }
            if runtime != 0 {
                write_file(&dir.join("cpu.rt_runtime_us"), &runtime.to_string())?;
            }
        }
        Ok(())
    }

    /// Host pids of all processes, those of nested groups included, ascending.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = BTreeSet::new();
        if let Some(dir) = self.process_dir() {
            collect_pids(dir, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Sends SIGKILL to everything in the group. Returns without waiting.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let CgroupPath::V2(dir) = self {
            // Linux 5.14; reaches forks in flight as well.
            match write_file(&dir.join("cgroup.kill"), "1") {
                Err(CgroupError::Write { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                done => return done,
            }
        }
        // A frozen process dies only when thawed; frozen or not, killed tasks cannot fork, so a few rounds reach all.
        for _ in 0..16 {
            let pids = self.pids()?;
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                let _ = wharf_sys::process::kill(pid, 9);
            }
            let _ = self.thaw();
        }
        Ok(())
    }

    /// Stops all processes; returns when all have stopped (`docker pause`).
    pub fn freeze(&self) -> Result<(), CgroupError> {
        match self {
            CgroupPath::V1(_) => {
                let dir = self.freezer_dir()?;
                wait_frozen(dir, || {
                    write_file(&dir.join("freezer.state"), "FROZEN")?;
                    Ok(read(&dir.join("freezer.state"))?.trim() == "FROZEN")
                })
            }
            CgroupPath::V2(dir) => {
                write_file(&dir.join("cgroup.freeze"), "1")?;
                wait_frozen(dir, || {
                    Ok(read(&dir.join("cgroup.events"))?.contains("frozen 1"))
                })
            }
        }
    }

    /// Lets frozen processes run again (`docker unpause`).
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match self {
            CgroupPath::V1(_) => write_file(&self.freezer_dir()?.join("freezer.state"), "THAWED"),
            CgroupPath::V2(dir) => write_file(&dir.join("cgroup.freeze"), "0"),
        }
    }

    /// Whether all processes are stopped, or about to be. What cannot be told is not.
    pub fn is_frozen(&self) -> bool {
        match self {
            CgroupPath::V1(_) => self
                .freezer_dir()
                .and_then(|dir| read(&dir.join("freezer.state")))
                .is_ok_and(|state| state.trim() != "THAWED"),
            CgroupPath::V2(dir) => {
                read(&dir.join("cgroup.freeze")).is_ok_and(|state| state.trim() == "1")
            }
        }
    }

    fn freezer_dir(&self) -> Result<&Path, CgroupError> {
        self.dir("freezer").ok_or_else(|| CgroupError::Freeze {
            dir: PathBuf::new(),
            why: "no freezer hierarchy",
        })
    }

    /// Removes the group and groups nested in it. Already gone is success. Waits a little for exited processes to
    /// leave; goes on through all hierarchies and returns the first failure.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + REMOVE_DEADLINE;
        match self {
            CgroupPath::V1(dirs) => {
                let results: Vec<_> = dirs.iter().map(|d| remove_dir(&d.dir, deadline)).collect();
                results.into_iter().collect()
            }
            CgroupPath::V2(dir) => remove_dir(dir, deadline),
        }
    }
}

fn v1_only(dirs: &[V1Dir]) -> impl Iterator<Item = &V1Dir> {
    dirs.iter().filter(|d| !d.is_unified())
}

/// The unified directory of the hybrid layout, where it can be made: nothing depends on it but who looks there for processes.
pub(crate) fn make_birthplace(path: &CgroupPath) -> Option<OwnedFd> {
    let dir = path.birthplace()?;
    make_dirs(dir).ok()?;
    open_dir(dir).ok()
}

/// For `CLONE_INTO_CGROUP` and device programs.
pub(crate) fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn make_v1(dir: &V1Dir) -> Result<(), CgroupError> {
    make_dirs(&dir.dir)?;
    if dir.controllers.iter().any(|c| c == "cpuset") {
        fill_cpuset(&dir.mount, &dir.dir)?;
    }
    Ok(())
}

fn make_dirs(dir: &Path) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Make {
        dir: dir.to_path_buf(),
        source,
    };
    match fs::create_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => fs::create_dir_all(dir).map_err(failed),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(failed),
    }
}

/// A new cpuset group has no CPUs and memory nodes and so admits nobody: copy them down from the nearest filled
/// ancestor.
fn fill_cpuset(mount: &Path, dir: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut empty = Vec::new();
        let mut at = dir;
        let value = loop {
            let value = read(&at.join(file))?;
            let filled = !value.trim().is_empty();
            match at.parent() {
                Some(parent) if !filled && at != mount => {
                    empty.push(at);
                    at = parent;
                }
                _ => break value,
            }
        };
        for dir in empty.into_iter().rev() {
            write_file(&dir.join(file), value.trim())?;
        }
    }
    Ok(())
}

/// Controllers are handed down level by level: each ancestor must enable for its children all it has.
fn make_v2(dir: &Path) -> Result<(), CgroupError> {
    make_dirs(dir)?;
    let is_group = |d: &&Path| d.join("cgroup.subtree_control").exists();
    let mut ancestors: Vec<&Path> = dir.ancestors().skip(1).take_while(is_group).collect();
    ancestors.reverse();
    for ancestor in ancestors {
        let available = read(&ancestor.join("cgroup.controllers"))?;
        let file = ancestor.join("cgroup.subtree_control");
        let enabled = read(&file)?;
        let enabled: Vec<&str> = enabled.split_whitespace().collect();
        for controller in available
            .split_whitespace()
            .filter(|c| !enabled.contains(c))
        {
            // Some refuse where processes live (threaded or busy ancestors); the write of a value that
            // needs the controller will say so.
            let _ = write_file(&file, &format!("+{controller}"));
        }
    }
    Ok(())
}

fn attach_devices(plan: &CgroupPlan) -> Result<(), CgroupError> {
    let CgroupPath::V2(dir) = &plan.path else {
        return Ok(());
    };
    if plan.device_program.is_empty() {
        return Ok(());
    }
    open_dir(dir)
        .and_then(|fd| wharf_sys::cgroup::attach_device_program(fd.as_fd(), &plan.device_program))
        .map_err(|source| CgroupError::Devices {
            dir: dir.clone(),
            source,
        })
}

fn write_value(write: &CgroupWrite) -> Result<(), CgroupError> {
    match (write_file(&write.file, &write.value), &write.or) {
        (Err(CgroupError::Write { source, .. }), Some((file, value)))
            if source.kind() == ErrorKind::NotFound =>
        {
            write_file(file, value)
        }
        (done, _) => done,
    }
}

/// Never creates: a file that is not there is a controller that is not there.
pub(super) fn write_file(file: &Path, value: &str) -> Result<(), CgroupError> {
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut f| f.write_all(value.as_bytes()))
        .map_err(|source| CgroupError::Write {
            file: file.to_path_buf(),
            value: value.into(),
            source,
        })
}

pub(super) fn read(file: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(file).map_err(|source| CgroupError::Read {
        file: file.to_path_buf(),
        source,
    })
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    let text = match read(&dir.join("cgroup.procs")) {
        // A nested group that was just removed has no processes.
        Err(CgroupError::Read { source, .. }) if is_gone(&source) => return Ok(()),
        text => text?,
    };
    pids.extend(
        text.lines()
            .filter_map(|l| l.parse::<i32>().ok())
            .filter(|p| *p > 0),
    );
    for nested in nested_groups(dir) {
        collect_pids(&nested, pids)?;
    }
    Ok(())
}

fn is_gone(e: &io::Error) -> bool {
    e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV)
}

fn nested_groups(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn remove_dir(dir: &Path, deadline: Instant) -> Result<(), CgroupError> {
    let mut pause = Duration::from_micros(100);
    loop {
        let Err(source) = fs::remove_dir(dir) else {
            return Ok(());
        };
        if is_gone(&source) {
            return Ok(());
        }
        // Busy: nested groups (removed first), or processes that have exited but not yet left.
        let nested = nested_groups(dir);
        for group in &nested {
            remove_dir(group, deadline)?;
        }
        if Instant::now() > deadline || source.raw_os_error() != Some(libc::EBUSY) {
            return Err(CgroupError::Remove {
                dir: dir.to_path_buf(),
                source,
            });
        }
        if nested.is_empty() {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

fn wait_frozen(
    dir: &Path,
    mut frozen: impl FnMut() -> Result<bool, CgroupError>,
) -> Result<(), CgroupError> {
    let deadline = Instant::now() + FREEZE_DEADLINE;
    let mut pause = Duration::from_micros(50);
    while !frozen()? {
        if Instant::now() > deadline {
            return Err(CgroupError::Freeze {
                dir: dir.to_path_buf(),
                why: "timed out",
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}
