//! OverlayFS with one directory per layer, laid out as Docker's driver of this name does.
//!
//! ```text
//! overlay2/<cache-id>/diff       content, whiteouts in overlay's own form
//! overlay2/<cache-id>/link       the layer's short name
//! overlay2/<cache-id>/lower      short names of the layers below, topmost first
//! overlay2/<cache-id>/work       overlay's scratch space
//! overlay2/<cache-id>-init       the init layer of a container: a link to `init`
//! overlay2/init/diff             the init layer, the same for all containers
//! overlay2/l/<SHORT>             link to ../<cache-id>/diff
//! overlay2/new/                  where layers' directories are born
//! ```
//!
//! A container costs four entries: its init layer is shared, and what only serves as a lower layer (short name, `lower`) is left out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, Mode, OFlags};
use wharf_spec::rootfs::RootfsMount;

use super::{ContainerDirs, Difference, Driver, LayerDir, NewContainer, gone, init_name};
use crate::initlayer;
use crate::quota::ProjectQuotas;

/// Directory of the short names.
const LINKS: &str = "l";

/// The shared init layer.
const INIT: &str = "init";

/// Where layers' directories are born, see [`spreading`].
const BIRTHPLACE: &str = "new";

/// See the module.
#[derive(Debug)]
pub struct Overlay2 {
    home: PathBuf,
    /// Options of every mount.
    options: Vec<String>,
    /// Short name of the init layer.
    init_link: String,
    /// Where the file system can limit directories.
    quotas: Option<ProjectQuotas>,
    /// Limit of containers that say none.
    size: Option<u64>,
}

impl Overlay2 {
    /// Opens or creates `home`. `size`: bytes that containers may write which do not say themselves.
    pub fn open(home: &Path, size: Option<u64>) -> io::Result<Overlay2> {
        ensure_dir(home, 0o710)?;
        ensure_dir(&home.join(LINKS), 0o700)?;
        spreading(&home.join(BIRTHPLACE))?;
        let options = options();
        let init_link = ensure_init(home)?;
        let quotas = ProjectQuotas::open(home)?;
        let size = size.filter(|size| *size > 0);
        if size.is_some() && quotas.is_none() {
            return Err(unsupported(&no_daemon_quota(backing_filesystem(home))));
        }
        Ok(Overlay2 {
            home: home.to_owned(),
            options,
            init_link,
            quotas,
            size,
        })
    }

    fn diff(&self, cache: &str) -> PathBuf {
        self.home.join(cache).join("diff")
    }

    pub(super) fn work(&self, cache: &str) -> PathBuf {
        self.home.join(cache).join("work")
    }

    fn link(&self, link: &str) -> PathBuf {
        self.home.join(LINKS).join(link)
    }

    /// Directory, content and short name, the start of every layer.
    fn create(&self, layer: LayerDir<'_>) -> io::Result<PathBuf> {
        let dir = self.home.join(layer.cache);
        let born = self.home.join(BIRTHPLACE).join(layer.cache);
        make_dir(&born, 0o710)?;
        std::fs::rename(&born, &dir)?;
        make_dir(&dir.join("diff"), 0o755)?;
        write_file(&dir.join("link"), layer.link)?;
        rustix::fs::symlink(format!("../{}/diff", layer.cache), self.link(layer.link))?;
        Ok(dir)
    }

    fn data(&self, cache: &str, lower: &[PathBuf]) -> BTreeMap<String, String> {
        let dir = self.home.join(cache);
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut data = BTreeMap::new();
        if !lower.is_empty() {
            let lower: Vec<String> = lower.iter().cloned().map(text).collect();
            data.insert("LowerDir".to_owned(), lower.join(":"));
        }
        data.insert("MergedDir".to_owned(), text(dir.join("merged")));
        data.insert("UpperDir".to_owned(), text(dir.join("diff")));
        data.insert("WorkDir".to_owned(), text(dir.join("work")));
        data
    }
}

impl Driver for Overlay2 {
    fn name(&self) -> &'static str {
        "overlay2"
    }

    /// The kernel's 500 (fs/overlayfs `OVL_MAX_STACK`), one of which is the init layer.
    fn max_layers(&self) -> Option<usize> {
        Some(499)
    }

    fn status(&self) -> Vec<(String, String)> {
        let row = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        vec![
            row("Backing Filesystem", backing_filesystem(&self.home)),
            row("Supports d_type", "true"),
            row("Using metacopy", "false"),
            row("Native Overlay Diff", "true"),
            row("userxattr", "false"),
        ]
    }

    fn layer_dir(&self, cache: &str) -> PathBuf {
        self.home.join(cache)
    }

    fn create_layer(&self, layer: LayerDir<'_>) -> io::Result<()> {
        self.create(layer).map(drop)
    }

    fn commit_layer(&self, layer: LayerDir<'_>, lower: &[LayerDir<'_>]) -> io::Result<()> {
        if lower.is_empty() {
            return Ok(());
        }
        let dir = self.home.join(layer.cache);
        ensure_dir(&dir.join("work"), 0o700)?;
        let links: Vec<String> = lower
            .iter()
            .map(|l| format!("{LINKS}/{}", l.link))
            .collect();
        std::fs::write(dir.join("lower"), links.join(":"))
    }

    fn create_container(&self, new: NewContainer<'_>) -> io::Result<()> {
        let cache = new.cache;
        if new.size.is_some() && self.quotas.is_none() {
            return Err(unsupported(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            ));
        }
        let dir = self.home.join(cache);
        rustix::fs::symlink(INIT, self.home.join(init_name(cache)))?;
        make_dir(&dir, 0o710)?;
        // Before anything is in it: overlay renames between the two, which must be of one project.
        if let Some((quotas, size)) = self.quotas.as_ref().zip(new.size.or(self.size)) {
            quotas.limit(&dir, size)?;
        }
        make_dir(&dir.join("diff"), 0o755)?;
        make_dir(&dir.join("work"), 0o700)
    }

    fn remove_container(&self, cache: &str) -> io::Result<()> {
        let dir = self.home.join(cache);
        if let Some(quotas) = &self.quotas {
            quotas.release(&dir)?;
        }
        gone(std::fs::remove_file(self.home.join(init_name(cache))))?;
        // Most containers wrote nothing; then this is all, and what is not empty stays for the thorough way.
        for empty in ["work/work", "work", "diff", ""] {
            let _ = rustix::fs::rmdir(dir.join(empty));
        }
        gone(std::fs::remove_dir_all(dir))
    }

    fn is_plain_directory(&self, cache: &str) -> bool {
        let Some(quotas) = &self.quotas else {
            return true;
        };
        matches!(quotas.usage(&self.home.join(cache)), Ok(None))
    }

    fn mount(&self, dirs: &ContainerDirs<'_>) -> io::Result<RootfsMount> {
        let init = self.link(&self.init_link);
        Ok(RootfsMount::Overlay {
            lower: std::iter::once(init)
                .chain(dirs.lower.iter().map(|l| self.link(l.link)))
                .collect(),
            upper: self.diff(dirs.cache),
            work: self.work(dirs.cache),
            options: self.options.clone(),
        })
    }

    fn difference(&self, dirs: &ContainerDirs<'_>) -> Difference {
        let init = self.diff(INIT);
        let layers = dirs.lower.iter().map(|layer| self.diff(layer.cache));
        Difference::Upper {
            upper: self.diff(dirs.cache),
            lower: std::iter::once(init).chain(layers).collect(),
        }
    }

    fn container_data(&self, dirs: &ContainerDirs<'_>) -> BTreeMap<String, String> {
        let init = self.diff(&init_name(dirs.cache));
        let lower: Vec<PathBuf> = std::iter::once(init)
            .chain(dirs.lower.iter().map(|l| self.diff(l.cache)))
            .collect();
        self.data(dirs.cache, &lower)
    }

    fn image_data(&self, layers: &[LayerDir<'_>]) -> BTreeMap<String, String> {
        let Some((top, lower)) = layers.split_first() else {
            return BTreeMap::new();
        };
        let lower: Vec<PathBuf> = lower.iter().map(|l| self.diff(l.cache)).collect();
        self.data(top.cache, &lower)
    }

    fn remove(&self, layer: LayerDir<'_>) -> io::Result<()> {
        if !layer.link.is_empty() {
            gone(std::fs::remove_file(self.link(layer.link)))?;
        }
        // An empty name would be the whole home.
        if layer.cache.is_empty() {
            return Ok(());
        }
        gone(std::fs::remove_dir_all(self.home.join(layer.cache)))
    }

    fn is_linked(&self, layer: LayerDir<'_>) -> bool {
        let target = std::fs::read_link(self.link(layer.link));
        let named = std::fs::read_to_string(self.home.join(layer.cache).join("link"));
        target.is_ok_and(|target| target == Path::new(&link_target(layer.cache)))
            && named.is_ok_and(|name| name == layer.link)
    }

    fn relink(&self, layer: LayerDir<'_>) -> io::Result<()> {
        std::fs::write(self.home.join(layer.cache).join("link"), layer.link)?;
        // The name is never missing: layers above may be mounted at any moment.
        let new = self.home.join(LINKS).join(format!("{}.new", layer.link));
        gone(std::fs::remove_file(&new))?;
        rustix::fs::symlink(link_target(layer.cache), &new)?;
        std::fs::rename(new, self.link(layer.link))
    }

    fn list(&self) -> io::Result<(Vec<String>, Vec<String>)> {
        let mut dirs = names(&self.home)?;
        dirs.retain(|name| ![LINKS, INIT, BIRTHPLACE].contains(&name.as_str()));
        let mut links = names(&self.home.join(LINKS))?;
        links.retain(|link| *link != self.init_link);
        Ok((dirs, links))
    }
}

/// A kernel with the inode index would refuse an upper directory that was used with other lower ones; Docker turns it off too. With
/// redirected or metadata-only copies the upper directory alone would not tell what has changed, so where those are the kernel's
/// default they are turned off.
fn options() -> Vec<String> {
    let parameter =
        |name: &str| std::fs::read_to_string(format!("/sys/module/overlay/parameters/{name}")).ok();
    let mut options = Vec::new();
    if parameter("index").is_some() {
        options.push("index=off".to_owned());
    }
    for name in ["redirect_dir", "metacopy"] {
        if parameter(name).is_some_and(|value| value.starts_with('Y')) {
            options.push(format!("{name}=off"));
        }
    }
    options
}

/// The short name of the shared init layer, which is made on first use. It appears whole: a kill leaves only a directory nobody knows.
fn ensure_init(home: &Path) -> io::Result<String> {
    let dir = home.join(INIT);
    if let Ok(link) = std::fs::read_to_string(dir.join("link")) {
        return Ok(link);
    }
    let link = crate::store::new_link().map_err(io::Error::other)?;
    let part = home.join(format!("{INIT}-{link}"));
    make_dir(&part, 0o710)?;
    make_dir(&part.join("diff"), 0o755)?;
    initlayer::create(&part.join("diff"))?;
    write_file(&part.join("link"), &link)?;
    rustix::fs::symlink(format!("../{INIT}/diff"), home.join(LINKS).join(&link))?;
    std::fs::rename(&part, &dir)?;
    Ok(link)
}

/// Makes a directory whose subdirectories are unrelated: ext2 to ext4 put each of them elsewhere (chattr(1), `T`; kernel
/// `fs/ext4/ialloc.c`, `find_group_orlov`), and what is made below them stays near. Otherwise all layers share few inode groups, and
/// ext4, which does not take an inode up to five minutes after it became free, passes over all those of layers that
/// were removed, for each new file: up to half a millisecond. A kill may leave an empty directory in it, which goes here.
fn spreading(path: &Path) -> io::Result<()> {
    ensure_dir(path, 0o700)?;
    for name in names(path)? {
        gone(rustix::fs::rmdir(path.join(name)).map_err(io::Error::from))?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty())?;
    // Other file systems know of no such flag.
    if let Ok(known) = rustix::fs::ioctl_getflags(&dir) {
        let _ = rustix::fs::ioctl_setflags(&dir, known | IFlags::TOPDIR);
    }
    Ok(())
}

fn link_target(cache: &str) -> String {
    format!("../{cache}/diff")
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Makes a directory with exactly this mode, whatever the umask.
fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode))?;
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

fn ensure_dir(path: &Path, mode: u32) -> io::Result<()> {
    match make_dir(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?;
    rustix::io::write(fd, text.as_bytes())?;
    Ok(())
}

fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Docker's words, which know of XFS alone; ext4 mounted with `prjquota` does as well.
fn no_daemon_quota(file_system: &str) -> String {
    match file_system {
        "xfs" | "extfs" => "Storage option overlay2.size only supported for backingFS XFS with 'pquota' mount option".to_owned(),
        other => format!("Storage option overlay2.size only supported for backingFS XFS. Found {other}"),
    }
}

/// Names of `statfs(2)` types, as Docker prints them.
fn backing_filesystem(home: &Path) -> &'static str {
    let Ok(statfs) = rustix::fs::statfs(home) else {
        return "<unknown>";
    };
    match statfs.f_type {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        _ => "<unknown>",
    }
}
