//! Paths inside the container's root, resolved so that no link in the image leads out of it.
//!
//! The image is hostile: `/etc` may be a link to `../../etc`, `/dev/shm` to a file of the host. Every path is
//! resolved by the kernel with `RESOLVE_IN_ROOT`, which treats the root as `/` for links and `..` alike and, with
//! `RESOLVE_NO_MAGICLINKS`, does not follow `/proc/<pid>/fd` and its like. What is opened is then used by
//! descriptor only.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// As many links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The container's root directory, before and after `pivot_root`.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
}

impl Root {
    pub(super) fn new(fd: OwnedFd) -> Root {
        Root { fd }
    }

    /// Opens an existing path.
    pub(super) fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(self.resolve(path, flags)?)
    }

    fn resolve(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            // The kernel gives EAGAIN when a rename elsewhere raced with `..`.
            match openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
                Err(Errno::AGAIN) => {}
                done => return done,
            }
        }
    }

    /// Opens a path, refusing links anywhere in it.
    pub(super) fn open_no_links(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(
            &self.fd,
            path.trim_start_matches('/'),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            how,
        )?)
    }

    /// Opens a directory, with all its missing parents made (mode 0755). Links to paths that do not exist yet are
    /// followed and made too, inside the root.
    pub(super) fn ensure_dir(&self, path: &str) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => self.make_dirs(path),
            done => Ok(done?),
        }
    }

    fn make_dirs(&self, path: &str) -> io::Result<OwnedFd> {
        let mut todo: VecDeque<String> = components(path).map(String::from).collect();
        let mut here = String::new();
        let mut dir = self.resolve("/", OFlags::PATH | OFlags::DIRECTORY)?;
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let next = format!("{here}/{name}");
            match self.resolve(&next, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(fd) => (dir, here) = (fd, next),
                Err(Errno::NOENT) => match mkdirat(&dir, &name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {
                        (dir, here) = (self.resolve(&next, OFlags::PATH | OFlags::DIRECTORY)?, next)
                    }
                    Err(Errno::EXIST) => {
                        links += 1;
                        let target = self.dangling(dir.as_fd(), &name, links)?;
                        if target.starts_with('/') {
                            here = String::new();
                            dir = self.resolve("/", OFlags::PATH | OFlags::DIRECTORY)?;
                        }
                        components(&target)
                            .rev()
                            .for_each(|c| todo.push_front(c.to_string()));
                    }
                    Err(e) => return Err(e.into()),
                },
                Err(e) => return Err(e.into()),
            }
        }
        Ok(dir)
    }

    /// Where a link points that exists although what it names does not.
    fn dangling(&self, dir: BorrowedFd<'_>, name: &str, links: usize) -> io::Result<String> {
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(dir, name, Vec::new())?;
        target.into_string().map_err(|_| Errno::ILSEQ.into())
    }

    /// Opens a file to mount over, made empty when missing.
    pub(super) fn ensure_file(&self, path: &str) -> io::Result<OwnedFd> {
        self.ensure_file_within(path, 0)
    }

    fn ensure_file_within(&self, path: &str, links: usize) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            done => return Ok(done?),
        }
        let (parent, name) = split(path)?;
        let dir = self.ensure_dir(parent)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        match openat(&dir, name, flags, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {
                let target = self.dangling(dir.as_fd(), name, links + 1)?;
                let target = if target.starts_with('/') {
                    target
                } else {
                    format!("{parent}/{target}")
                };
                self.ensure_file_within(&target, links + 1)
            }
            done => {
                done?;
                Ok(self.resolve(path, OFlags::PATH)?)
            }
        }
    }

    /// The directory of a path (made when missing) and the last name in it, for calls that make what they name.
    pub(super) fn parent<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        let (parent, name) = split(path)?;
        Ok((self.ensure_dir(parent)?, name))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn components(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|c| !c.is_empty() && *c != ".")
}

fn split(path: &str) -> io::Result<(&str, &str)> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "" | "." | ".." => Err(Errno::INVAL.into()),
        _ => Ok((parent, name)),
    }
}

/// What kind of file a descriptor is.
pub(super) fn file_type(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    let stat = statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A directory that is removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> (Scratch, Root) {
            let dir =
                std::env::temp_dir().join(format!("wharf-root-{name}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("root")).expect("scratch");
            let fd = rustix::fs::open(
                dir.join("root"),
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .expect("open");
            (Scratch(dir), Root::new(fd))
        }

        fn root(&self) -> PathBuf {
            self.0.join("root")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_out_of_the_root_stay_inside() {
        let (scratch, root) = Scratch::new("links");
        symlink("../../../../../../tmp", scratch.root().join("up")).expect("link");
        symlink("/absolute/place", scratch.root().join("abs")).expect("link");
        root.ensure_dir("/up/made").expect("made");
        assert!(scratch.root().join("tmp/made").is_dir());
        root.ensure_dir("/abs/x").expect("made");
        assert!(scratch.root().join("absolute/place/x").is_dir());
        root.ensure_file("/abs/y").expect("made");
        assert!(scratch.root().join("absolute/place/y").is_file());
    }

    #[test]
    fn dangling_file_links_are_made_where_they_point() {
        let (scratch, root) = Scratch::new("dangling");
        std::fs::create_dir(scratch.root().join("etc")).expect("dir");
        symlink("../run/resolv.conf", scratch.root().join("etc/resolv.conf")).expect("link");
        root.ensure_file("/etc/resolv.conf").expect("made");
        assert!(scratch.root().join("run/resolv.conf").is_file());
    }

    #[test]
    fn link_loops_end() {
        let (scratch, root) = Scratch::new("loops");
        symlink("b", scratch.root().join("a")).expect("link");
        symlink("a", scratch.root().join("b")).expect("link");
        assert!(root.ensure_dir("/a/x").is_err());
        assert!(root.ensure_file("/a").is_err());
    }

    #[test]
    fn a_path_without_a_last_name_is_refused() {
        for path in ["/", "", "/a/..", "/a/."] {
            assert!(split(path).is_err(), "{path}");
        }
        assert_eq!(split("/a/b/").expect("valid"), ("/a", "b"));
    }
}
