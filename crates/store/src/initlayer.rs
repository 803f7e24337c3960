//! The layer between image and read-write layer: mount points for what the engine binds into a container, so that they
//! show up neither in the image nor in a commit.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Docker gives it to directories and files alike.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// Directories, parents first.
const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "proc", "sys", "etc"];

/// Empty files.
const FILES: [&str; 5] = [
    ".dockerenv",
    "dev/console",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
];

/// Whether the engine itself puts something at this path below the root.
#[must_use]
pub fn has(path: &Path) -> bool {
    let listed = DIRECTORIES.iter().chain(&FILES).chain(&["etc/mtab"]);
    listed.map(Path::new).any(|own| own == path)
}

/// Fills an empty directory. Docker makes these entries in every container, whatever the image has.
pub(crate) fn create(diff: &Path) -> io::Result<()> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(diff, dir, Mode::empty())?;
    for name in DIRECTORIES {
        rustix::fs::mkdirat(&root, name, MODE)?;
        rustix::fs::chmodat(&root, name, MODE, AtFlags::empty())?;
    }
    for name in FILES {
        create_file(&root, name)?;
    }
    Ok(rustix::fs::symlinkat("/proc/mounts", &root, "etc/mtab")?)
}

/// Adds to a whole tree what it lacks of the layer. Docker leaves alone what an image has. An image's `/etc` or `/dev` may be a link to
/// anywhere: parents are found as a process rooted in the tree would.
pub(crate) fn complete(tree: &Path) -> io::Result<()> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(tree, dir, Mode::empty())?;
    for path in DIRECTORIES {
        missing(&root, path, |parent, name| {
            rustix::fs::mkdirat(parent, name, MODE)?;
            Ok(rustix::fs::chmodat(parent, name, MODE, AtFlags::empty())?)
        })?;
    }
    for path in FILES {
        missing(&root, path, create_file)?;
    }
    missing(&root, "etc/mtab", |parent, name| {
        Ok(rustix::fs::symlinkat("/proc/mounts", parent, name)?)
    })
}

/// Makes what the tree has not, unless it has no room for it.
fn missing(
    root: &OwnedFd,
    path: &str,
    make: impl FnOnce(&OwnedFd, &str) -> io::Result<()>,
) -> io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let parent = match rustix::fs::openat2(root, parent, flags, Mode::empty(), resolve) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match make(&parent, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn create_file(root: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, name, flags, MODE)?;
    // The process's umask must not matter.
    Ok(rustix::fs::fchmod(file, MODE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_mount_points_of_docker() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        create(dir.path()).expect("created");
        for name in DIRECTORIES {
            assert!(dir.path().join(name).is_dir(), "{name}");
        }
        for name in FILES {
            assert_eq!(
                std::fs::metadata(dir.path().join(name)).expect(name).len(),
                0,
                "{name}"
            );
        }
        assert_eq!(
            std::fs::read_link(dir.path().join("etc/mtab")).expect("a link"),
            Path::new("/proc/mounts")
        );
    }

    #[test]
    fn links_of_an_image_do_not_lead_out_of_its_tree() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir_all(tree.join("real")).expect("mkdir");
        std::fs::create_dir(&outside).expect("mkdir");
        std::os::unix::fs::symlink("/real", tree.join("etc")).expect("symlink");
        std::os::unix::fs::symlink(&outside, tree.join("dev")).expect("symlink");
        complete(&tree).expect("completed");
        assert!(tree.join("real/hosts").is_file());
        assert_eq!(std::fs::read_dir(outside).expect("there").count(), 0);
    }
}
