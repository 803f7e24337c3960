//! `--storage-opt`: what each driver lets the operator say, under Docker's names.

use super::choose::DriverError;

/// Options of all drivers; each reads its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `overlay2.size`, `erofs.size`, `size` of vfs: bytes a container's layer may grow to unless it says otherwise.
    pub(super) size: Option<u64>,
    /// `btrfs.min_space`: the least that a container may ask for.
    pub(super) min_space: Option<u64>,
    /// `zfs.fsname`: the dataset that holds all others.
    pub(super) fsname: Option<String>,
    /// `dm.*`, for the driver itself to read.
    pub(super) dm: Vec<(String, String)>,
}

impl Options {
    pub(super) fn parse(name: &'static str, options: &[String]) -> Result<Options, DriverError> {
        let mut parsed = Options::default();
        for option in options {
            let read = parsed.set(name, option);
            read.map_err(|why| DriverError::Option { name, why })?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, option: &str) -> Result<(), String> {
        let Some((key, value)) = option.split_once('=') else {
            return Err(format!("unable to parse key/value option: {option}"));
        };
        let (key, value) = (key.trim().to_lowercase(), value.trim());
        match (name, key.as_str()) {
            // Nothing is checked that it could override.
            ("overlay2", "overlay2.override_kernel_check") => {}
            ("overlay2", "overlay2.size")
            | ("erofs", "erofs.size")
            | ("fuse-overlayfs", "fuse-overlayfs.size")
            | ("vfs", "size" | "vfs.size") => self.size = Some(bytes(value)?),
            ("btrfs", "btrfs.min_space") => self.min_space = Some(bytes(value)?),
            ("zfs", "zfs.fsname") => self.fsname = Some(value.to_owned()),
            ("devicemapper", key) if key.starts_with("dm.") => {
                self.dm.push((key.to_owned(), value.to_owned()));
            }
            _ => return Err(format!("unknown option {key}")),
        }
        Ok(())
    }
}

/// Bytes in a text with a unit of 1024: `512`, `64m`, `1.5GiB` (go-units `RAMInBytes`).
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let at = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(at);
    let exponent = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => Some(0),
        "k" => Some(1),
        "m" => Some(2),
        "g" => Some(3),
        "t" => Some(4),
        "p" => Some(5),
        _ => None,
    };
    let parsed = exponent.zip(number.parse::<f64>().ok());
    let (exponent, number) = parsed.ok_or_else(|| format!("invalid size: '{text}'"))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // digits and a point are never negative, and what is too large saturates
    Ok((number * 1024f64.powi(exponent)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_belong_to_their_driver() {
        let parse = |name, option: &str| Options::parse(name, &[option.to_owned()]);
        assert_eq!(
            parse("zfs", "zfs.fsname=pool/data").expect("known").fsname,
            Some("pool/data".to_owned())
        );
        assert_eq!(
            parse("overlay2", "overlay2.size=1.5g").expect("known").size,
            Some(3 << 29)
        );
        assert!(parse("overlay2", "overlay2.override_kernel_check=true").is_ok());
        for (name, option, why) in [
            (
                "overlay2",
                "overlay2.nope=1",
                "unknown option overlay2.nope",
            ),
            ("vfs", "zfs.fsname=a", "unknown option zfs.fsname"),
            ("vfs", "size", "unable to parse key/value option: size"),
            ("overlay2", "overlay2.size=big", "invalid size: 'big'"),
        ] {
            let error = parse(name, option).expect_err(option).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
