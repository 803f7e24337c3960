//! AUFS, Docker's first driver: a union of branches, whiteouts as files of special names.
//!
//! ```text
//! aufs/<cache-id>/diff     one branch; `.wh.<name>` hides a name, `.wh..wh..opq` all that is below a directory
//! aufs/<cache-id>/init     the init layer's branch of a container
//! aufs/<cache-id>/mnt      the union, mounted while a container needs it
//! aufs/<cache-id>/base     the same without the read-write branch, to compare with
//! ```
//!
//! AUFS never became part of Linux; the driver works on kernels that carry the patch and says so on others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::mount::MountFlags;
use wharf_spec::rootfs::RootfsMount;

use super::fuse_overlayfs::{detach, is_mounted};
use super::{ContainerDirs, Difference, Driver, LayerDir, NewContainer, gone};
use crate::initlayer;
use crate::unpack::{OPAQUE, OPAQUE_XATTR, WHITEOUT};

/// See the module.
#[derive(Debug)]
pub struct Aufs {
    home: PathBuf,
}

impl Aufs {
    /// Opens or creates `home`.
    pub fn open(home: &Path) -> io::Result<Aufs> {
        fs::create_dir_all(home)?;
        Ok(Aufs {
            home: home.to_owned(),
        })
    }

    /// Whether the kernel has it.
    #[must_use]
    pub fn is_there() -> bool {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        known.lines().any(|line| line.ends_with("\taufs"))
    }

    fn sub(&self, cache: &str, name: &str) -> PathBuf {
        self.home.join(cache).join(name)
    }

    /// Read-only branches of a container, topmost first.
    fn lower(&self, dirs: &ContainerDirs<'_>) -> Vec<PathBuf> {
        let init = self.sub(dirs.cache, "init");
        let layers = dirs.lower.iter().map(|layer| self.sub(layer.cache, "diff"));
        std::iter::once(init).chain(layers).collect()
    }
}

impl Driver for Aufs {
    fn name(&self) -> &'static str {
        "aufs"
    }

    fn status(&self) -> Vec<(String, String)> {
        let layers = self.list().map_or(0, |(layers, _)| layers.len());
        vec![
            ("Root Dir".to_owned(), self.home.display().to_string()),
            ("Dirs".to_owned(), layers.to_string()),
        ]
    }

    fn layer_dir(&self, cache: &str) -> PathBuf {
        self.home.join(cache)
    }

    fn create_layer(&self, layer: LayerDir<'_>) -> io::Result<()> {
        fs::create_dir(self.home.join(layer.cache))?;
        make_branch(&self.sub(layer.cache, "diff"))
    }

    fn commit_layer(&self, layer: LayerDir<'_>, _lower: &[LayerDir<'_>]) -> io::Result<()> {
        to_names(&self.sub(layer.cache, "diff"))
    }

    fn create_container(&self, new: NewContainer<'_>) -> io::Result<()> {
        if new.size.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "--storage-opt is not supported for aufs",
            ));
        }
        fs::create_dir(self.home.join(new.cache))?;
        make_branch(&self.sub(new.cache, "diff"))?;
        let init = self.sub(new.cache, "init");
        make_branch(&init)?;
        initlayer::create(&init)
    }

    fn remove_container(&self, cache: &str) -> io::Result<()> {
        self.remove(LayerDir { cache, link: "" })
    }

    fn is_plain_directory(&self, _cache: &str) -> bool {
        false
    }

    fn mount(&self, dirs: &ContainerDirs<'_>) -> io::Result<RootfsMount> {
        let lower = self.lower(dirs);
        let upper = self.sub(dirs.cache, "diff");
        let path = self.sub(dirs.cache, "mnt");
        mount_union(&plan_branches(Some(&upper), &lower), &path)?;
        mount_union(&plan_branches(None, &lower), &self.sub(dirs.cache, "base"))?;
        Ok(RootfsMount::Directory { path })
    }

    fn unmount(&self, cache: &str) -> io::Result<()> {
        detach(&self.sub(cache, "mnt"))?;
        detach(&self.sub(cache, "base"))
    }

    fn difference(&self, dirs: &ContainerDirs<'_>) -> Difference {
        Difference::Trees {
            new: self.sub(dirs.cache, "mnt"),
            old: Some(self.sub(dirs.cache, "base")),
        }
    }

    fn container_data(&self, _dirs: &ContainerDirs<'_>) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn image_data(&self, _layers: &[LayerDir<'_>]) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn remove(&self, layer: LayerDir<'_>) -> io::Result<()> {
        if layer.cache.is_empty() {
            return Ok(());
        }
        self.unmount(layer.cache)?;
        gone(fs::remove_dir_all(self.home.join(layer.cache)))
    }

    fn list(&self) -> io::Result<(Vec<String>, Vec<String>)> {
        let names = fs::read_dir(&self.home)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()?;
        Ok((names, Vec::new()))
    }
}

fn make_branch(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(0o755))?)
}

/// The mount option that names the branches, as moby's driver wrote it: `rw` first, then `ro+wh`, topmost first.
fn plan_branches(upper: Option<&Path>, lower: &[PathBuf]) -> String {
    let writable = upper.map(|path| format!("{}=rw", path.display()));
    let readable = lower.iter().map(|path| format!("{}=ro+wh", path.display()));
    let branches: Vec<String> = writable.into_iter().chain(readable).collect();
    format!("br:{},dio,xino=/dev/shm/aufs.xino", branches.join(":"))
}

fn mount_union(options: &str, path: &Path) -> io::Result<()> {
    if is_mounted(path) {
        return Ok(());
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount(
        "none",
        path,
        "aufs",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )?;
    Ok(())
}

/// Turns overlay's marks into names.
fn to_names(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            fs::remove_file(&path)?;
            let name = entry.file_name();
            let hidden = [WHITEOUT, name.as_bytes()];
            mark(dir, &hidden.concat())?;
        } else if metadata.is_dir() {
            to_names(&path)?;
            if rustix::fs::lremovexattr(&path, OPAQUE_XATTR).is_ok() {
                mark(&path, OPAQUE)?;
            }
        }
    }
    Ok(())
}

/// An empty file of a special name.
fn mark(dir: &Path, name: &[u8]) -> io::Result<()> {
    fs::File::create(dir.join(OsStr::from_bytes(name))).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, XattrFlags};

    #[test]
    fn the_writable_branch_comes_first() {
        let lower = ["/init".into(), "/top".into()];
        assert_eq!(
            plan_branches(Some(Path::new("/rw")), &lower),
            "br:/rw=rw:/init=ro+wh:/top=ro+wh,dio,xino=/dev/shm/aufs.xino"
        );
        assert_eq!(
            plan_branches(None, &lower),
            "br:/init=ro+wh:/top=ro+wh,dio,xino=/dev/shm/aufs.xino"
        );
    }

    #[test]
    fn marks_become_names() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path();
        fs::create_dir(root.join("opaque")).expect("mkdir");
        rustix::fs::lsetxattr(root.join("opaque"), OPAQUE_XATTR, b"y", XattrFlags::empty())
            .expect("setxattr");
        rustix::fs::mknodat(
            CWD,
            root.join("opaque/gone"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0),
            0,
        )
        .expect("mknod");
        to_names(root).expect("named");
        assert!(root.join("opaque/.wh.gone").is_file());
        assert!(root.join("opaque/.wh..wh..opq").is_file());
        assert!(!root.join("opaque/gone").exists());
    }
}
