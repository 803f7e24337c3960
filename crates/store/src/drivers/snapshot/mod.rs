//! Drivers without a union mount: each layer is a whole tree, made from a copy of the one below.
//!
//! ```text
//! <driver>/<cache-id>/diff       the tree: plain directory (vfs), subvolume (btrfs), mounted dataset (zfs) or device (devicemapper)
//! <driver>/<cache-id>/staged     a layer in overlay's form on its way onto a tree
//! <driver>/<cache-id>/placed     an empty file: laying it onto a tree was begun
//! <driver>/<cache-id>/recipe     what turns the layer into its tar again
//! ```
//!
//! A container's tree has the init layer's mount points in it; they are told from what it made itself by their names.

mod apply;
pub mod btrfs;
pub mod devicemapper;
pub mod vfs;
pub mod zfs;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use wharf_spec::rootfs::RootfsMount;

use super::{ContainerDirs, Difference, Driver, LayerDir, NewContainer, gone};
use crate::initlayer;

/// How one file system makes and copies trees. Paths are `<home>/<cache-id>/diff`.
pub trait Backend: Debug + Send + Sync {
    /// The driver's name.
    fn name(&self) -> &'static str;

    /// The rows of `docker info` under the driver.
    fn status(&self) -> Vec<(String, String)>;

    /// Whether a layer can be unpacked into the tree it becomes, and trees renamed.
    fn is_in_place(&self) -> bool;

    /// Makes an empty tree.
    fn create(&self, tree: &Path) -> io::Result<()>;

    /// Makes a tree that is a writable copy of another.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes an existing tree reachable, after a restart of the machine. Safe to repeat.
    fn attach(&self, _tree: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Takes back what [`Backend::attach`] does, once a container has ended. Safe to repeat.
    fn detach(&self, _tree: &Path) -> io::Result<()> {
        Ok(())
    }

    /// The daemon ends: these trees need not be reachable any more.
    fn close(&self, _trees: &[PathBuf]) {}

    /// Removes a tree. Safe to repeat.
    fn remove(&self, tree: &Path) -> io::Result<()>;

    /// Makes a container's tree, a copy of `from` or empty, that may grow to `size` bytes.
    fn create_container(
        &self,
        from: Option<&Path>,
        tree: &Path,
        size: Option<u64>,
    ) -> io::Result<()> {
        match from {
            Some(from) => self.copy(from, tree)?,
            None => self.create(tree)?,
        }
        size.map_or(Ok(()), |bytes| self.limit(tree, bytes))
    }

    /// Limits a tree to `bytes`.
    fn limit(&self, tree: &Path, bytes: u64) -> io::Result<()>;

    /// `GraphDriver.Data` of a tree.
    fn data(&self, _tree: &Path) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

/// The driver over a backend.
#[derive(Debug)]
pub struct Snapshots<B> {
    home: PathBuf,
    backend: B,
}

impl<B: Backend> Snapshots<B> {
    /// Opens or creates `home`.
    pub fn open(home: &Path, backend: B) -> io::Result<Snapshots<B>> {
        std::fs::create_dir_all(home)?;
        rustix::fs::chmod(home, Mode::from_raw_mode(0o710))?;
        let driver = Snapshots {
            home: home.to_owned(),
            backend,
        };
        for cache in driver.list()?.0 {
            // What a kill left half-made goes in a moment; of all else its first use tells what is wrong.
            if let Err(error) = driver.backend.attach(&driver.tree(&cache)) {
                tracing::warn!(layer = %cache, %error, "a layer cannot be reached");
            }
        }
        Ok(driver)
    }

    fn tree(&self, cache: &str) -> PathBuf {
        self.home.join(cache).join("diff")
    }

    fn staged(&self, cache: &str) -> PathBuf {
        self.home.join(cache).join("staged")
    }

    fn placed(&self, cache: &str) -> PathBuf {
        self.home.join(cache).join("placed")
    }

    /// A copy of the tree of `parent`, or an empty tree.
    fn tree_above(&self, parent: Option<&str>, tree: &Path) -> io::Result<()> {
        match parent {
            Some(parent) => self.backend.copy(&self.tree(parent), tree),
            None => self.backend.create(tree),
        }
    }
}

impl<B: Backend> Driver for Snapshots<B> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn status(&self) -> Vec<(String, String)> {
        self.backend.status()
    }

    fn layer_dir(&self, cache: &str) -> PathBuf {
        self.home.join(cache)
    }

    fn is_union(&self) -> bool {
        false
    }

    fn create_layer(&self, layer: LayerDir<'_>) -> io::Result<()> {
        std::fs::create_dir(self.home.join(layer.cache))?;
        let tree = self.tree(layer.cache);
        if self.backend.is_in_place() {
            self.backend.create(&tree)
        } else {
            std::fs::create_dir(tree)
        }
    }

    fn commit_layer(&self, layer: LayerDir<'_>, lower: &[LayerDir<'_>]) -> io::Result<()> {
        let (tree, staged) = (self.tree(layer.cache), self.staged(layer.cache));
        // Never twice: what is half laid onto a tree cannot be told from a layer.
        std::fs::File::create_new(self.placed(layer.cache))?;
        if lower.is_empty() && self.backend.is_in_place() {
            return apply::strip(&tree);
        }
        std::fs::rename(&tree, &staged)?;
        self.tree_above(lower.first().map(|top| top.cache), &tree)?;
        apply::apply(&staged, &tree)?;
        self.backend.remove(&staged)
    }

    fn is_placed(&self, cache: &str) -> bool {
        self.placed(cache).exists()
    }

    fn create_container(&self, new: NewContainer<'_>) -> io::Result<()> {
        std::fs::create_dir(self.home.join(new.cache))?;
        let tree = self.tree(new.cache);
        let parent = new.parent.map(|parent| self.tree(parent));
        self.backend
            .create_container(parent.as_deref(), &tree, new.size)?;
        initlayer::complete(&tree)
    }

    fn remove_container(&self, cache: &str) -> io::Result<()> {
        self.remove(LayerDir { cache, link: "" })
    }

    fn is_plain_directory(&self, _cache: &str) -> bool {
        false
    }

    fn mount(&self, dirs: &ContainerDirs<'_>) -> io::Result<RootfsMount> {
        let path = self.tree(dirs.cache);
        self.backend.attach(&path)?;
        Ok(RootfsMount::Directory { path })
    }

    fn unmount(&self, cache: &str) -> io::Result<()> {
        self.backend.detach(&self.tree(cache))
    }

    fn close(&self) {
        let layers = self.list().map_or(Vec::new(), |(layers, _)| layers);
        let trees: Vec<PathBuf> = layers.iter().map(|cache| self.tree(cache)).collect();
        self.backend.close(&trees);
    }

    fn open_layer(&self, layer: LayerDir<'_>) -> io::Result<()> {
        self.backend.attach(&self.tree(layer.cache))
    }

    fn difference(&self, dirs: &ContainerDirs<'_>) -> Difference {
        Difference::Trees {
            new: self.tree(dirs.cache),
            old: dirs.lower.first().map(|top| self.tree(top.cache)),
        }
    }

    fn container_data(&self, dirs: &ContainerDirs<'_>) -> BTreeMap<String, String> {
        self.backend.data(&self.tree(dirs.cache))
    }

    fn image_data(&self, layers: &[LayerDir<'_>]) -> BTreeMap<String, String> {
        layers.first().map_or_else(BTreeMap::new, |top| {
            self.backend.data(&self.tree(top.cache))
        })
    }

    fn remove(&self, layer: LayerDir<'_>) -> io::Result<()> {
        // An empty name would be the whole home.
        if layer.cache.is_empty() {
            return Ok(());
        }
        self.backend.remove(&self.tree(layer.cache))?;
        self.backend.remove(&self.staged(layer.cache))?;
        gone(std::fs::remove_dir_all(self.home.join(layer.cache)))
    }

    fn list(&self) -> io::Result<(Vec<String>, Vec<String>)> {
        let mut names = std::fs::read_dir(&self.home)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()?;
        // Other names are the backend's own.
        names.retain(|name| name.len() == 64);
        Ok((names, Vec::new()))
    }
}
