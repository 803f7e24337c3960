//! `--device`, `--device-cgroup-rule`, `--device-read-bps` and their like, `--gpus`.

use wharf_api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, WeightDevice};

use crate::text::size;

/// `host[:container][:rwm]`
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse_device(value: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = value.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {value}"));
    }
    let (target, permissions) = match parts[..] {
        [_, second] if is_mode(second) => (None, second),
        [_, second] => (Some(second), "rwm"),
        [_, second, third] if is_mode(third) => (Some(second), third),
        [_, _, third] => return Err(format!("bad mode specified: {third}")),
        _ => (None, "rwm"),
    };
    let target = target.unwrap_or(parts[0]);
    if !target.starts_with('/') {
        return Err(format!("{target} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: parts[0].to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// Each of `r`, `w`, `m` at most once, and at least one.
fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| "rwm".contains(c) && text.matches(c).count() == 1)
}

/// A name of the container device interface, `vendor/class=name`.
pub fn is_cdi_name(value: &str) -> bool {
    let Some((kind, name)) = value.split_once('=') else {
        return false;
    };
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
    };
    kind.split_once('/')
        .is_some_and(|(vendor, class)| word(vendor) && word(class))
        && word(name)
}

/// `--device-cgroup-rule 'c 1:3 rwm'`
pub fn check_cgroup_rule(value: &str) -> Result<(), String> {
    let number =
        |text: &str| text == "*" || (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()));
    let fits = match value.split(' ').collect::<Vec<_>>()[..] {
        ["a" | "b" | "c", numbers, mode] => {
            numbers
                .split_once(':')
                .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{value}'"))
    }
}

fn path_and_value(value: &str) -> Result<(&str, &str), String> {
    match value.split_once(':') {
        Some((path, rest)) if !path.is_empty() => {
            if path.starts_with("/dev/") {
                Ok((path, rest))
            } else {
                Err(format!("bad format for device path: {value}"))
            }
        }
        _ => Err(format!("bad format: {value}")),
    }
}

/// `--device-read-bps /dev/sda:1mb`
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse_bps(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = path_and_value(value)?;
    let rate = size::parse_binary(rate).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate,
    })
}

/// `--device-read-iops /dev/sda:1000`
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse_iops(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = path_and_value(value)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>. \
             Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice {
        path: path.to_owned(),
        rate,
    })
}

/// `--blkio-weight-device /dev/sda:100`
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse_weight(value: &str) -> Result<WeightDevice, String> {
    let (path, weight) = path_and_value(value)?;
    let weight: Option<u16> = weight
        .parse()
        .ok()
        .filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    match weight {
        Some(weight) => Ok(WeightDevice {
            path: path.to_owned(),
            weight,
        }),
        None => Err(format!("invalid weight for device: {value}")),
    }
}

/// `--gpus all`, `--gpus 2`, `--gpus '"device=0,1",capabilities=utility'`
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse_gpus(value: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut capabilities = None;
    for field in super::mount::csv(value)? {
        match field.split_once('=') {
            None => request.count = gpu_count(&field)?,
            Some(("driver", driver)) => request.driver = driver.to_owned(),
            Some(("count", count)) => request.count = gpu_count(count)?,
            Some(("device", ids)) => {
                request.device_ids = Some(ids.split(',').map(str::to_owned).collect())
            }
            Some(("capabilities", names)) => {
                capabilities = Some(
                    names
                        .split(',')
                        .map(str::to_owned)
                        .chain(["gpu".to_owned()])
                        .collect(),
                );
            }
            Some(("options", options)) => {
                let pairs = options
                    .split(',')
                    .map(|option| option.split_once('=').unwrap_or((option, "")));
                request.options = Some(
                    pairs
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .collect(),
                );
            }
            Some((key, _)) => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if request.count != 0 && request.device_ids.is_some() {
        return Err("cannot set both Count and DeviceIDs on device request".into());
    }
    if request.count == 0 && request.device_ids.is_none() {
        request.count = 1;
    }
    request.capabilities = Some(vec![capabilities.unwrap_or_else(|| vec!["gpu".to_owned()])]);
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        format!(
            "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_in_every_form() {
        for (given, expected) in [
            ("/dev/fuse", Ok(("/dev/fuse", "/dev/fuse", "rwm"))),
            ("/dev/fuse:rw", Ok(("/dev/fuse", "/dev/fuse", "rw"))),
            ("/dev/fuse:/dev/x", Ok(("/dev/fuse", "/dev/x", "rwm"))),
            ("/dev/fuse:/dev/x:r", Ok(("/dev/fuse", "/dev/x", "r"))),
            ("/dev/fuse:/dev/x:q", Err("bad mode specified: q")),
            ("/dev/fuse:x", Err("x is not an absolute path")),
            ("a:b:c:d", Err("bad format for path: a:b:c:d")),
        ] {
            let device = parse_device(given);
            let shown = device.as_ref().map(|d| {
                (
                    &*d.path_on_host,
                    &*d.path_in_container,
                    &*d.cgroup_permissions,
                )
            });
            assert_eq!(shown.map_err(String::as_str), expected, "{given}");
        }
    }

    #[test]
    fn rates_and_rules() {
        assert_eq!(parse_bps("/dev/sda:1mb").map(|d| d.rate), Ok(1 << 20));
        assert!(parse_iops("/dev/sda:1mb").is_err() && parse_iops("sda:1").is_err());
        assert!(parse_weight("/dev/sda:5").is_err());
        assert!(check_cgroup_rule("c 1:* rwm").is_ok() && check_cgroup_rule("x 1:1 r").is_err());
        assert!(is_cdi_name("vendor.com/gpu=0") && !is_cdi_name("/dev/fuse"));
    }
}
