//! Owner, mode, extended attributes and times of one unpacked entry.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use wharf_archive::tar::{Entry, Time};

/// Overlay keeps its own state under these names: an archive must not be able to set it.
const RESERVED: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Access time is never before modification time, as Docker does.
pub(super) fn timestamps(entry: &Entry) -> Timestamps {
    let atime = entry
        .atime
        .map_or(entry.mtime, |atime| atime.max(entry.mtime));
    Timestamps {
        last_access: timespec(atime),
        last_modification: timespec(entry.mtime),
    }
}

fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanos),
    }
}

/// Everything for an open regular file that this process has just created with `0600`.
pub(super) fn finish_file(fd: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    // A directory's set-group-ID bit may have given the file another group, so both are always set.
    rustix::fs::fchown(
        fd,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )?;
    // chown drops set-user-ID bits and capabilities: mode and attributes come after it.
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in settable(entry) {
        rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()).or_else(ignore_eperm)?;
    }
    rustix::fs::futimens(fd, &timestamps(entry))?;
    Ok(())
}

/// Everything but the times, which come last for directories, for an entry that cannot be opened.
pub(super) fn finish_name(
    dir: impl AsFd,
    name: &[u8],
    entry: &Entry,
    chmod: bool,
) -> io::Result<()> {
    let dir = dir.as_fd();
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if chmod {
        // Safe without a flag: the name was just made here and is no symlink.
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    for (key, value) in settable(entry) {
        rustix::fs::lsetxattr(through_proc(dir, name), key, value, XattrFlags::empty())
            .or_else(ignore_eperm)?;
    }
    Ok(())
}

pub(super) fn set_times(dir: impl AsFd, name: &[u8], times: &Timestamps) -> io::Result<()> {
    Ok(rustix::fs::utimensat(
        dir,
        name,
        times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// The kernel has no `setxattrat` before 6.13.
fn through_proc(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(OsStr::from_bytes(name))
}

pub(super) fn settable(entry: &Entry) -> impl Iterator<Item = (&OsStr, &[u8])> {
    let allowed = entry
        .xattrs
        .iter()
        .filter(|(name, _)| !RESERVED.iter().any(|reserved| name.starts_with(reserved)));
    allowed.map(|(name, value)| (OsStr::from_bytes(name), value.as_slice()))
}

/// For instance `user.*` on a symlink; Docker goes on as well.
fn ignore_eperm(error: rustix::io::Errno) -> io::Result<()> {
    if error == rustix::io::Errno::PERM {
        Ok(())
    } else {
        Err(error.into())
    }
}
