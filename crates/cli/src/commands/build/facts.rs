//! What the daemon tells of a build it finished: the last line of an answer to our own client.

use serde::Deserialize;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// The result.
    pub(super) image: String,
    /// Images of the other stages.
    pub(super) stages: Vec<String>,
    /// Images that were built upon.
    pub(super) bases: Vec<Base>,
    /// Names of further contexts.
    pub(super) contexts: Vec<String>,
}

/// An image that was built upon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Base {
    /// As the Dockerfile has it.
    pub(super) name: String,
    /// Its ID.
    pub(super) id: String,
    /// Digests by which registries know it.
    pub(super) digests: Vec<String>,
}

impl Facts {
    /// The result, and with `all` the stages too, each once.
    pub(super) fn images(&self, all: bool) -> Vec<String> {
        let mut images = vec![self.image.clone()];
        for stage in self.stages.iter().filter(|_| all) {
            if !images.contains(stage) {
                images.push(stage.clone());
            }
        }
        images
    }
}
