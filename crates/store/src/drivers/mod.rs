//! Storage drivers: how layers lie on disk and become a container's root.

pub mod overlay2;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use wharf_spec::rootfs::RootfsMount;

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

/// What a storage driver does. Names come from the store; the driver keeps no state of its own.
pub trait Driver: Debug + Send + Sync {
    /// As in `docker info`.
    fn name(&self) -> &'static str;

    /// The rows of `docker info` under the driver.
    fn status(&self) -> Vec<(String, String)>;

    /// Where the layer's files lie, with `diff` for its content.
    fn layer_dir(&self, cache: &str) -> PathBuf;

    /// Makes an empty layer to be filled.
    fn create_layer(&self, layer: LayerDir<'_>) -> io::Result<()>;

    /// Gives a filled layer its place above `lower`, topmost first.
    fn commit_layer(&self, layer: LayerDir<'_>, lower: &[LayerDir<'_>]) -> io::Result<()>;

    /// Makes the init and read-write layers of a container, whose directory is to be called `cache`.
    fn create_container(&self, cache: &str) -> io::Result<()>;

    /// Removes what [`Driver::create_container`] made and the container wrote. Safe to repeat.
    fn remove_container(&self, cache: &str) -> io::Result<()>;

    /// How to mount a container's root.
    fn mount(&self, dirs: &ContainerDirs<'_>) -> RootfsMount;

    /// `GraphDriver.Data` of a container.
    fn container_data(&self, dirs: &ContainerDirs<'_>) -> BTreeMap<String, String>;

    /// `GraphDriver.Data` of an image, its layers topmost first.
    fn image_data(&self, layers: &[LayerDir<'_>]) -> BTreeMap<String, String>;

    /// Removes one layer: directory and short name, each unless its name is empty. Safe to repeat.
    fn remove(&self, layer: LayerDir<'_>) -> io::Result<()>;

    /// All layers on disk: directory names, and short names.
    fn list(&self) -> io::Result<(Vec<String>, Vec<String>)>;
}

/// The init layer's name, which Docker derives from the read-write layer's.
pub(crate) fn init_name(cache: &str) -> String {
    format!("{cache}-init")
}
