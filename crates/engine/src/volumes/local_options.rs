//! Options of the `local` driver: what is mounted where a volume's data is (moby `daemon/volume/local/local_unix.go`).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};

use wharf_api::units::ram_in_bytes;

use crate::{Error, Result};

/// What depends on what.
const NEEDS: [(&str, &[&str]); 3] = [
    ("device", &["type"]),
    ("type", &["device"]),
    ("o", &["device", "type"]),
];

/// Refuses what the driver does not know or cannot do. `quotas`: the file system of the volumes can limit directories.
pub fn check(options: &BTreeMap<String, String>, quotas: bool) -> Result<()> {
    let known = ["type", "o", "device", "size"];
    if let Some(unknown) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    check_device(options)?;
    let size = size(options)?;
    if size.is_some() && !quotas {
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

/// Bytes that the volume may grow to (go-units `RAMInBytes`); 0 is no limit.
pub fn size(options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let Some(text) = options.get("size") else {
        return Ok(None);
    };
    let bytes = ram_in_bytes(text).and_then(|bytes| u64::try_from(bytes).ok());
    let bytes = bytes.ok_or_else(|| Error::invalid(format!("invalid size: '{text}'")))?;
    if bytes > 0 && options.contains_key("device") {
        return Err(Error::invalid(
            "size limits the volume's own directory, and cannot be given together with device",
        ));
    }
    Ok((bytes > 0).then_some(bytes))
}

/// A port in the address of a Windows share would be taken for a part of its name.
fn check_device(options: &BTreeMap<String, String>) -> Result<()> {
    let share = options
        .get("device")
        .filter(|_| options.get("type").is_some_and(|kind| kind == "cifs"));
    match share.and_then(|device| share_host(device)) {
        Some((host, _)) if has_port(host) => Err(Error::invalid(
            "port not allowed in CIFS device URL, include 'port' in 'o='",
        )),
        _ => Ok(()),
    }
}

/// `//host/share` as host and rest.
fn share_host(device: &str) -> Option<(&str, &str)> {
    let rest = device.strip_prefix("//")?;
    let end = rest.find('/').unwrap_or(rest.len());
    Some(rest.split_at(end)).filter(|(host, _)| !host.is_empty())
}

fn has_port(host: &str) -> bool {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()))
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
        "mand" => Some((MAND, 0)),
        "nomand" => Some((0, MAND)),
        "bind" => Some((BIND, 0)),
        "rbind" => Some((BIND | REC, 0)),
        "private" => Some((PRIVATE, 0)),
        "rprivate" => Some((PRIVATE | REC, 0)),
        "shared" => Some((SHARED, 0)),
        "rshared" => Some((SHARED | REC, 0)),
        "slave" => Some((SLAVE, 0)),
        "rslave" => Some((SLAVE | REC, 0)),
        "unbindable" => Some((UNBINDABLE, 0)),
        "runbindable" => Some((UNBINDABLE | REC, 0)),
        "defaults" | "" => Some((0, 0)),
        _ => None,
    }
}

/// `MS_*` of `linux/mount.h`.
const MAND: u32 = 1 << 6;
const BIND: u32 = 1 << 12;
const REC: u32 = 1 << 14;
const UNBINDABLE: u32 = 1 << 17;
const PRIVATE: u32 = 1 << 18;
const SLAVE: u32 = 1 << 19;
const SHARED: u32 = 1 << 20;
/// What the kernel takes in a call of its own.
const PROPAGATION: u32 = UNBINDABLE | PRIVATE | SLAVE | SHARED;

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
        if self.device.is_empty() {
            return Err(Error::internal("missing device in volume options"));
        }
        let plan = self.resolved(address_of)?;
        let refused = |errno: Errno| plan.refused(target, errno);
        let data = CString::new(plan.data.as_str())
            .map_err(|error| Error::caused("failed to mount local volume", error))?;
        let flags = MountFlags::from_bits_retain(plan.flags & !PROPAGATION);
        mount(
            plan.device.as_str(),
            target,
            plan.kind.as_str(),
            flags,
            data.as_c_str(),
        )
        .map_err(refused)?;
        plan.finish(target).map_err(|errno| {
            // Half of what was asked for is nothing.
            let _ = unmount(target, UnmountFlags::DETACH);
            refused(errno)
        })
    }

    /// The kernel takes no attributes with a bind at first, and propagation never with anything else.
    fn finish(&self, target: &Path) -> rustix::io::Result<()> {
        let attributes = self.flags & !(BIND | REC | PROPAGATION);
        if self.flags & BIND != 0 && attributes != 0 {
            let flags = MountFlags::from_bits_retain(attributes | BIND);
            mount_remount(target, flags, c"")?;
        }
        if self.flags & PROPAGATION != 0 {
            let flags = self.flags & (PROPAGATION | REC);
            mount_change(target, MountPropagationFlags::from_bits_retain(flags))?;
        }
        Ok(())
    }

    /// Go's text (moby/sys `mountError`), without a password.
    fn refused(&self, target: &Path, errno: Errno) -> Error {
        let hidden = |option: &str| match option.split_once('=') {
            Some(("password", _)) => "password=********".to_owned(),
            _ => option.to_owned(),
        };
        let mut text = format!("{}:{}", self.device, target.display());
        if self.flags != 0 {
            text.push_str(&format!(", flags: {:#x}", self.flags));
        }
        if !self.data.is_empty() {
            let data: Vec<String> = self.data.split(',').map(hidden).collect();
            text.push_str(&format!(", data: {}", data.join(",")));
        }
        Error::internal(format!(
            "failed to mount local volume: mount {text}: {}",
            wharf_archive::extract::errno_text(errno)
        ))
    }

    /// The kernel takes servers of network file systems by number only.
    fn resolved(&self, address_of: impl Fn(&str) -> Result<IpAddr>) -> Result<MountPlan> {
        let mut plan = self.clone();
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok(plan);
        }
        let (mut options, mut named) = (Vec::new(), false);
        for option in self.data.split(',') {
            match option.strip_prefix("addr=") {
                Some(name) => {
                    named = true;
                    options.push(format!("addr={}", number(name, &address_of)?));
                }
                None => options.push(option.to_owned()),
            }
        }
        plan.data = options.join(",");
        if self.kind == "cifs"
            && !named
            && let Some((host, rest)) = share_host(&self.device)
        {
            plan.device = format!("//{}{rest}", number(host, &address_of)?);
        }
        Ok(plan)
    }
}

fn number(name: &str, address_of: &impl Fn(&str) -> Result<IpAddr>) -> Result<String> {
    if name.is_empty() || name.parse::<IpAddr>().is_ok() {
        return Ok(name.to_owned());
    }
    address_of(name).map(|address| address.to_string())
}

fn address_of(name: &str) -> Result<IpAddr> {
    let failed = |error| Error::caused("error resolving passed in network volume address", error);
    let found: Vec<_> = (name, 0).to_socket_addrs().map_err(failed)?.collect();
    // IPv4 first, as Go's `net.ResolveIPAddr`.
    let first = found.iter().find(|found| found.is_ipv4()).or(found.first());
    let first = first.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
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
            let error = check(&options(pairs), false).expect_err("refused");
            assert_eq!(error.to_string(), message);
        }
        let bind = [("type", "none"), ("device", "/x"), ("o", "bind")];
        assert!(check(&options(&bind), false).is_ok());
        let sized = [&bind[..], &[("size", "1g")]].concat();
        assert!(check(&options(&sized), true).is_err());
        assert!(check(&options(&[("size", "big")]), true).is_err());
        assert!(check(&options(&[("size", "0")]), false).is_ok());
        assert_eq!(
            size(&options(&[("size", "1g")])).expect("fits"),
            Some(1 << 30)
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

    /// What mount(2) is given for servers elsewhere, as moby's `getMountOptions` and `mount.Mount` do it.
    #[test]
    fn servers_are_given_to_the_kernel_by_number() {
        let lookup = |name: &str| match name {
            "storage" => Ok(IpAddr::from([192, 0, 2, 7])),
            other => Err(Error::internal(format!("no such host {other}"))),
        };
        let nfs = [("type", "nfs"), ("device", ":/export")];
        let cifs = |device: &'static str| [("type", "cifs"), ("device", device)];
        for (base, o, expected) in [
            (
                nfs,
                "addr=storage,rw,nfsvers=4",
                ":/export addr=192.0.2.7,nfsvers=4 0x0",
            ),
            (
                nfs,
                "addr=192.0.2.1,ro,soft",
                ":/export addr=192.0.2.1,soft 0x1",
            ),
            (nfs, "addr=2001:db8::1", ":/export addr=2001:db8::1 0x0"),
            (nfs, "nolock", ":/export nolock 0x0"),
            (
                cifs("//storage/share/dir"),
                "username=u,password=p",
                "//192.0.2.7/share/dir username=u,password=p 0x0",
            ),
            (
                cifs("//storage/share"),
                "addr=storage,username=u",
                "//storage/share addr=192.0.2.7,username=u 0x0",
            ),
            (
                cifs("//192.0.2.9/share"),
                "guest",
                "//192.0.2.9/share guest 0x0",
            ),
        ] {
            let all = [&base[..], &[("o", o)]].concat();
            let plan = MountPlan::of(&options(&all)).expect("a mount");
            let plan = plan.resolved(lookup).expect("resolved");
            let seen = format!("{} {} {:#x}", plan.device, plan.data, plan.flags);
            assert_eq!(seen, expected);
        }
        let unknown = [&nfs[..], &[("o", "addr=nowhere")]].concat();
        let plan = MountPlan::of(&options(&unknown)).expect("a mount");
        assert!(plan.resolved(lookup).is_err());
        let port = check(&options(&cifs("//storage:445/share")), false).expect_err("refused");
        assert!(port.to_string().starts_with("port not allowed"), "{port}");
    }

    #[test]
    fn refusals_name_the_call_but_no_password() {
        let plan = MountPlan::of(&options(&[
            ("type", "cifs"),
            ("device", "//192.0.2.9/s"),
            ("o", "ro,username=u,password=secret"),
        ]))
        .expect("a mount");
        assert_eq!(
            plan.refused(Path::new("/v"), Errno::NODEV).to_string(),
            "failed to mount local volume: mount //192.0.2.9/s:/v, flags: 0x1, data: username=u,password=********: no such device"
        );
    }
}
