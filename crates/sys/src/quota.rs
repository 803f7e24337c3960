//! Project quotas: the project of a directory, and what it may hold.
//!
//! Numbers and layouts: `include/uapi/linux/{fs,quota,dqblk_xfs}.h`. The XFS flavour of the calls works for every file system that
//! the kernel's generic quota code serves, ext4 among them; only the form of the numbers is XFS's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::outcome::done;

const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory belongs to its project.
const PROJINHERIT: u32 = 0x200;

/// `PRJQUOTA`.
const PROJECT: u32 = 2;
/// `Q_XGETQUOTA`.
const GET: u32 = 0x5803;
/// `Q_XSETQLIM`.
const SET: u32 = 0x5804;
/// `Q_XGETQSTAT`.
const STAT: u32 = 0x5805;

/// `FS_DQUOT_VERSION`.
const VERSION: i8 = 1;
/// `FS_PROJ_QUOTA` of `d_flags`.
const KIND_PROJECT: i8 = 2;
/// `FS_DQ_BSOFT | FS_DQ_BHARD`.
const BLOCK_LIMITS: u16 = (1 << 2) | (1 << 3);
/// `FS_QUOTA_PDQ_ENFD`: limits of projects are enforced.
const ENFORCED: u16 = 1 << 5;
/// Limits and usage are counted in these.
const BASIC_BLOCK: u64 = 512;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fieldmask: u16,
    id: u32,
    blk_hardlimit: u64,
    blk_softlimit: u64,
    ino_hardlimit: u64,
    ino_softlimit: u64,
    bcount: u64,
    icount: u64,
    timers: [i32; 2],
    warns: [u16; 2],
    timers_high: [i8; 4],
    rtb: [u64; 3],
    rtbtimer: i32,
    rtbwarns: u16,
    pad: [u8; 10],
}

/// `struct fs_quota_stat`, of which only the flags matter.
#[repr(C)]
#[derive(Default)]
struct QuotaStat {
    version: i8,
    flags: u16,
    rest: [u64; 9],
}

/// What a project has and may have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Space taken.
    pub used: u64,
    /// Space it may take; 0 is no limit.
    pub limit: u64,
    /// Files, directories and all else.
    pub inodes: u64,
}

/// The project of a directory, if what is made in it belongs to one.
pub fn project(dir: impl AsFd) -> io::Result<Option<u32>> {
    let attributes = attributes(dir.as_fd())?;
    let inherits = attributes.xflags & PROJINHERIT != 0;
    Ok((inherits && attributes.projid != 0).then_some(attributes.projid))
}

/// Makes a directory, and all that is made in it from now on, belong to a project.
pub fn set_project(dir: impl AsFd, project: u32) -> io::Result<()> {
    let mut attributes = attributes(dir.as_fd())?;
    attributes.xflags |= PROJINHERIT;
    attributes.projid = project;
    ioctl(dir.as_fd(), FS_IOC_FSSETXATTR, &mut attributes)
}

/// Whether the file system of `dir` enforces limits of projects.
pub fn is_enforced(dir: impl AsFd) -> bool {
    let mut stat = QuotaStat {
        version: VERSION,
        ..QuotaStat::default()
    };
    attributes(dir.as_fd()).is_ok()
        && quotactl(dir.as_fd(), STAT, 0, &mut stat).is_ok()
        && stat.flags & ENFORCED != 0
}

/// What a project of the file system of `dir` has; one that the file system has not heard of has nothing.
pub fn usage(dir: impl AsFd, project: u32) -> io::Result<Usage> {
    let mut quota = DiskQuota::default();
    match quotactl(dir.as_fd(), GET, project, &mut quota) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result?,
    }
    let bytes = |blocks: u64| blocks.saturating_mul(BASIC_BLOCK);
    Ok(Usage {
        used: bytes(quota.bcount),
        limit: bytes(quota.blk_hardlimit),
        inodes: quota.icount,
    })
}

/// Limits a project of the file system of `dir`; 0 takes the limit away.
pub fn set_limit(dir: impl AsFd, project: u32, bytes: u64) -> io::Result<()> {
    let blocks = bytes.div_ceil(BASIC_BLOCK);
    let mut quota = DiskQuota {
        version: VERSION,
        flags: KIND_PROJECT,
        fieldmask: BLOCK_LIMITS,
        id: project,
        blk_hardlimit: blocks,
        blk_softlimit: blocks,
        ..DiskQuota::default()
    };
    quotactl(dir.as_fd(), SET, project, &mut quota)
}

fn attributes(dir: BorrowedFd<'_>) -> io::Result<Fsxattr> {
    let mut attributes = Fsxattr::default();
    ioctl(dir, FS_IOC_FSGETXATTR, &mut attributes)?;
    Ok(attributes)
}

fn ioctl(fd: BorrowedFd<'_>, request: u32, args: &mut Fsxattr) -> io::Result<()> {
    // SAFETY: both requests that come here take a `struct fsxattr`, which `Fsxattr` is (its size is tested), alive and exclusively
    // ours during the call; the descriptor is borrowed.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(request), args) };
    done(result)
}

/// A structure that one command of [`quotactl`] takes.
trait Argument {}
impl Argument for DiskQuota {}
impl Argument for QuotaStat {}

/// `quotactl_fd(2)`, which needs no device node (Linux 5.14); older kernels answer `ENOSYS`.
fn quotactl<T: Argument>(
    fd: BorrowedFd<'_>,
    command: u32,
    id: u32,
    args: &mut T,
) -> io::Result<()> {
    let command = (command << 8) | PROJECT;
    // SAFETY: every caller pairs the command with its structure, `GET` and `SET` with `DiskQuota` and `STAT` with `QuotaStat`, whose
    // sizes are tested; it is alive and exclusively ours during the call, and the descriptor is borrowed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            fd.as_raw_fd(),
            command,
            id,
            std::ptr::from_mut(args),
        )
    };
    done(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Fsxattr>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<QuotaStat>(), 80);
    }
}
