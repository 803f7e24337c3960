//! Single devices: their numbers, the files that name them, the file systems on them.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use wharf_sys::devicemapper::DeviceMapper;

use super::options::DmOptions;
use super::pool::Pool;

/// Numbers of thin devices have 24 bits.
const NUMBERS: u32 = 1 << 24;
/// How long a device may be busy after its last user: others look at new devices too.
const BUSY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// A device of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) number: u32,
    pub(super) bytes: u64,
}

/// What is on every device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    /// `dm.fs`, or XFS where its program is there, as Docker does.
    pub(super) fn choose(asked: Option<&str>) -> io::Result<FileSystem> {
        let runs = |program: &str| Command::new(program).arg("-V").output().is_ok();
        match asked {
            Some("xfs") => Ok(FileSystem::Xfs),
            Some(_) => Ok(FileSystem::Ext4),
            None if runs("mkfs.xfs") => Ok(FileSystem::Xfs),
            None => Ok(FileSystem::Ext4),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }

    pub(super) fn make(self, node: &Path, arguments: &[String]) -> io::Result<()> {
        let (program, own): (&str, &[&str]) = match self {
            FileSystem::Ext4 => (
                "mkfs.ext4",
                &[
                    "-q",
                    "-F",
                    "-E",
                    "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
                ],
            ),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
        };
        run(Command::new(program).args(own).args(arguments).arg(node))
    }

    pub(super) fn mount(self, node: &Path, at: &Path, options: Option<&str>) -> io::Result<()> {
        // A snapshot has its origin's identifier, which XFS takes for the same file system mounted twice.
        let own = match self {
            FileSystem::Ext4 => "discard",
            FileSystem::Xfs => "nouuid,discard",
        };
        let data = match options {
            Some(options) => format!("{own},{options}"),
            None => own.to_owned(),
        };
        let data = std::ffi::CString::new(data)?;
        let flags = MountFlags::empty();
        Ok(rustix::mount::mount(
            node,
            at,
            self.name(),
            flags,
            data.as_c_str(),
        )?)
    }

    /// Takes the device's new size; it is mounted at `at`.
    pub(super) fn grow(self, node: &Path, at: &Path) -> io::Result<()> {
        match self {
            FileSystem::Ext4 => run(Command::new("resize2fs").arg(node)),
            FileSystem::Xfs => run(Command::new("xfs_growfs").arg(at)),
        }
    }
}

/// What the names of all devices of `home` start with: no two data roots share it.
pub(super) fn prefix(home: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(home)?;
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(format!("wharf-{major}:{minor}-{}", metadata.ino()))
}

/// The file that names the device of a tree.
pub(super) fn file(tree: &Path) -> PathBuf {
    tree.with_file_name("device")
}

/// Reads `<number> <bytes>`.
pub(super) fn read(file: &Path) -> io::Result<Device> {
    let text = std::fs::read_to_string(file)?;
    let parsed = text.trim().split_once(' ').and_then(|(number, bytes)| {
        Some(Device {
            number: number.parse().ok()?,
            bytes: bytes.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| {
        let text = format!("{} does not name a device", file.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// The file is there whole or not at all.
pub(super) fn write(file: &Path, device: Device) -> io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{} {}\n", device.number, device.bytes))?;
    std::fs::rename(new, file)
}

/// Numbers that files below `home` name.
pub(super) fn numbers(home: &Path) -> io::Result<HashSet<u32>> {
    let mut numbers = HashSet::new();
    for entry in std::fs::read_dir(home)? {
        if let Ok(device) = read(&entry?.path().join("device")) {
            numbers.insert(device.number);
        }
    }
    Ok(numbers)
}

/// Takes a free number and writes the file that says so.
pub(super) fn claim(numbers: &mut HashSet<u32>, file: &Path, bytes: u64) -> io::Result<Device> {
    let number = (1..NUMBERS).find(|number| !numbers.contains(number));
    let number = number.ok_or_else(|| io::Error::other("the pool has no numbers left"))?;
    let device = Device { number, bytes };
    write(file, device)?;
    numbers.insert(number);
    Ok(device)
}

/// The base device with its file system. Its file has its name only when all is done.
pub(super) fn ensure_base(
    mapper: &DeviceMapper,
    pool: &Pool,
    home: &Path,
    options: &DmOptions,
    file_system: FileSystem,
    numbers: &mut HashSet<u32>,
) -> io::Result<Device> {
    let dir = home.join("base");
    let file = dir.join("device");
    match read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    std::fs::create_dir_all(dir.join("diff"))?;
    let name = pool.device_name("base");
    let bytes = options.base_bytes;
    // Number 0 is never given to anything else, so what a kill left of it can go.
    let device = Device { number: 0, bytes };
    numbers.insert(device.number);
    unmount_all(&dir.join("diff"))?;
    remove_idle(mapper, &name)?;
    pool.delete(mapper, device.number)?;
    pool.create_thin(mapper, device.number)?;
    let node = pool.activate(mapper, &name, device)?;
    file_system.make(&node, &options.mkfs_arguments)?;
    prepare(file_system, &node, &dir.join("diff"))?;
    remove_idle(mapper, &name)?;
    write(&file, device)?;
    Ok(device)
}

/// An empty root, as every layer's should be.
fn prepare(file_system: FileSystem, node: &Path, at: &Path) -> io::Result<()> {
    file_system.mount(node, at, None)?;
    let _ = std::fs::remove_dir(at.join("lost+found"));
    let made = rustix::fs::chmod(at, rustix::fs::Mode::from_raw_mode(0o755));
    rustix::mount::unmount(at, UnmountFlags::empty())?;
    Ok(made?)
}

/// Takes away whatever is mounted at `path`.
pub(super) fn unmount_all(path: &Path) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes an active device, in a moment if it is still busy. One that is not active is fine.
pub(super) fn remove_idle(mapper: &DeviceMapper, name: &str) -> io::Result<()> {
    let end = Instant::now() + BUSY;
    loop {
        match mapper.remove(name) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Ok(()),
            Err(error)
                if error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                    && Instant::now() < end =>
            {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Runs a program; what it complained about is the error.
pub(super) fn run(command: &mut Command) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", complaint.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_claimed_once_and_found_again() {
        let home = tempfile::tempdir().expect("a directory");
        let mut taken = HashSet::from([0, 1]);
        for expected in [2, 3] {
            let dir = home.path().join(expected.to_string());
            std::fs::create_dir(&dir).expect("mkdir");
            let device = claim(&mut taken, &dir.join("device"), 4096).expect("a number");
            assert_eq!(device.number, expected);
            assert_eq!(read(&dir.join("device")).expect("written"), device);
        }
        assert_eq!(numbers(home.path()).expect("read"), HashSet::from([2, 3]));
    }
}
