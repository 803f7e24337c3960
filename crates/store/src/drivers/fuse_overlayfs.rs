//! OverlayFS in user space, by the program `fuse-overlayfs`: for kernels and file systems where the real one does not work.
//!
//! ```text
//! fuse-overlayfs/…                      as in overlay2
//! fuse-overlayfs/<cache-id>/merged      the container's root, mounted by the program while the container needs it
//! ```
//!
//! The program serves one mount, goes to the background by itself and ends when the mount goes, so it outlives the daemon.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::UnmountFlags;
use wharf_spec::rootfs::RootfsMount;

use super::overlay2::Overlay2;
use super::{ContainerDirs, Difference, Driver, LayerDir, NewContainer};

/// The program.
const PROGRAM: &str = "fuse-overlayfs";

/// See the module.
#[derive(Debug)]
pub struct FuseOverlayfs {
    layers: Overlay2,
}

impl FuseOverlayfs {
    /// The driver over directories laid out as overlay2's.
    #[must_use]
    pub fn new(layers: Overlay2) -> FuseOverlayfs {
        FuseOverlayfs { layers }
    }

    /// Whether the program and its device are there.
    #[must_use]
    pub fn is_there() -> bool {
        let runs = Command::new(PROGRAM).arg("--version").output();
        Path::new("/dev/fuse").exists() && runs.is_ok_and(|output| output.status.success())
    }

    fn merged(&self, cache: &str) -> PathBuf {
        self.layers.layer_dir(cache).join("merged")
    }
}

impl Driver for FuseOverlayfs {
    fn name(&self) -> &'static str {
        "fuse-overlayfs"
    }

    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn layer_dir(&self, cache: &str) -> PathBuf {
        self.layers.layer_dir(cache)
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
        self.unmount(cache)?;
        self.layers.remove_container(cache)
    }

    fn is_plain_directory(&self, _cache: &str) -> bool {
        false
    }

    fn mount(&self, dirs: &ContainerDirs<'_>) -> io::Result<RootfsMount> {
        let path = self.merged(dirs.cache);
        if is_mounted(&path) {
            return Ok(RootfsMount::Directory { path });
        }
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let options = plan_options(&self.layers.difference(dirs), self.layers.work(dirs.cache));
        let output = Command::new(PROGRAM)
            .args(["-o", &options])
            .arg(&path)
            .output()?;
        if output.status.success() {
            return Ok(RootfsMount::Directory { path });
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{PROGRAM}: {}", complaint.trim())))
    }

    fn unmount(&self, cache: &str) -> io::Result<()> {
        detach(&self.merged(cache))
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
        if !layer.cache.is_empty() {
            self.unmount(layer.cache)?;
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
}

/// The program's `-o`.
fn plan_options(difference: &Difference, work: PathBuf) -> String {
    let Difference::Upper { upper, lower } = difference else {
        return String::new();
    };
    let lower: Vec<String> = lower
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        upper.display(),
        work.display()
    )
}

/// Whether something is mounted right at `path`: it is another file system than its parent.
pub(super) fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|metadata| metadata.dev());
    let parent = path.parent().unwrap_or(path);
    matches!((device(path), device(parent)), (Ok(own), Ok(parent)) if own != parent)
}

/// Takes a mount away, now or when its last user is gone. No mount is fine.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_top_first() {
        let difference = Difference::Upper {
            upper: "/u".into(),
            lower: vec!["/top".into(), "/base".into()],
        };
        assert_eq!(
            plan_options(&difference, "/w".into()),
            "lowerdir=/top:/base,upperdir=/u,workdir=/w"
        );
    }
}
