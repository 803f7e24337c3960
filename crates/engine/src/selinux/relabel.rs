//! Giving files a label (go-selinux `Relabel`): `z` shares them among containers, `Z` keeps them for one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, XattrFlags};

use super::Context;
use crate::{Error, Result};

const ATTRIBUTE: &str = "security.selinux";

/// Directories of the host that nobody means, and whose loss would be noticed.
const KEPT: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
];

/// Whether a mount's mode asks for labels.
pub fn needs_relabel(mode: &str) -> bool {
    mode.split(',').any(|word| matches!(word, "z" | "Z"))
}

/// Whether it asks for a label that all containers may use.
pub fn is_shared(mode: &str) -> bool {
    mode.split(',').any(|word| word == "z")
}

/// Labels a file, or a directory and all below it. Links are labelled themselves; file systems without labels stay as they are.
pub fn relabel(path: &Path, label: &str, shared: bool) -> Result<()> {
    let cleaned: std::path::PathBuf = path.components().collect();
    if KEPT.iter().any(|kept| Path::new(kept) == cleaned) {
        return Err(Error::invalid(format!(
            "SELinux relabeling of {} is not allowed",
            path.display()
        )));
    }
    let label = match Context::parse(label) {
        Some(context) if shared => Context {
            level: "s0".into(),
            ..context
        }
        .to_string(),
        _ => label.to_owned(),
    };
    // The kernel wants the closing zero byte, as setfilecon(3) sends it.
    let mut value = label.into_bytes();
    value.push(0);
    match label_tree(rustix::fs::CWD, path, &value) {
        Err(error) if is_unsupported(&error) => Ok(()),
        done => done.map_err(|error| Error::caused("set label", error)),
    }
}

/// By descriptor from directory to directory, so that no link put in the way leads elsewhere.
fn label_tree(dir: impl AsFd, name: &Path, value: &[u8]) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
        // Somebody else's work goes on meanwhile.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
    if kind == FileType::Symlink {
        // lsetxattr(2) through the directory; a link has no descriptor that takes attributes.
        let through = match dir.as_fd().as_raw_fd() {
            // The working directory.
            ..0 => name.to_path_buf(),
            fd => Path::new(&format!("/proc/self/fd/{fd}")).join(name),
        };
        rustix::fs::lsetxattr(through, ATTRIBUTE, value, XattrFlags::empty())?;
        return Ok(());
    }
    let through = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::setxattr(through.as_str(), ATTRIBUTE, value, XattrFlags::empty())?;
    if kind != FileType::Directory {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(&place, ".", flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&open)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            label_tree(&open, Path::new(OsStr::from_bytes(name)), value)?;
        }
    }
    Ok(())
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTSUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label_of(path: &Path) -> String {
        let mut value = [0; 256];
        let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value[..]).unwrap_or(0);
        String::from_utf8_lossy(&value[..length])
            .trim_end_matches('\0')
            .to_owned()
    }

    #[test]
    fn modes_ask_for_labels() {
        for (mode, needs, shared) in [
            ("", false, false),
            ("ro,z", true, true),
            ("Z", true, false),
            ("zoo", false, false),
        ] {
            assert_eq!(
                (needs_relabel(mode), is_shared(mode)),
                (needs, shared),
                "{mode}"
            );
        }
    }

    #[test]
    fn directories_of_the_host_keep_their_labels() {
        for path in ["/", "/usr", "/etc/", "/var/lib"] {
            let error = relabel(Path::new(path), "u:r:t:s0", false).expect_err(path);
            assert_eq!(
                error.to_string(),
                format!("SELinux relabeling of {path} is not allowed")
            );
        }
    }

    /// As root, on a kernel whose security module does not own the attribute.
    #[test]
    fn a_whole_tree_is_labelled_and_nothing_outside() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir_all(tree.join("below")).expect("mkdir");
        std::fs::write(tree.join("below/file"), "").expect("write");
        std::fs::write(&outside, "").expect("write");
        std::os::unix::fs::symlink(&outside, tree.join("link")).expect("symlink");
        relabel(&tree, "u:object_r:t:s0:c1,c2", false).expect("labelled");
        for path in [
            tree.clone(),
            tree.join("below"),
            tree.join("below/file"),
            tree.join("link"),
        ] {
            assert_eq!(
                label_of(&path),
                "u:object_r:t:s0:c1,c2",
                "{}",
                path.display()
            );
        }
        assert_eq!(label_of(&outside), "");
        relabel(&tree, "u:object_r:t:s0:c1,c2", true).expect("labelled");
        assert_eq!(label_of(&tree.join("below/file")), "u:object_r:t:s0");
    }
}
