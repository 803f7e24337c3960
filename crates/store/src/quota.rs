//! Project quotas: a directory, and all that will be made in it, limited to so many bytes (XFS mounted with `pquota`, ext4 with
//! `prjquota`; Linux 5.14).
//!
//! A project is a number. There is no list of them: a number is free when the file system counts nothing under it and has no limit for it, so
//! nothing can disagree with what is on disk, and projects of others are left alone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use wharf_sys::quota;

/// Numbers from here on: those below are what people write into `/etc/projects`.
const FIRST: u32 = 1 << 20;
/// Numbers tried at most.
const ATTEMPTS: u32 = 64;

/// What a directory has and may have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Space taken.
    pub used: u64,
    /// Space it may take.
    pub limit: u64,
}

/// The quotas of one file system.
#[derive(Debug)]
pub struct ProjectQuotas {
    root: OwnedFd,
}

impl ProjectQuotas {
    /// Those of the file system that the directory `root` lies on; `None` where it has none or does not enforce them.
    pub fn open(root: &Path) -> io::Result<Option<ProjectQuotas>> {
        let root = open(root)?;
        Ok(quota::is_enforced(&root).then_some(ProjectQuotas { root }))
    }

    /// Limits the directory `dir`, which is empty or was limited before, to `bytes`. Who writes beyond gets `ENOSPC` (XFS) or `EDQUOT`
    /// (ext4, which lets processes with `CAP_SYS_RESOURCE` write on).
    pub fn limit(&self, dir: &Path, bytes: u64) -> io::Result<()> {
        let fd = open(dir)?;
        let project = match own_project(&fd, dir)? {
            Some(project) => project,
            None => self.free_project()?,
        };
        // The limit first: a kill in between leaves a limit that nothing falls under.
        quota::set_limit(&self.root, project, bytes)?;
        quota::set_project(&fd, project)
    }

    /// What `dir` has and may have; `None` for one that was never limited, or is not there.
    pub fn usage(&self, dir: &Path) -> io::Result<Option<Usage>> {
        let Some(project) = self.project(dir)? else {
            return Ok(None);
        };
        let usage = quota::usage(&self.root, project)?;
        Ok(Some(Usage {
            used: usage.used,
            limit: usage.limit,
        }))
    }

    /// Takes the limit of `dir` away, to be called before it is removed: the file system then forgets the number with the last file.
    /// Safe to repeat, also for a directory that has no limit or is not there.
    pub fn release(&self, dir: &Path) -> io::Result<()> {
        match self.project(dir)? {
            Some(project) => quota::set_limit(&self.root, project, 0),
            None => Ok(()),
        }
    }

    fn project(&self, dir: &Path) -> io::Result<Option<u32>> {
        match open(dir) {
            Ok(fd) => own_project(&fd, dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn free_project(&self) -> io::Result<u32> {
        for _ in 0..ATTEMPTS {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            // Signed numbers are what some tools print.
            let project = (u32::from_ne_bytes(bytes) >> 1).max(FIRST);
            let usage = quota::usage(&self.root, project)?;
            if (usage.used, usage.limit, usage.inodes) == (0, 0, 0) {
                return Ok(project);
            }
        }
        Err(io::Error::other("no free project number was found"))
    }
}

/// The project of `dir`, unless it only has that of the directory above, which is not ours to change.
fn own_project(fd: &OwnedFd, dir: &Path) -> io::Result<Option<u32>> {
    let Some(project) = quota::project(fd.as_fd())? else {
        return Ok(None);
    };
    let above = open(dir.parent().unwrap_or(dir))?;
    let inherited = quota::project(&above).ok().flatten() == Some(project);
    Ok((!inherited).then_some(project))
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}
