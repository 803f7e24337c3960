//! Extended attributes of open files: all that mean something elsewhere too.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Those that file systems and security modules keep for themselves.
const FOREIGN: [&[u8]; 6] = [
    b"trusted.overlay.",
    b"user.overlay.",
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"system.nfs4_acl",
];

/// A name and its value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// Names and values. A file system without attributes has none.
pub fn read(fd: BorrowedFd<'_>) -> Result<Vec<Attribute>, Errno> {
    let mut names = [0; 1024];
    let listed = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => names[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut names = vec![0; 64 * 1024];
            let length = rustix::fs::flistxattr(fd, names.as_mut_slice())?;
            names.truncate(length);
            names
        }
        Err(error) => return Err(error),
    };
    let mut attributes = Vec::new();
    let names = listed.split(|byte| *byte == 0);
    for name in names.filter(|name| is_portable(name)) {
        match value(fd, name) {
            Ok(value) => attributes.push((name.to_vec(), value)),
            // Taken away meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort();
    Ok(attributes)
}

/// Sets attributes; what this file system or name does not take is left out, as Docker does.
pub fn write(fd: BorrowedFd<'_>, attributes: &[Attribute]) -> Result<(), Errno> {
    for (name, value) in attributes.iter().filter(|(name, _)| is_portable(name)) {
        match rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::PERM | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_portable(name: &[u8]) -> bool {
    !name.is_empty() && !FOREIGN.iter().any(|foreign| name.starts_with(foreign))
}

fn value(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(fd, OsStr::from_bytes(name), value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                break;
            }
            Err(Errno::RANGE) if value.len() < 64 * 1024 => value.resize(64 * 1024, 0),
            Err(error) => return Err(error),
        }
    }
    if name == b"security.capability" {
        to_revision_2(&mut value);
    }
    Ok(value)
}

/// The root of a user namespace, which revision 3 names (`linux/capability.h`), means nothing elsewhere.
fn to_revision_2(value: &mut Vec<u8>) {
    const LENGTH: usize = 20;
    if value.len() > LENGTH && value[3] == 3 {
        value[3] = 2;
        value.truncate(LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn attributes_are_copied_without_overlays_own() {
        let (from, to) = (
            tempfile::tempfile_in(".").expect("a file"),
            tempfile::tempfile_in(".").expect("a file"),
        );
        let long = vec![7; 3000];
        for (name, value) in [
            ("user.a", &b"1"[..]),
            ("user.long", &long),
            ("user.overlay.x", b"no"),
        ] {
            rustix::fs::fsetxattr(&from, name, value, XattrFlags::empty()).expect("set");
        }
        let read_ones = read(from.as_fd()).expect("read");
        write(to.as_fd(), &read_ones).expect("written");
        assert_eq!(
            read_ones,
            [
                (b"user.a".to_vec(), b"1".to_vec()),
                (b"user.long".to_vec(), long)
            ]
        );
        assert_eq!(read(to.as_fd()).expect("read"), read_ones);
    }

    #[test]
    fn capabilities_lose_their_namespace() {
        let mut value = [&[1, 0, 0, 3][..], &[9; 16], &[5; 4]].concat();
        to_revision_2(&mut value);
        assert_eq!(value, [&[1, 0, 0, 2][..], &[9; 16]].concat());
    }
}
