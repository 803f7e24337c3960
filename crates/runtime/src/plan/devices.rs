//! Device nodes, and the links every container finds in `/dev`.

use wharf_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};

use super::{DeviceKind, DeviceNode, PlanError};

/// Devices of OCI runtime-spec, config-linux, "Default Devices": path, major, minor.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Default devices, then those of the spec; the spec's wins where both name a path.
pub(super) fn plan_devices(linux: &Linux) -> Result<Vec<DeviceNode>, PlanError> {
    let own: Vec<DeviceNode> = linux
        .devices()
        .iter()
        .flatten()
        .map(plan_device)
        .collect::<Result<_, _>>()?;
    let mut devices: Vec<DeviceNode> = DEFAULT_DEVICES
        .iter()
        .filter(|(path, ..)| !own.iter().any(|d| d.path == *path))
        .map(|&(path, major, minor)| DeviceNode {
            path: path.into(),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    devices.extend(own);
    Ok(devices)
}

fn plan_device(device: &LinuxDevice) -> Result<DeviceNode, PlanError> {
    let path = super::text(device.path(), "device path")?;
    let invalid = |what| PlanError::Invalid {
        what,
        value: path.clone(),
    };
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(invalid("device type of")),
    };
    Ok(DeviceNode {
        kind,
        major: u32::try_from(device.major()).map_err(|_| invalid("device number of"))?,
        minor: u32::try_from(device.minor()).map_err(|_| invalid("device number of"))?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

/// Links of config-linux, "/dev symbolic links"; `core` where the host kernel has the file, as runc does.
pub(super) fn plan_links(has_kcore: bool) -> Vec<(String, String)> {
    let mut links = vec![
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ];
    if has_kcore {
        links.push(("/dev/core", "/proc/kcore"));
    }
    links
        .into_iter()
        .map(|(path, target)| (path.into(), target.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_the_spec_replaces_the_default_one() {
        let mut device = LinuxDevice::default();
        device.set_path("/dev/null".into());
        device.set_typ(LinuxDeviceType::C);
        device.set_file_mode(Some(0o600));
        let mut linux = Linux::default();
        linux.set_devices(Some(vec![device]));
        let devices = plan_devices(&linux).expect("valid");
        assert_eq!(devices.len(), 6);
        let null = devices
            .iter()
            .find(|d| d.path == "/dev/null")
            .expect("present");
        assert_eq!(null.mode, 0o600);
    }
}
