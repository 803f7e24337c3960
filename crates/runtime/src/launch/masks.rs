//! Hiding paths, making paths read-only, and kernel parameters: what protects `/proc` and `/sys`.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, PROC_SUPER_MAGIC, fstatfs, major, minor, statat};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mounts::{attach, change, new_mount};
use super::root::{Root, file_type};
use super::rootfs::clone_flags;
use super::{LaunchError, Step};
use crate::plan::{AttrChange, attr};

/// Hides each path that exists: a file behind the container's own `/dev/null`, a directory behind an empty
/// read-only one.
pub(super) fn mask(root: &Root, paths: &[String]) -> Result<(), LaunchError> {
    let mut covers = Covers {
        root,
        empty: None,
        null: None,
    };
    for path in paths {
        covers
            .mask(path)
            .step_with(|| format!("can't mask path {path:?}"))?;
    }
    Ok(())
}

/// What paths are hidden behind, made when first needed.
struct Covers<'a> {
    root: &'a Root,
    empty: Option<OwnedFd>,
    null: Option<OwnedFd>,
}

impl Covers<'_> {
    fn mask(&mut self, path: &str) -> io::Result<()> {
        let Some(target) = open_existing(self.root, path)? else {
            return Ok(());
        };
        if file_type(target.as_fd())? != FileType::Directory {
            let null = match self.null.take() {
                Some(null) => null,
                None => open_null(self.root)?,
            };
            attach(copy(&null)?, &target)?;
            self.null = Some(null);
            return Ok(());
        }
        match &self.empty {
            Some(empty) => attach(copy(empty)?, &target),
            None => {
                // Attached itself, not copied: giving up a mount that never was costs an RCU grace period.
                let empty = new_mount("tmpfs", "tmpfs", &[], attr::RDONLY)?;
                attach(&empty, &target)?;
                self.empty = Some(empty);
                Ok(())
            }
        }
    }
}

fn copy(mount: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(open_tree(
        mount,
        "",
        clone_flags(false) | OpenTreeFlags::AT_EMPTY_PATH,
    )?)
}

/// The image could have put anything at `/dev/null` if the spec brings its own `/dev` (CVE-2025-31133).
fn open_null(root: &Root) -> io::Result<OwnedFd> {
    let fd = root.open("/dev/null", OFlags::PATH)?;
    let stat = statat(&fd, "", AtFlags::EMPTY_PATH)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    if is_null {
        Ok(fd)
    } else {
        Err(io::Error::other("/dev/null is not the null device"))
    }
}

/// Makes each path that exists read-only, with everything mounted below it.
pub(super) fn make_readonly(root: &Root, paths: &[String]) -> Result<(), LaunchError> {
    for path in paths {
        make_path_readonly(root, path).step_with(|| format!("can't make {path:?} read-only"))?;
    }
    Ok(())
}

fn make_path_readonly(root: &Root, path: &str) -> io::Result<()> {
    let Some(target) = open_existing(root, path)? else {
        return Ok(());
    };
    let copy = open_tree(
        &target,
        "",
        clone_flags(true) | OpenTreeFlags::AT_EMPTY_PATH,
    )?;
    change(
        copy.as_fd(),
        false,
        AttrChange {
            set: attr::RDONLY,
            clear: 0,
        },
    )?;
    attach(&copy, &target)
}

/// The root itself, the last thing that is written to (`--read-only`).
pub(super) fn make_root_readonly(root: &Root) -> Result<(), LaunchError> {
    change(
        root.as_fd(),
        false,
        AttrChange {
            set: attr::RDONLY,
            clear: 0,
        },
    )
    .step("make rootfs read-only")
}

fn open_existing(root: &Root, path: &str) -> io::Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH) {
        Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::NotADirectory => {
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// Sets kernel parameters through the container's `/proc`, checked to be the real one.
pub(super) fn set_sysctls(root: &Root, sysctls: &[(String, String)]) -> Result<(), LaunchError> {
    for (path, value) in sysctls {
        let file = format!("/proc/sys/{path}");
        set_sysctl(root, &file, value).step_with(|| format!("failed to write sysctl {path}"))?;
    }
    Ok(())
}

fn set_sysctl(root: &Root, file: &str, value: &str) -> io::Result<()> {
    let fd = root.open_no_links(file, OFlags::WRONLY)?;
    if fstatfs(&fd)?.f_type != PROC_SUPER_MAGIC {
        return Err(io::Error::other("not a file of procfs"));
    }
    rustix::io::write(&fd, value.as_bytes())?;
    Ok(())
}
