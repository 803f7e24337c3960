//! Device nodes and the rules about them (moby `WithDevices`, `daemon/pkg/oci/devices_linux.go`).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use wharf_api::container::{DeviceMapping, HostConfig};
use wharf_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use crate::{Error, Result};

type Devices = (Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>);

/// Character devices every container may use: zero, null, urandom, random, tty, console.
const ALWAYS: [(i64, i64); 6] = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];

/// Directories below `/dev` that a container gets its own of, or nothing (runc `libcontainer/devices`).
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// Nodes to make and rules to set.
pub fn make(host: &HostConfig) -> Result<Devices> {
    if host.privileged {
        return privileged(host);
    }
    let mut devices = Vec::new();
    let mut rules = default_rules();
    for mapping in host.devices.iter().flatten() {
        let (nodes, more) = from_path(mapping, &mapping.cgroup_permissions)?;
        devices.extend(nodes);
        rules.extend(more);
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(parse_rule(rule)?);
    }
    Ok((devices, rules))
}

fn privileged(host: &HostConfig) -> Result<Devices> {
    let mut devices = Vec::new();
    walk(Path::new("/dev"), Path::new("/dev"), &mut devices);
    for mapping in host.devices.iter().flatten() {
        if mapping.path_on_host != mapping.path_in_container {
            devices.extend(from_path(mapping, "rwm")?.0);
        }
    }
    Ok((
        devices,
        vec![rule(true, LinuxDeviceType::A, None, None, "rwm")],
    ))
}

fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")];
    let always = ALWAYS
        .iter()
        .map(|(major, minor)| rule(true, LinuxDeviceType::C, Some(*major), Some(*minor), "rwm"));
    rules.extend(always);
    // FUSE is an explicit wish.
    rules.push(rule(false, LinuxDeviceType::C, Some(10), Some(229), "rwm"));
    rules
}

/// The device at a path, or all devices below it.
fn from_path(mapping: &DeviceMapping, permissions: &str) -> Result<Devices> {
    let permissions = if permissions.is_empty() {
        "rwm"
    } else {
        permissions
    };
    let target = if mapping.path_in_container.is_empty() {
        &mapping.path_on_host
    } else {
        &mapping.path_in_container
    };
    let gathering = |cause: std::io::Error| {
        Error::internal(format!(
            "error gathering device information while adding custom device {:?}: {}",
            mapping.path_on_host,
            reason(&cause)
        ))
    };
    let source = fs::canonicalize(&mapping.path_on_host).map_err(gathering)?;
    let mut devices = Vec::new();
    match node(&source, PathBuf::from(target)) {
        Some(device) => devices.push(device),
        None => walk(&source, Path::new(target), &mut devices),
    }
    if devices.is_empty() {
        return Err(Error::internal(format!(
            "error gathering device information while adding custom device {:?}: not a device node",
            mapping.path_on_host
        )));
    }
    let rules = devices
        .iter()
        .map(|device| {
            rule(
                true,
                device.typ(),
                Some(device.major()),
                Some(device.minor()),
                permissions,
            )
        })
        .collect();
    Ok((devices, rules))
}

fn walk(source: &Path, target: &Path, devices: &mut Vec<LinuxDevice>) {
    let Ok(entries) = fs::read_dir(source) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (from, to) = (entry.path(), target.join(&name));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) => {
                walk(&from, &to, devices)
            }
            // The console is the container's own.
            Ok(kind) if (kind.is_char_device() || kind.is_block_device()) && name != "console" => {
                devices.extend(node(&from, to));
            }
            _ => {}
        }
    }
}

/// The node at a path, as `target` inside. `None`: it is no device.
pub fn node(source: &Path, target: PathBuf) -> Option<LinuxDevice> {
    let metadata = fs::symlink_metadata(source).ok()?;
    let kind = metadata.file_type();
    let kind = if kind.is_char_device() {
        LinuxDeviceType::C
    } else if kind.is_block_device() {
        LinuxDeviceType::B
    } else {
        return None;
    };
    let number = metadata.rdev();
    LinuxDeviceBuilder::default()
        .path(target)
        .typ(kind)
        .major(i64::from(rustix::fs::major(number)))
        .minor(i64::from(rustix::fs::minor(number)))
        .file_mode(metadata.mode() & 0o7777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build()
        .ok()
}

/// Parses `c 1:3 rwm`, with `*` for any number.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words[..] else {
        return Err(invalid());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(invalid()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<i64>().map(Some).map_err(|_| invalid()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let known = !access.is_empty() && access.chars().all(|letter| "rwm".contains(letter));
    if !known {
        return Err(invalid());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

/// One rule for the container's control group.
pub fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut builder = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .typ(kind)
        .access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder.build().expect("every field has a default")
}

/// Go's words, by which the client chooses its exit code.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        _ => error.to_string(),
    }
}

/// Numbers of the device a path names, for throttling rules.
pub fn numbers(path: &str) -> Result<(i64, i64)> {
    let metadata = fs::metadata(path)
        .map_err(|error| Error::internal(format!("stat {path}: {}", reason(&error))))?;
    let number = metadata.rdev();
    Ok((
        i64::from(rustix::fs::major(number)),
        i64::from(rustix::fs::minor(number)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_parsed() {
        let parsed = parse_rule("c 1:* rw").expect("rule");
        assert_eq!(
            (parsed.major(), parsed.minor(), parsed.allow()),
            (Some(1), None, true)
        );
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c a:3 r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_what_is_not_there() {
        assert_eq!(numbers("/dev/null").expect("it is there"), (1, 3));
        let error = numbers("/dev/absent").expect_err("absent");
        assert_eq!(
            error.to_string(),
            "stat /dev/absent: no such file or directory"
        );
    }

    #[test]
    fn devices_come_from_the_host() {
        let mapping = DeviceMapping {
            path_on_host: "/dev/null".into(),
            path_in_container: "/dev/nothing".into(),
            cgroup_permissions: "r".into(),
        };
        let (devices, rules) = from_path(&mapping, "r").expect("null device");
        assert_eq!((devices[0].major(), devices[0].minor()), (1, 3));
        assert_eq!(rules[0].access().as_deref(), Some("r"));
        let missing = DeviceMapping {
            path_on_host: "/dev/absent".into(),
            ..mapping
        };
        assert_eq!(
            from_path(&missing, "r").expect_err("absent").to_string(),
            "error gathering device information while adding custom device \"/dev/absent\": no such file or directory"
        );
    }
}
