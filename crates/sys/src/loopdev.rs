//! Loop devices: a file as a block device.
//!
//! Numbers and layouts: `include/uapi/linux/loop.h`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use crate::outcome::{check, done};

const CTL_GET_FREE: u32 = 0x4c82;
const CONFIGURE: u32 = 0x4c0a;
const CLR_FD: u32 = 0x4c01;

/// `LO_FLAGS_READ_ONLY`.
const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: the device goes when its last user does.
const AUTOCLEAR: u32 = 4;
/// Others may take the free device first; so often it is tried again.
const ATTEMPTS: u32 = 100;

/// What may be done with the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Read and write it.
    ReadWrite,
}

/// A loop device, there as long as this is open or something uses it.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loop<n>`.
    pub path: PathBuf,
    /// The open device.
    pub device: File,
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// Makes a file a block device (Linux 5.8).
pub fn attach(file: &File, access: Access) -> io::Result<LoopDevice> {
    let control = open(Path::new("/dev/loop-control"), Access::ReadWrite)?;
    for _ in 0..ATTEMPTS {
        // SAFETY: this request takes no argument; the descriptor is borrowed from `control`.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), libc::Ioctl::from(CTL_GET_FREE)) };
        check(number)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&path, access)?;
        match configure(&device, file, access) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            result => return result.map(|()| LoopDevice { path, device }),
        }
    }
    Err(io::Error::other("no loop device is free"))
}

/// Takes the file away from a device, once nothing uses it any more.
pub fn detach(device: impl AsFd) -> io::Result<()> {
    // SAFETY: this request takes no argument; the descriptor is borrowed.
    let result = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), libc::Ioctl::from(CLR_FD)) };
    done(result)
}

fn configure(device: &File, file: &File, access: Access) -> io::Result<()> {
    let read_only = match access {
        Access::ReadOnly => READ_ONLY,
        Access::ReadWrite => 0,
    };
    let mut config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: read_only | AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the request takes a `struct loop_config`, which `LoopConfig` is (its size is tested), alive and exclusively ours during the
    // call; both descriptors are borrowed from files that outlive it.
    let result = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            libc::Ioctl::from(CONFIGURE),
            &mut config,
        )
    };
    done(result)
}

fn open(path: &Path, access: Access) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
