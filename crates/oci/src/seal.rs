//! Out of reach for what we start: the container's init is this very program until it executes another, so a container could
//! find the host's file through `/proc/<pid>/exe` and overwrite it (CVE-2019-5736).

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{StatVfsMountFlags, fstatfs, fstatvfs};
use wharf_runtime::spawner::image;

use crate::failure::{Context, Failure};

/// `OVERLAYFS_SUPER_MAGIC` and `TMPFS_MAGIC` of `linux/magic.h`.
const OVERLAY: u64 = 0x794c_7630;
const TMPFS: u64 = 0x0102_1994;

/// Executes this program anew from a write-proof image, unless it runs from one.
pub fn ensure(name: &str, args: &[OsString]) -> Result<(), Failure> {
    let own = Path::new("/proc/self/exe");
    if is_sealed(own) {
        return Ok(());
    }
    let image = std::fs::canonicalize(own)
        .and_then(|path| image::seal(&path))
        .context(|| "make a write-proof image of the runtime".into())?;
    // The descriptor is closed by the very call that looks it up.
    let error = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()))
        .arg0(name)
        .args(args)
        .exec();
    Err(Failure::new(format!(
        "execute the write-proof image of the runtime: {error}"
    )))
}

/// A read-only overlay, or a sealed file in memory.
fn is_sealed(own: &Path) -> bool {
    let Ok(file) = std::fs::File::open(own) else {
        return false;
    };
    let kind = fstatfs(&file).map(|s| u64::try_from(s.f_type).unwrap_or(0));
    match kind {
        Ok(OVERLAY) => fstatvfs(&file).is_ok_and(|s| s.f_flag.contains(StatVfsMountFlags::RDONLY)),
        Ok(TMPFS) => rustix::fs::fcntl_get_seals(&file)
            .is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE)),
        _ => false,
    }
}
