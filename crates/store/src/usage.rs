//! What the store takes on disk.

use std::path::Path;

use crate::kept::names_in;
use crate::store::Store;

/// Bytes, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files of image layers, as Docker counts them.
    pub layers: u64,
    /// What turns these files into tars again.
    pub recipes: u64,
    /// Layers of pulls that were cut off.
    pub parked: u64,
    /// Beginnings of blobs.
    pub partial: u64,
    /// Compressed layers.
    pub kept: u64,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.layers + self.recipes + self.parked + self.partial + self.kept
    }
}

impl Store {
    /// Adds up what is on disk of images and of pulls. Blocking: a look at one file of each layer.
    pub fn usage(&self) -> Usage {
        let (mut usage, dirs) = {
            let state = self.state.lock();
            let mut usage = Usage::default();
            let mut dirs = Vec::new();
            for layer in state.layers.values() {
                usage.layers += layer.size;
                dirs.push(layer.cache.clone());
            }
            for parked in state.parked.values() {
                usage.parked += parked.size;
                dirs.push(parked.cache.clone());
            }
            (usage, dirs)
        };
        for dir in dirs {
            usage.recipes += length(&self.driver.layer_dir(&dir).join("recipe"));
        }
        usage.partial = in_directory(&self.partial_dir);
        usage.kept = in_directory(&self.kept_dir);
        usage
    }
}

fn in_directory(dir: &Path) -> u64 {
    let names = names_in(dir);
    names.iter().map(|name| length(&dir.join(name))).sum()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}
