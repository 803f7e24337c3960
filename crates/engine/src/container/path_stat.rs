//! What `HEAD /containers/{id}/archive` tells about a path: Go's view of a file.

use jiff::Timestamp;
use rustix::fs::{FileType, Stat};
use wharf_api::container::PathStat;
use wharf_api::time::rfc3339_nano;
use wharf_archive::root::{Root, base};

/// Bits of Go's `fs.FileMode`.
mod mode {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const NAMED_PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHAR_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
}

/// Describes what is at `path`, where `stat` was found.
pub fn describe(root: &Root, path: &[u8], stat: &Stat) -> PathStat {
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let target = if is_link {
        root.resolve(path).unwrap_or_default()
    } else {
        Vec::new()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    PathStat {
        name: text(base(path)),
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        mtime: modified(stat),
        link_target: text(&target),
    }
}

fn modified(stat: &Stat) -> String {
    let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Timestamp::new(stat.st_mtime, nanos)
        .map_or_else(|_| "0001-01-01T00:00:00Z".into(), rfc3339_nano)
}

fn go_mode(raw: u32) -> u32 {
    let kind = match FileType::from_raw_mode(raw) {
        FileType::Directory => mode::DIR,
        FileType::Symlink => mode::SYMLINK,
        FileType::BlockDevice => mode::DEVICE,
        FileType::CharacterDevice => mode::DEVICE | mode::CHAR_DEVICE,
        FileType::Fifo => mode::NAMED_PIPE,
        FileType::Socket => mode::SOCKET,
        _ => 0,
    };
    let special = [
        (0o4000, mode::SETUID),
        (0o2000, mode::SETGID),
        (0o1000, mode::STICKY),
    ];
    let special = special.iter().filter(|(bit, _)| raw & bit != 0);
    special.fold(kind | raw & 0o777, |mode, (_, bit)| mode | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (raw, expected) in [
            (0o100_644, 0o644),
            (0o104_755, 0o755 | mode::SETUID),
            (0o041_777, mode::DIR | mode::STICKY | 0o777),
            (0o120_777, mode::SYMLINK | 0o777),
            (0o020_666, mode::DEVICE | mode::CHAR_DEVICE | 0o666),
        ] {
            assert_eq!(go_mode(raw), expected, "{raw:o}");
        }
    }
}
