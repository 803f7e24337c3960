//! `tmpcopyup`: a new tmpfs begins with what it covers.
//!
//! By descriptor on both sides, following no link: what is copied is the image's, and hostile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    fchmod, fchown, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};

/// Copies what is in directory `from`, and the directory's own mode and owner, to the empty directory `to`.
pub(super) fn copy_dir(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let from = open_dir(from, ".")?;
    let to = open_dir(to, ".")?;
    let stat = rustix::fs::fstat(&from)?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from.as_fd(), to.as_fd(), name)?;
        }
    }
    fchown(&to, Some(owner(&stat).0), Some(owner(&stat).1))?;
    fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(())
}

fn open_dir(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let (from, to) = (open_dir(from, name)?, open_dir(to, name)?);
            return copy_dir(from.as_fd(), to.as_fd());
        }
        FileType::RegularFile => copy_file(from, to, name)?,
        FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
        kind => mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    let (uid, gid) = owner(&stat);
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // After the owner, whose change takes set-user-ID away. Just made by us, so it is no link.
        chmodat(to, name, mode, AtFlags::empty())?;
    }
    let time = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, flags, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut copy = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut copy)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn everything_is_copied_and_links_stay_links() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).expect("mkdir");
        fs::create_dir(&to).expect("mkdir");
        fs::write(from.join("sub/file"), "text").expect("write");
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o751))
            .expect("mode");
        symlink("/etc/shadow", from.join("link")).expect("link");
        let open = |path: &std::path::Path| File::open(path).expect("open");
        copy_dir(open(&from).as_fd(), open(&to).as_fd()).expect("copied");
        assert_eq!(
            fs::read_to_string(to.join("sub/file")).expect("there"),
            "text"
        );
        let mode = fs::metadata(to.join("sub/file"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o751);
        let link = fs::read_link(to.join("link")).expect("a link");
        assert_eq!(link, std::path::Path::new("/etc/shadow"));
    }
}
