//! `dm.*`: Docker's options of the driver, with Docker's defaults.

use std::path::PathBuf;

use crate::drivers::options::bytes;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmOptions {
    /// `dm.thinpooldev`: name of a pool that somebody else made.
    pub thin_pool: Option<String>,
    /// `dm.directlvm_device`: a disk to make a pool of, by LVM.
    pub direct_lvm: Option<PathBuf>,
    /// `dm.directlvm_device_force`: also when the disk has a file system.
    pub direct_lvm_force: bool,
    /// `dm.thinp_percent`, `dm.thinp_metapercent`: shares of the disk.
    pub lvm_percent: (u64, u64),
    /// `dm.thinp_autoextend_threshold`, `dm.thinp_autoextend_percent`.
    pub lvm_extend: (u64, u64),
    /// `dm.datadev`, instead of a sparse file.
    pub data_device: Option<PathBuf>,
    /// `dm.metadatadev`, likewise.
    pub metadata_device: Option<PathBuf>,
    /// `dm.loopdatasize` in bytes.
    pub data_bytes: u64,
    /// `dm.loopmetadatasize` in bytes.
    pub metadata_bytes: u64,
    /// `dm.basesize`: size of every device that says no other.
    pub base_bytes: u64,
    /// `dm.blocksize` of the pool in bytes.
    pub block_bytes: u64,
    /// `dm.fs`: `ext4` or `xfs`.
    pub file_system: Option<String>,
    /// `dm.mkfsarg`.
    pub mkfs_arguments: Vec<String>,
    /// `dm.mountopt`.
    pub mount_options: Option<String>,
    /// `dm.min_free_space` in percent of data and metadata.
    pub min_free_percent: u64,
}

impl Default for DmOptions {
    fn default() -> DmOptions {
        DmOptions {
            thin_pool: None,
            direct_lvm: None,
            direct_lvm_force: false,
            lvm_percent: (95, 1),
            lvm_extend: (80, 20),
            data_device: None,
            metadata_device: None,
            data_bytes: 100 << 30,
            metadata_bytes: 2 << 30,
            base_bytes: 10 << 30,
            block_bytes: 64 << 10,
            file_system: None,
            mkfs_arguments: Vec::new(),
            mount_options: None,
            min_free_percent: 10,
        }
    }
}

impl DmOptions {
    /// Reads `dm.*` options.
    pub fn parse(options: &[(String, String)]) -> Result<DmOptions, String> {
        let mut parsed = DmOptions::default();
        for (key, value) in options {
            parsed.set(key, value)?;
        }
        let files = parsed.data_device.is_some() || parsed.metadata_device.is_some();
        if parsed.thin_pool.is_some() && (files || parsed.direct_lvm.is_some()) {
            return Err(
                "dm.thinpooldev excludes dm.datadev, dm.metadatadev and dm.directlvm_device"
                    .to_owned(),
            );
        }
        Ok(parsed)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let text = || value.to_owned();
        match key {
            "dm.thinpooldev" => {
                self.thin_pool = Some(value.trim_start_matches("/dev/mapper/").to_owned());
            }
            "dm.directlvm_device" => self.direct_lvm = Some(value.into()),
            "dm.directlvm_device_force" => self.direct_lvm_force = flag(key, value)?,
            "dm.thinp_percent" => self.lvm_percent.0 = percent(key, value)?,
            "dm.thinp_metapercent" => self.lvm_percent.1 = percent(key, value)?,
            "dm.thinp_autoextend_threshold" => self.lvm_extend.0 = percent(key, value)?,
            "dm.thinp_autoextend_percent" => self.lvm_extend.1 = percent(key, value)?,
            "dm.datadev" => self.data_device = Some(value.into()),
            "dm.metadatadev" => self.metadata_device = Some(value.into()),
            "dm.loopdatasize" => self.data_bytes = bytes(value)?,
            "dm.loopmetadatasize" => self.metadata_bytes = bytes(value)?,
            "dm.basesize" => self.base_bytes = bytes(value)?,
            "dm.blocksize" => self.block_bytes = block_size(value)?,
            "dm.fs" if matches!(value, "ext4" | "xfs") => self.file_system = Some(text()),
            "dm.fs" => return Err(format!("devmapper: Unsupported filesystem {value}")),
            "dm.mkfsarg" => self.mkfs_arguments.push(text()),
            "dm.mountopt" => self.mount_options = Some(text()),
            "dm.min_free_space" => self.min_free_percent = percent(key, value)?,
            // Devices are always made by the kernel and removed when they are idle, and blocks given back.
            "dm.blkdiscard"
            | "dm.override_udev_sync_check"
            | "dm.use_deferred_removal"
            | "dm.use_deferred_deletion" => drop(flag(key, value)?),
            "dm.xfs_nospace_max_retries" | "dm.libdm_log_level" => number(key, value).map(drop)?,
            _ => return Err(format!("devmapper: Unknown option {key}")),
        }
        Ok(())
    }
}

fn number(key: &str, value: &str) -> Result<u64, String> {
    let parsed = value.parse();
    parsed.map_err(|_| format!("devmapper: {key} needs a number, not {value:?}"))
}

/// With or without a sign of its own.
fn percent(key: &str, value: &str) -> Result<u64, String> {
    match number(key, value.trim_end_matches('%'))? {
        percent @ 0..=100 => Ok(percent),
        percent => Err(format!("devmapper: {key} is {percent}, more than 100 %")),
    }
}

fn flag(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(format!(
            "devmapper: {key} needs true or false, not {value:?}"
        )),
    }
}

/// The kernel's limits (`Documentation/admin-guide/device-mapper/thin-provisioning.rst`).
fn block_size(value: &str) -> Result<u64, String> {
    let size = bytes(value)?;
    let fits = (64 << 10..=1 << 30).contains(&size) && size % (64 << 10) == 0;
    match fits {
        true => Ok(size),
        false => Err(format!(
            "devmapper: dm.blocksize must be a multiple of 64K up to 1G, not {value}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(option: (&str, &str)) -> Result<DmOptions, String> {
        DmOptions::parse(&[(option.0.to_owned(), option.1.to_owned())])
    }

    #[test]
    fn options_are_dockers() {
        assert_eq!(
            parse(("dm.basesize", "20G")).expect("a size").base_bytes,
            20 << 30
        );
        let pool = parse(("dm.thinpooldev", "/dev/mapper/a-pool")).expect("a pool");
        assert_eq!(pool.thin_pool.as_deref(), Some("a-pool"));
        let free = parse(("dm.min_free_space", "5%")).expect("a share");
        assert_eq!(free.min_free_percent, 5);
        for (key, value) in [
            ("dm.fs", "btrfs"),
            ("dm.nope", "1"),
            ("dm.blocksize", "65k"),
            ("dm.min_free_space", "101%"),
            ("dm.use_deferred_removal", "maybe"),
        ] {
            assert!(parse((key, value)).is_err(), "{key}={value}");
        }
    }
}
