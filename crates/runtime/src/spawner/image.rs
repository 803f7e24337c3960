//! A write-proof image of the binary.
//!
//! A container shares the kernel's view of the binary that started it: through `/proc/<pid>/exe` of a process that joins it, it could
//! open the host's file for writing (CVE-2019-5736 and its relatives). What the spawner runs from can be written by nobody: a read-only
//! overlay mounted nowhere, whose pages are still those of the file, or a sealed copy in memory where that cannot be had.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, Stat, fcntl_add_seals, fstat, memfd_create, openat, stat,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

/// A file to be executed through `/proc/self/fd`.
pub fn seal(binary: &Path) -> io::Result<OwnedFd> {
    let binary = std::fs::canonicalize(binary)?;
    overlay(&binary).or_else(|_| copy(&binary))
}

/// The binary seen through a read-only overlay of its directory. There is no way from such a file to the one below it.
pub fn overlay(binary: &Path) -> io::Result<OwnedFd> {
    let (Some(dir), Some(name)) = (binary.parent(), binary.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // An overlay without a writable layer needs two; the second may not contain the first.
    let second = ["/dev", "/run"]
        .iter()
        .map(Path::new)
        .find(|path| path.is_dir() && !dir.starts_with(path));
    let mut layers = escape(dir.as_os_str());
    layers.push(":");
    layers.push(escape(second.ok_or(io::ErrorKind::NotFound)?.as_os_str()));

    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "lowerdir", layers.as_os_str())?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let image = openat(
        &mount,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // An overlay does not see what is mounted over its layers: a binary that a container has as a bind mount is another file there.
    let (seen, wanted) = (fstat(&image)?, stat(binary)?);
    let what = |file: &Stat| (file.st_size, file.st_mtime, file.st_mtime_nsec);
    if what(&seen) != what(&wanted) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(image)
}

/// A copy in memory that its own kernel object refuses to change.
pub fn copy(binary: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 an executable memfd should say so; older kernels do not know the flag.
    let memory = memfd_create("wharf", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("wharf", flags))?;
    let mut memory = File::from(memory);
    io::copy(&mut File::open(binary)?, &mut memory)?;
    fcntl_add_seals(
        &memory,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    // Writable descriptors cannot be executed (ETXTBSY).
    let read_only = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    Ok(File::open(read_only)?.into())
}

/// `:` separates layers and `\` escapes it (kernel: overlayfs.rst).
fn escape(path: &OsStr) -> OsString {
    let mut out = Vec::new();
    for &byte in path.as_bytes() {
        if byte == b':' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    std::os::unix::ffi::OsStringExt::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// The image runs, and whatever one tries through its descriptor, the file stays as it is.
    fn check(image: OwnedFd, binary: &Path) {
        let before = std::fs::read(binary).expect("read");
        let path = format!("/proc/self/fd/{}", image.as_raw_fd());
        let output = Command::new(&path)
            .arg("from the image")
            .arg0("echo")
            .output()
            .expect("run");
        assert_eq!(output.stdout, b"from the image\n");
        if let Ok(mut file) = File::options().write(true).open(&path) {
            assert!(io::Write::write(&mut file, b"x").is_err(), "written");
        }
        assert!(
            File::options()
                .write(true)
                .truncate(true)
                .open(&path)
                .is_err(),
            "truncated"
        );
        assert_eq!(std::fs::read(binary).expect("read"), before);
    }

    #[test]
    fn images_run_and_cannot_be_written() {
        let dir = tempfile::tempdir().expect("tempdir");
        let binary = dir.path().join("odd:na\\me");
        std::fs::create_dir(&binary).expect("mkdir");
        let binary = binary.join("echo");
        std::fs::copy("/bin/busybox", &binary).expect("copy busybox");
        check(overlay(&binary).expect("overlay"), &binary);
        check(copy(&binary).expect("copy"), &binary);
    }
}
