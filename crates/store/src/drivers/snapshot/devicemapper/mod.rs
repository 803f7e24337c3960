//! The device mapper's thin provisioning: a layer above another is a snapshot of its block device, with a file system on it.
//!
//! ```text
//! devicemapper/pool/data, metadata      sparse files behind the pool; with a pool of the operator's there are none
//! devicemapper/base/device              number and size of the base device: an empty file system, which all bottom layers copy
//! devicemapper/<cache-id>/device        number of the layer's device in the pool, and its size in bytes
//! devicemapper/<cache-id>/diff          its file system, mounted while it is needed
//! devicemapper/<cache-id>/recipe        what turns the layer into its tar again
//! /dev/mapper/wharf-<dev>-<ino>-…       active devices: `pool`, and one per mounted file system
//! ```
//!
//! A device's file is written before the device is made and removed after it: a kill leaves a file that names a device which is not there.
//! Numbers without a file are free, so the pool must be ours alone.

mod device;
mod lvm;
mod options;
mod pool;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::Mode;
use wharf_sys::devicemapper::DeviceMapper;

use super::Backend;
use crate::drivers::fuse_overlayfs::is_mounted;
use crate::drivers::gone;
use device::{Device, FileSystem};
pub use options::DmOptions;
use pool::Pool;

/// See the module.
#[derive(Debug)]
pub struct Thin {
    home: PathBuf,
    mapper: DeviceMapper,
    pool: Pool,
    options: DmOptions,
    file_system: FileSystem,
    base: Device,
    /// Numbers of devices that have a file. Held while devices are made and removed.
    numbers: Mutex<HashSet<u32>>,
}

impl Thin {
    /// Opens or makes the pool and the base device below `home`.
    pub fn open(home: &Path, options: DmOptions) -> io::Result<Thin> {
        std::fs::create_dir_all(home)?;
        rustix::fs::chmod(home, Mode::from_raw_mode(0o710))?;
        let mapper = DeviceMapper::open()?;
        let prefix = device::prefix(home)?;
        let pool = Pool::open(&mapper, home, &prefix, &options)?;
        let file_system = FileSystem::choose(options.file_system.as_deref())?;
        let mut numbers = device::numbers(home)?;
        let base = device::ensure_base(&mapper, &pool, home, &options, file_system, &mut numbers)?;
        Ok(Thin {
            home: home.to_owned(),
            mapper,
            pool,
            options,
            file_system,
            base,
            numbers: Mutex::new(numbers),
        })
    }

    /// Whether the kernel can do it.
    #[must_use]
    pub fn is_there() -> bool {
        DeviceMapper::open().is_ok()
    }

    fn name(&self, tree: &Path) -> io::Result<String> {
        Ok(self.pool.device_name(cache_of(tree)?))
    }

    /// A new device that holds what `origin` does, `name` being the origin's when it is active.
    fn snapshot(&self, origin: Device, name: Option<&str>, tree: &Path) -> io::Result<()> {
        self.pool
            .ensure_free(&self.mapper, self.options.min_free_percent)?;
        let mut numbers = self.numbers.lock();
        let device = device::claim(&mut numbers, &device::file(tree), origin.bytes)?;
        // What the origin's file system holds back must be in the snapshot.
        let name = name.filter(|name| matches!(self.mapper.find(name), Ok(Some(_))));
        if let Some(name) = name {
            self.mapper.suspend(name)?;
        }
        let text = format!("create_snap {} {}", device.number, origin.number);
        let made = self.mapper.message(&self.pool.name, &text);
        if let Some(name) = name {
            self.mapper.resume(name)?;
        }
        drop(numbers);
        made?;
        std::fs::create_dir(tree)?;
        self.mount(device, tree)
    }

    fn mount(&self, device: Device, tree: &Path) -> io::Result<()> {
        let name = self.name(tree)?;
        let node = self.pool.activate(&self.mapper, &name, device)?;
        self.file_system
            .mount(&node, tree, self.options.mount_options.as_deref())
    }

    fn deactivate(&self, tree: &Path) -> io::Result<()> {
        let name = self.name(tree)?;
        device::unmount_all(tree)?;
        device::remove_idle(&self.mapper, &name)
    }
}

impl Backend for Thin {
    fn name(&self) -> &'static str {
        "devicemapper"
    }

    fn status(&self) -> Vec<(String, String)> {
        self.pool
            .status(&self.mapper, self.base, self.file_system, &self.options)
    }

    fn is_in_place(&self) -> bool {
        false
    }

    fn create(&self, tree: &Path) -> io::Result<()> {
        self.snapshot(self.base, None, tree)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let origin = device::read(&device::file(from))?;
        self.snapshot(origin, Some(&self.name(from)?), to)
    }

    fn attach(&self, tree: &Path) -> io::Result<()> {
        if is_mounted(tree) {
            // A kill may have left it suspended for a snapshot; otherwise this does nothing.
            return self.mapper.resume(&self.name(tree)?);
        }
        match device::read(&device::file(tree)) {
            Ok(device) => self.mount(device, tree),
            // What a kill left half-made; it goes in a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn detach(&self, tree: &Path) -> io::Result<()> {
        self.deactivate(tree)
    }

    fn remove(&self, tree: &Path) -> io::Result<()> {
        // `staged` is a plain directory beside the device's.
        if tree.file_name().is_some_and(|name| name == "diff") {
            self.deactivate(tree)?;
            let file = device::file(tree);
            if let Ok(device) = device::read(&file) {
                let mut numbers = self.numbers.lock();
                self.pool.delete(&self.mapper, device.number)?;
                gone(std::fs::remove_file(file))?;
                numbers.remove(&device.number);
            }
        }
        gone(std::fs::remove_dir_all(tree))
    }

    fn limit(&self, tree: &Path, bytes: u64) -> io::Result<()> {
        let file = device::file(tree);
        let device = device::read(&file)?;
        if bytes < device.bytes {
            let text = format!(
                "devmapper: Container size cannot be smaller than {}",
                pool::human(device.bytes)
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let grown = Device { bytes, ..device };
        device::write(&file, grown)?;
        let name = self.name(tree)?;
        let node = self.pool.grow(&self.mapper, &name, grown)?;
        self.file_system.grow(&node, tree)
    }

    fn data(&self, tree: &Path) -> BTreeMap<String, String> {
        let device = device::read(&device::file(tree));
        let Ok((device, name)) = device.and_then(|device| Ok((device, self.name(tree)?))) else {
            return BTreeMap::new();
        };
        BTreeMap::from([
            ("DeviceId".to_owned(), device.number.to_string()),
            ("DeviceName".to_owned(), name),
            ("DeviceSize".to_owned(), device.bytes.to_string()),
        ])
    }

    fn close(&self, trees: &[PathBuf]) {
        for tree in trees {
            if let Err(error) = self.deactivate(tree) {
                tracing::warn!(tree = %tree.display(), %error, "a layer stays mounted");
            }
        }
        if self.options.thin_pool.is_none()
            && let Err(error) = device::remove_idle(&self.mapper, &self.pool.name)
        {
            tracing::warn!(home = %self.home.display(), %error, "the pool stays active");
        }
    }
}

fn cache_of(tree: &Path) -> io::Result<&str> {
    let cache = tree.parent().and_then(Path::file_name);
    cache
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
