//! One EROFS image per layer under OverlayFS: a layer of any number of files is one file on disk, written in one pass and removed by one
//! `unlink`.
//!
//! ```text
//! erofs/…                         as in overlay2: short names, init layer, containers
//! erofs/<cache-id>/layer.erofs    the layer, whiteouts in overlay's own form
//! erofs/<cache-id>/recipe         what turns it into its tar again
//! erofs/<cache-id>/diff           where it is mounted, read-only, from its first use until it is removed
//! ```
//!
//! Linux 6.12 and later mount the file itself; older kernels need a loop device, which goes with the mount. All containers share
//! one mount, and with it the kernel's cached pages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use wharf_spec::rootfs::RootfsMount;
use wharf_sys::loopdev;

use super::fuse_overlayfs::{detach, is_mounted};
use super::overlay2::Overlay2;
use super::{ContainerDirs, Difference, Driver, LayerDir, LayerForm, NewContainer};
use crate::erofs::IMAGE;

/// See the module.
#[derive(Debug)]
pub struct Erofs {
    layers: Overlay2,
    /// Held while something is mounted, so that nothing is mounted twice.
    mounting: Mutex<()>,
}

impl Erofs {
    /// The driver over directories laid out as overlay2's.
    #[must_use]
    pub fn new(layers: Overlay2) -> Erofs {
        Erofs {
            layers,
            mounting: Mutex::new(()),
        }
    }

    /// Whether the kernel has the file system; asking loads its module.
    #[must_use]
    pub fn is_there() -> bool {
        rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
    }

    fn diff(&self, cache: &str) -> PathBuf {
        self.layers.layer_dir(cache).join("diff")
    }

    fn open(&self, cache: &str) -> io::Result<()> {
        let diff = self.diff(cache);
        if is_mounted(&diff) {
            return Ok(());
        }
        let _one = self.mounting.lock();
        if is_mounted(&diff) {
            return Ok(());
        }
        mount_image(&self.layers.layer_dir(cache).join(IMAGE), &diff)
    }

    fn open_all(&self, layers: &[LayerDir<'_>]) -> io::Result<()> {
        layers.iter().try_for_each(|layer| self.open(layer.cache))
    }
}

impl Driver for Erofs {
    fn name(&self) -> &'static str {
        "erofs"
    }

    /// As overlay2's: images are mounted as its lower layers.
    fn max_layers(&self) -> Option<usize> {
        Some(499)
    }

    fn status(&self) -> Vec<(String, String)> {
        self.layers.status()
    }

    fn layer_dir(&self, cache: &str) -> PathBuf {
        self.layers.layer_dir(cache)
    }

    fn form(&self) -> LayerForm {
        LayerForm::Image
    }

    fn open_layer(&self, layer: LayerDir<'_>) -> io::Result<()> {
        self.open(layer.cache)
    }

    fn create_layer(&self, layer: LayerDir<'_>) -> io::Result<()> {
        self.layers.create_layer(layer)
    }

    fn commit_layer(&self, layer: LayerDir<'_>, lower: &[LayerDir<'_>]) -> io::Result<()> {
        self.layers.commit_layer(layer, lower)
    }

    fn create_container(&self, new: NewContainer<'_>) -> io::Result<()> {
        self.layers.create_container(new)
    }

    fn remove_container(&self, cache: &str) -> io::Result<()> {
        self.layers.remove_container(cache)
    }

    fn is_plain_directory(&self, cache: &str) -> bool {
        // A layer's may have a mount in it.
        let is_layer = self.layers.layer_dir(cache).join(IMAGE).exists();
        !is_layer && self.layers.is_plain_directory(cache)
    }

    fn mount(&self, dirs: &ContainerDirs<'_>) -> io::Result<RootfsMount> {
        self.open_all(&dirs.lower)?;
        self.layers.mount(dirs)
    }

    fn difference(&self, dirs: &ContainerDirs<'_>) -> Difference {
        self.layers.difference(dirs)
    }

    fn container_data(&self, dirs: &ContainerDirs<'_>) -> BTreeMap<String, String> {
        self.layers.container_data(dirs)
    }

    fn image_data(&self, layers: &[LayerDir<'_>]) -> BTreeMap<String, String> {
        self.layers.image_data(layers)
    }

    fn remove(&self, layer: LayerDir<'_>) -> io::Result<()> {
        // An empty name would be the whole home.
        if !layer.cache.is_empty() {
            detach(&self.diff(layer.cache))?;
        }
        self.layers.remove(layer)
    }

    fn is_linked(&self, layer: LayerDir<'_>) -> bool {
        self.layers.is_linked(layer)
    }

    fn relink(&self, layer: LayerDir<'_>) -> io::Result<()> {
        self.layers.relink(layer)
    }

    fn list(&self) -> io::Result<(Vec<String>, Vec<String>)> {
        self.layers.list()
    }

    fn close(&self) {
        let layers = self.layers.list().map_or(Vec::new(), |(layers, _)| layers);
        for cache in layers {
            if let Err(error) = detach(&self.diff(&cache)) {
                tracing::warn!(layer = %cache, %error, "a layer stays mounted");
            }
        }
    }
}

/// Mounts an image at a directory, read-only.
fn mount_image(image: &Path, at: &Path) -> io::Result<()> {
    let mount = match mount_source(image) {
        // Before Linux 6.12 only block devices can be mounted.
        Err(error) if error.raw_os_error() == Some(Errno::NOTBLK.raw_os_error()) => {
            let device = loopdev::attach(&File::open(image)?, loopdev::Access::ReadOnly)?;
            mount_source(&device.path)?
        }
        mount => mount?,
    };
    rustix::mount::move_mount(&mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// A mount that is nowhere yet.
fn mount_source(source: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let fs = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, "source", source)?;
    rustix::mount::fsconfig_set_flag(&fs, "ro")?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(rustix::mount::fsmount(&fs, flags, attributes)?)
}
