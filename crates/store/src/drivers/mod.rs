//! Storage drivers: how layers lie on disk and become a container's root.
//!
//! Layers are unpacked in overlay's form, whatever the driver. A union driver keeps them like that; a snapshot driver lays each onto a
//! copy of the tree below it. Either way a layer's directory holds `diff` (its content) and `recipe` (what turns it into its tar again).

pub mod aufs;
mod choose;
pub mod erofs;
pub mod fuse_overlayfs;
pub(crate) mod options;
pub mod overlay2;
pub mod snapshot;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use wharf_spec::rootfs::RootfsMount;

pub use choose::{Choice, DriverError, choose};

/// A directory of the driver and its short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerDir<'a> {
    /// Directory name.
    pub cache: &'a str,
    /// Short name, where the driver has one.
    pub link: &'a str,
}

/// The directories of one container.
#[derive(Debug, Clone)]
pub struct ContainerDirs<'a> {
    /// Directory of the read-write layer.
    pub cache: &'a str,
    /// Image layers, topmost first.
    pub lower: Vec<LayerDir<'a>>,
}

/// A container's layers about to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewContainer<'a> {
    /// What the directory of the read-write layer is to be called.
    pub cache: &'a str,
    /// Directory name of the topmost image layer.
    pub parent: Option<&'a str>,
    /// Bytes it may grow to (`--storage-opt size=`).
    pub size: Option<u64>,
}

/// What a layer is unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// The directory `diff`.
    Directory,
    /// One EROFS image beside it.
    Image,
}

/// Where a container's changes are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The read-write layer holds the changes alone, in overlay's form.
    Upper {
        /// The read-write layer.
        upper: PathBuf,
        /// What is below, topmost first, the init layer first of all.
        lower: Vec<PathBuf>,
    },
    /// Two whole trees, to be compared. Mount points that the engine made are in the newer one only.
    Trees {
        /// The container's.
        new: PathBuf,
        /// The image's; `None` for an image without layers.
        old: Option<PathBuf>,
    },
}

/// What a storage driver does. Names come from the store; the driver keeps no state of its own.
pub trait Driver: Debug + Send + Sync {
    /// As in `docker info`.
    fn name(&self) -> &'static str;

    /// The rows of `docker info` under the driver.
    fn status(&self) -> Vec<(String, String)>;

    /// How many layers an image may have, if that is limited.
    fn max_layers(&self) -> Option<usize> {
        None
    }

    /// Where the layer's files lie, with `diff` for its content.
    fn layer_dir(&self, cache: &str) -> PathBuf;

    /// Whether layers hold what they change, in overlay's form; else each is a whole tree.
    fn is_union(&self) -> bool {
        true
    }

    /// What layers are unpacked into.
    fn form(&self) -> LayerForm {
        LayerForm::Directory
    }

    /// Makes a layer's files readable at `diff`. Safe to repeat.
    fn open_layer(&self, _layer: LayerDir<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Makes an empty layer to be filled.
    fn create_layer(&self, layer: LayerDir<'_>) -> io::Result<()>;

    /// Gives a filled layer its place above `lower`, topmost first.
    fn commit_layer(&self, layer: LayerDir<'_>, lower: &[LayerDir<'_>]) -> io::Result<()>;

    /// Whether [`Driver::commit_layer`] was begun on the layer and changes what is in its directory.
    fn is_placed(&self, _cache: &str) -> bool {
        false
    }

    /// Makes the init and read-write layers of a container.
    fn create_container(&self, new: NewContainer<'_>) -> io::Result<()>;

    /// Removes what [`Driver::create_container`] made and the container wrote. Safe to repeat.
    fn remove_container(&self, cache: &str) -> io::Result<()>;

    /// Whether a container's or a layer's directory can be thrown away by renaming it, before [`Driver::remove_container`] or
    /// [`Driver::remove`].
    fn is_plain_directory(&self, cache: &str) -> bool;

    /// How to mount a container's root, which this makes ready. Safe to repeat.
    fn mount(&self, dirs: &ContainerDirs<'_>) -> io::Result<RootfsMount>;

    /// Takes back what [`Driver::mount`] made ready on the host; the container has ended. Safe to repeat.
    fn unmount(&self, _cache: &str) -> io::Result<()> {
        Ok(())
    }

    /// Where a container's changes are.
    fn difference(&self, dirs: &ContainerDirs<'_>) -> Difference;

    /// `GraphDriver.Data` of a container.
    fn container_data(&self, dirs: &ContainerDirs<'_>) -> BTreeMap<String, String>;

    /// `GraphDriver.Data` of an image, its layers topmost first.
    fn image_data(&self, layers: &[LayerDir<'_>]) -> BTreeMap<String, String>;

    /// Removes one layer: directory and short name, each unless its name is empty. Safe to repeat.
    fn remove(&self, layer: LayerDir<'_>) -> io::Result<()>;

    /// Whether the layer is reached by its short name, where the driver has one.
    fn is_linked(&self, _layer: LayerDir<'_>) -> bool {
        true
    }

    /// Gives the layer its short name again, or another one. Safe to repeat.
    fn relink(&self, _layer: LayerDir<'_>) -> io::Result<()> {
        Ok(())
    }

    /// The daemon ends: takes back what is mounted on the host for it alone.
    fn close(&self) {}

    /// All layers on disk: directory names, and short names.
    fn list(&self) -> io::Result<(Vec<String>, Vec<String>)>;
}

/// The init layer's name, which Docker derives from the read-write layer's.
pub(crate) fn init_name(cache: &str) -> String {
    format!("{cache}-init")
}

/// Something that may already be gone.
pub(crate) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
