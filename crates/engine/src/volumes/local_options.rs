//! Options of the `local` driver: what is mounted where a volume's data is (moby `daemon/volume/local/local_unix.go`).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::{Error, Result};

/// What depends on what.
const NEEDS: [(&str, &[&str]); 3] = [
    ("device", &["type"]),
    ("type", &["device"]),
    ("o", &["device", "type"]),
];

/// Refuses what the driver does not know or cannot do.
pub fn check(options: &BTreeMap<String, String>) -> Result<()> {
    let known = ["type", "o", "device", "size"];
    if let Some(unknown) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    if options.get("size").is_some_and(|size| size != "0") {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    for (option, needed) in NEEDS {
        let missing = needed.iter().find(|needed| !options.contains_key(**needed));
        if let (true, Some(missing)) = (options.contains_key(option), missing) {
            return Err(Error::invalid(format!(
                "missing required option: {missing:?}"
            )));
        }
    }
    Ok(())
}

/// A mount as mount(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    device: String,
    kind: String,
    flags: u32,
    data: String,
}

/// Flags of mount(8) by name: bits to set and to clear.
fn flag(name: &str) -> Option<(u32, u32)> {
    let flags = MountFlags::RDONLY;
    let set = |flag: MountFlags| Some((flag.bits(), 0));
    let clear = |flag: MountFlags| Some((0, flag.bits()));
    match name {
        "ro" => set(flags),
        "rw" => clear(flags),
        "nosuid" => set(MountFlags::NOSUID),
        "suid" => clear(MountFlags::NOSUID),
        "nodev" => set(MountFlags::NODEV),
        "dev" => clear(MountFlags::NODEV),
        "noexec" => set(MountFlags::NOEXEC),
        "exec" => clear(MountFlags::NOEXEC),
        "sync" => set(MountFlags::SYNCHRONOUS),
        "async" => clear(MountFlags::SYNCHRONOUS),
        "dirsync" => set(MountFlags::DIRSYNC),
        "noatime" => set(MountFlags::NOATIME),
        "atime" => clear(MountFlags::NOATIME),
        "nodiratime" => set(MountFlags::NODIRATIME),
        "diratime" => clear(MountFlags::NODIRATIME),
        "relatime" => set(MountFlags::RELATIME),
        "norelatime" => clear(MountFlags::RELATIME),
        "strictatime" => set(MountFlags::STRICTATIME),
        "nostrictatime" => clear(MountFlags::STRICTATIME),
        "bind" => Some((BIND, 0)),
        "rbind" => Some((BIND | REC, 0)),
        "defaults" | "" => Some((0, 0)),
        _ => None,
    }
}

/// `MS_BIND` and `MS_REC` of `linux/mount.h`.
const BIND: u32 = 4096;
const REC: u32 = 16384;

impl MountPlan {
    /// `None` for a volume that is a plain directory.
    pub fn of(options: &BTreeMap<String, String>) -> Option<MountPlan> {
        let text = |key: &str| options.get(key).cloned().unwrap_or_default();
        let (device, kind) = (text("device"), text("type"));
        if device.is_empty() && kind.is_empty() {
            return None;
        }
        let (mut flags, mut data) = (0, Vec::new());
        let given = text("o");
        for option in given.split(',') {
            match flag(option) {
                Some((set, clear)) => flags = flags & !clear | set,
                None => data.push(option),
            }
        }
        Some(MountPlan {
            device,
            kind,
            flags,
            data: data.join(","),
        })
    }

    /// Mounts on a directory of the host.
    pub fn execute(&self, target: &Path) -> Result<()> {
        let failed = |error: io::Error| Error::caused("failed to mount local volume", error);
        if self.device.is_empty() {
            return Err(Error::internal("missing device in volume options"));
        }
        let data = CString::new(self.resolved_data()?).map_err(|error| failed(error.into()))?;
        let flags = MountFlags::from_bits_retain(self.flags);
        mount(
            self.device.as_str(),
            target,
            self.kind.as_str(),
            flags,
            data.as_c_str(),
        )
        .map_err(|errno| self.refused(target, errno.into()))?;
        // The kernel takes no attributes with a bind at first.
        let attributes = self.flags & !(BIND | REC);
        if self.flags & BIND != 0 && attributes != 0 {
            let flags = MountFlags::from_bits_retain(attributes | BIND);
            mount_remount(target, flags, c"").map_err(|errno| failed(errno.into()))?;
        }
        Ok(())
    }

    /// Go's text, without a password.
    fn refused(&self, target: &Path, error: io::Error) -> Error {
        let hidden = |option: &str| match option.split_once('=') {
            Some(("password", _)) => "password=********".to_owned(),
            _ => option.to_owned(),
        };
        let data: Vec<String> = self.data.split(',').map(hidden).collect();
        let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
        let text = wharf_archive::extract::errno_text(errno);
        let data = data.join(",");
        let data = if data.is_empty() {
            data
        } else {
            format!(", data: {data}")
        };
        Error::internal(format!(
            "failed to mount local volume: mount {}:{}{data}: {text}",
            self.device,
            target.display()
        ))
    }

    /// The kernel takes servers of network file systems by number only.
    fn resolved_data(&self) -> Result<String> {
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok(self.data.clone());
        }
        let mut options = Vec::new();
        for option in self.data.split(',') {
            match option.strip_prefix("addr=") {
                Some(name) if name.parse::<IpAddr>().is_err() => {
                    options.push(format!("addr={}", address_of(name)?));
                }
                _ => options.push(option.to_owned()),
            }
        }
        Ok(options.join(","))
    }
}

fn address_of(name: &str) -> Result<IpAddr> {
    let failed = |error| Error::caused("error resolving passed in network volume address", error);
    let mut found = (name, 0).to_socket_addrs().map_err(failed)?;
    let first = found
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok(first.ip())
}

/// Whether something is mounted on a directory.
pub fn is_mounted(path: &Path) -> bool {
    /// `STATX_ATTR_MOUNT_ROOT` of `linux/stat.h` (Linux 5.8).
    const MOUNT_ROOT: u64 = 0x2000;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(rustix::fs::CWD, path, flags, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.bits() & MOUNT_ROOT != 0)
}

/// Takes away what [`MountPlan::execute`] has mounted; whoever still uses it keeps it.
pub fn take_down(path: &Path) -> Result<()> {
    if !is_mounted(path) {
        return Ok(());
    }
    unmount(path, UnmountFlags::DETACH)
        .map_err(|errno| Error::caused("unmount local volume", io::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn options_are_refused_in_dockers_words() {
        for (pairs, message) in [
            (&[("odd", "x")][..], "invalid option: \"odd\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("o", "ro")], "missing required option: \"device\""),
            (
                &[("size", "1g")],
                "quota size requested but no quota support",
            ),
        ] {
            let error = check(&options(pairs)).expect_err("refused");
            assert_eq!(error.to_string(), message);
        }
        assert!(
            check(&options(&[
                ("type", "none"),
                ("device", "/x"),
                ("o", "bind")
            ]))
            .is_ok()
        );
    }

    #[test]
    fn options_become_flags_and_data() {
        let plan = MountPlan::of(&options(&[
            ("type", "tmpfs"),
            ("device", "tmpfs"),
            ("o", "size=1m,nosuid,ro,uid=5,rw"),
        ]))
        .expect("a mount");
        assert_eq!(
            (plan.flags, plan.data.as_str()),
            (MountFlags::NOSUID.bits(), "size=1m,uid=5")
        );
        assert_eq!(MountPlan::of(&BTreeMap::new()), None);
    }
}
