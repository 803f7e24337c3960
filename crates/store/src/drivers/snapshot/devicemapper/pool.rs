//! The thin pool: where blocks come from.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use wharf_sys::devicemapper::{DeviceMapper, Target};
use wharf_sys::loopdev::{self, Access};

use super::device::{Device, FileSystem, remove_idle};
use super::lvm;
use super::options::DmOptions;

/// Sectors of the device mapper.
const SECTOR: u64 = 512;
/// The kernel tells of a pool with fewer free blocks.
const LOW_WATER: u64 = 32768;

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    node: PathBuf,
    /// What names of devices start with.
    prefix: String,
    /// Data and metadata files behind loop devices.
    files: Option<(PathBuf, PathBuf)>,
}

/// Blocks of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Space {
    metadata: (u64, u64),
    data: (u64, u64),
}

impl Pool {
    /// The operator's pool, one on the operator's devices, or one on sparse files.
    pub(super) fn open(
        mapper: &DeviceMapper,
        home: &Path,
        prefix: &str,
        options: &DmOptions,
    ) -> io::Result<Pool> {
        let given = match (&options.thin_pool, &options.direct_lvm) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(disk)) => Some(lvm::ensure_pool(disk, options)?),
            (None, None) => None,
        };
        let name = given.clone().unwrap_or_else(|| format!("{prefix}-pool"));
        let found = mapper.find(&name)?;
        let mut pool = Pool {
            name,
            node: PathBuf::new(),
            prefix: prefix.to_owned(),
            files: None,
        };
        pool.node = match (found, given) {
            (Some(node), _) if is_whole(mapper, &pool.name) => node,
            (Some(_), None) => {
                remove_idle(mapper, &pool.name)?;
                create(mapper, &pool.name, home, options)?
            }
            (Some(node), _) => node,
            (None, Some(name)) => {
                let text = format!("devmapper: thin pool {name} (dm.thinpooldev) does not exist");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            (None, None) => create(mapper, &pool.name, home, options)?,
        };
        if options.thin_pool.is_none() && options.direct_lvm.is_none() {
            let [data, metadata] = ["data", "metadata"].map(|name| home.join("pool").join(name));
            pool.files = Some((data, metadata)).filter(|_| options.data_device.is_none());
        }
        Ok(pool)
    }

    pub(super) fn device_name(&self, cache: &str) -> String {
        format!("{}-{cache}", self.prefix)
    }

    /// Makes a device of the pool reachable; its node. Safe to repeat.
    pub(super) fn activate(
        &self,
        mapper: &DeviceMapper,
        name: &str,
        device: Device,
    ) -> io::Result<PathBuf> {
        match mapper.find(name)? {
            Some(node) if is_whole(mapper, name) => Ok(node),
            // A kill came between the device and what it is made of.
            Some(_) => {
                remove_idle(mapper, name)?;
                mapper.create(name, &self.thin(device))
            }
            None => mapper.create(name, &self.thin(device)),
        }
    }

    /// Gives an active device its new size.
    pub(super) fn grow(
        &self,
        mapper: &DeviceMapper,
        name: &str,
        device: Device,
    ) -> io::Result<PathBuf> {
        mapper.load(name, &self.thin(device))?;
        mapper.suspend(name)?;
        mapper.resume(name)?;
        self.activate(mapper, name, device)
    }

    /// Makes an empty device.
    pub(super) fn create_thin(&self, mapper: &DeviceMapper, number: u32) -> io::Result<()> {
        mapper.message(&self.name, &format!("create_thin {number}"))
    }

    /// Gives a device's blocks back; it is not active. One that is not there is fine.
    pub(super) fn delete(&self, mapper: &DeviceMapper, number: u32) -> io::Result<()> {
        match mapper.message(&self.name, &format!("delete {number}")) {
            Err(error) if error.raw_os_error() == Some(Errno::NODATA.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    /// Refuses when the pool is so full that what is written next may fail.
    pub(super) fn ensure_free(&self, mapper: &DeviceMapper, percent: u64) -> io::Result<()> {
        let space = parse_space(&mapper.status(&self.name)?).unwrap_or_default();
        for (what, (used, total)) in [("data", space.data), ("metadata", space.metadata)] {
            let (free, least) = (total.saturating_sub(used), total * percent / 100);
            if free < least {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!(
                        "devmapper: Thin Pool has {free} free {what} blocks which is less than minimum required {least} free {what} blocks. Create more free space in thin pool or use dm.min_free_space option to change behavior"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The rows of `docker info`.
    pub(super) fn status(
        &self,
        mapper: &DeviceMapper,
        base: Device,
        file_system: FileSystem,
        options: &DmOptions,
    ) -> Vec<(String, String)> {
        let space = mapper.status(&self.name).ok();
        let space = space
            .and_then(|text| parse_space(&text))
            .unwrap_or_default();
        let mut rows = vec![
            ("Pool Name", self.name.clone()),
            ("Pool Blocksize", human(options.block_bytes)),
            ("Base Device Size", human(base.bytes)),
            ("Backing Filesystem", file_system.name().to_owned()),
            // Nodes are the kernel's own.
            ("Udev Sync Supported", "true".to_owned()),
        ];
        let usage = |(used, total): (u64, u64), block: u64| {
            [used, total, total.saturating_sub(used)].map(|blocks| human(blocks * block))
        };
        let [used, total, free] = usage(space.data, options.block_bytes);
        rows.extend([
            ("Data Space Used", used),
            ("Data Space Total", total),
            ("Data Space Available", free),
        ]);
        // Blocks of metadata have 4 KiB.
        let [used, total, free] = usage(space.metadata, 4096);
        let least = space.data.1 * options.block_bytes * options.min_free_percent / 100;
        rows.extend([
            ("Metadata Space Used", used),
            ("Metadata Space Total", total),
            ("Metadata Space Available", free),
            ("Thin Pool Minimum Free Space", human(least)),
            ("Deferred Removal Enabled", "false".to_owned()),
            ("Deferred Deletion Enabled", "false".to_owned()),
            ("Deferred Deleted Device Count", "0".to_owned()),
        ]);
        if let Some((data, metadata)) = &self.files {
            let text = |path: &Path| path.display().to_string();
            rows.extend([
                ("Data loop file", text(data)),
                ("Metadata loop file", text(metadata)),
            ]);
        }
        let row = |(key, value): (&str, String)| (key.to_owned(), value);
        rows.into_iter().map(row).collect()
    }

    fn thin(&self, device: Device) -> Target {
        Target {
            sectors: device.bytes / SECTOR,
            kind: "thin",
            parameters: format!("{} {}", self.node.display(), device.number),
        }
    }
}

/// Whether a device has a target; one that a kill left suspended goes on.
fn is_whole(mapper: &DeviceMapper, name: &str) -> bool {
    let resumed = mapper.resume(name);
    resumed.is_ok() && mapper.status(name).is_ok_and(|text| !text.is_empty())
}

/// A pool that is not active: new, or after a restart of the machine.
fn create(
    mapper: &DeviceMapper,
    name: &str,
    home: &Path,
    options: &DmOptions,
) -> io::Result<PathBuf> {
    if options.data_device.is_none() {
        tracing::warn!(
            "devicemapper on loop devices is for trying it out; give it a disk by dm.directlvm_device or a pool by dm.thinpooldev"
        );
    }
    let dir = home.join("pool");
    std::fs::create_dir_all(&dir)?;
    let (data, _data) = backing(
        options.data_device.as_deref(),
        &dir.join("data"),
        options.data_bytes,
    )?;
    let (metadata, _metadata) = backing(
        options.metadata_device.as_deref(),
        &dir.join("metadata"),
        options.metadata_bytes,
    )?;
    let sectors = size_of_device(&data)? / SECTOR;
    let parameters = format!(
        "{} {} {} {LOW_WATER} 1 skip_block_zeroing",
        metadata.display(),
        data.display(),
        options.block_bytes / SECTOR
    );
    let target = Target {
        sectors,
        kind: "thin-pool",
        parameters,
    };
    mapper.create(name, &target)
}

/// A block device of the operator's, or a sparse file made one. It lives as long as the pool has it.
fn backing(
    device: Option<&Path>,
    file: &Path,
    bytes: u64,
) -> io::Result<(PathBuf, Option<loopdev::LoopDevice>)> {
    if let Some(device) = device {
        return Ok((device.to_owned(), None));
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)?;
    // A size given later than the file was made lets it grow.
    if opened.metadata()?.len() < bytes {
        opened.set_len(bytes)?;
    }
    let attached = loopdev::attach(&opened, Access::ReadWrite)?;
    Ok((attached.path.clone(), Some(attached)))
}

fn size_of_device(path: &Path) -> io::Result<u64> {
    use std::io::Seek;
    File::open(path)?.seek(io::SeekFrom::End(0))
}

/// `<transaction> <used>/<total metadata> <used>/<total data> …`
/// (`Documentation/admin-guide/device-mapper/thin-provisioning.rst`, "Status").
fn parse_space(status: &str) -> Option<Space> {
    let mut words = status.split_whitespace().skip(1);
    let mut pair = || {
        let (used, total) = words.next()?.split_once('/')?;
        Some((used.parse().ok()?, total.parse().ok()?))
    };
    Some(Space {
        metadata: pair()?,
        data: pair()?,
    })
}

/// Four digits and a unit of 1000, as go-units' `HumanSize`.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[allow(clippy::cast_precision_loss)] // four digits are shown
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let digits = match size {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_dockers() {
        for (bytes, text) in [
            (0, "0B"),
            (65536, "65.54kB"),
            (10_737_418_240, "10.74GB"),
            (107_374_182_400, "107.4GB"),
            (2_147_483_648, "2.147GB"),
            (1_000_000, "1MB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn status_is_read() {
        let space = parse_space("1 141/524288 291/1638400 - rw discard_passdown queue_if_no_space");
        let expected = Space {
            metadata: (141, 524_288),
            data: (291, 1_638_400),
        };
        assert_eq!(space, Some(expected));
        assert_eq!(parse_space("Fail"), None);
    }
}
