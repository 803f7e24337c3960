//! Btrfs subvolumes: made, snapshotted, limited and deleted by ioctls on the directory that holds them.
//!
//! Numbers and layouts: `include/uapi/linux/btrfs.h`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::outcome::done;

/// Room for a name in `struct btrfs_ioctl_vol_args`.
const NAME: usize = 4088;
/// Room for a name in `struct btrfs_ioctl_vol_args_v2`.
const NAME_V2: usize = 4040;

const SUBVOL_CREATE: u32 = 0x5000_940e;
const SNAP_DESTROY: u32 = 0x5000_940f;
const SNAP_CREATE_V2: u32 = 0x5000_9417;
const QUOTA_CTL: u32 = 0xc010_9428;
const QGROUP_LIMIT: u32 = 0x8030_942b;

/// `BTRFS_QUOTA_CTL_ENABLE`.
const ENABLE: u64 = 1;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`: limit what the subvolume refers to.
const MAX_RFER: u64 = 1;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; NAME],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_V2],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaCtl {
    cmd: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`; group 0 is that of the descriptor's own subvolume.
#[repr(C)]
struct QgroupLimit {
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

/// Makes an empty subvolume called `name` in the directory `parent`.
pub fn create_subvolume(parent: impl AsFd, name: &str) -> io::Result<()> {
    let mut args = VolArgs {
        fd: 0,
        name: name_bytes(name)?,
    };
    call(parent.as_fd(), SUBVOL_CREATE, &mut args)
}

/// Makes a writable snapshot of the subvolume `source`, called `name`, in the directory `parent`.
pub fn snapshot(source: impl AsFd, parent: impl AsFd, name: &str) -> io::Result<()> {
    let mut args = VolArgsV2 {
        fd: i64::from(source.as_fd().as_raw_fd()),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name: name_bytes(name)?,
    };
    call(parent.as_fd(), SNAP_CREATE_V2, &mut args)
}

/// Deletes the subvolume `name` of the directory `parent` with all that is in it; space comes back in the background.
pub fn delete_subvolume(parent: impl AsFd, name: &str) -> io::Result<()> {
    let mut args = VolArgs {
        fd: 0,
        name: name_bytes(name)?,
    };
    call(parent.as_fd(), SNAP_DESTROY, &mut args)
}

/// Turns quotas on for the file system of `dir`. Safe to repeat.
pub fn enable_quota(dir: impl AsFd) -> io::Result<()> {
    let mut args = QuotaCtl {
        cmd: ENABLE,
        status: 0,
    };
    match call(dir.as_fd(), QUOTA_CTL, &mut args) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Limits what the subvolume of `dir` may hold, in bytes. Needs [`enable_quota`].
pub fn limit_subvolume(dir: impl AsFd, bytes: u64) -> io::Result<()> {
    let mut args = QgroupLimit {
        qgroupid: 0,
        flags: MAX_RFER,
        max_rfer: bytes,
        max_excl: 0,
        rsv_rfer: 0,
        rsv_excl: 0,
    };
    call(dir.as_fd(), QGROUP_LIMIT, &mut args)
}

/// A name with zero bytes up to the end of its field.
fn name_bytes<const N: usize>(name: &str) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let fits = !name.is_empty() && name.len() < N && !name.contains(['/', '\0']);
    if !fits {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}

fn call<T>(fd: BorrowedFd<'_>, request: u32, args: &mut T) -> io::Result<()> {
    // SAFETY: `T` is the repr(C) structure that `request` names in its size bits (checked below), alive and exclusively ours
    // during the call; the descriptor is borrowed.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(request), args) };
    done(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_their_requests_encode() {
        let size = |request: u32| ((request >> 16) & 0x3fff) as usize;
        assert_eq!(size(SUBVOL_CREATE), size_of::<VolArgs>());
        assert_eq!(size(SNAP_DESTROY), size_of::<VolArgs>());
        assert_eq!(size(SNAP_CREATE_V2), size_of::<VolArgsV2>());
        assert_eq!(size(QUOTA_CTL), size_of::<QuotaCtl>());
        assert_eq!(size(QGROUP_LIMIT), size_of::<QgroupLimit>());
    }

    #[test]
    fn names_are_single_and_fit() {
        for bad in ["", "a/b", "a\0b"] {
            assert!(name_bytes::<8>(bad).is_err(), "{bad:?}");
        }
        assert!(name_bytes::<4>("long").is_err());
        assert_eq!(name_bytes::<4>("abc").expect("fits"), *b"abc\0");
    }
}
