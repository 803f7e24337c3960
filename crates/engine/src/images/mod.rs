//! Images as the API shows them: the store keeps them, here is what Docker says about them (moby `daemon/images`).

pub(crate) mod changes;
pub mod check;
pub mod collect;
pub mod dressed;
mod glob;
mod history;
mod import;
mod inspect;
mod list;
mod load;
mod prune;
pub mod pull;
pub mod push;
pub mod remote;
mod remove;
mod save;
pub(crate) mod tag;
mod words;

use std::collections::BTreeMap;

use jiff::Timestamp;
use wharf_spec::digest::Digest;
use wharf_store::ImageRecord;

use crate::Engine;

impl Engine {
    /// Tells listeners what happened to an image. `name` is the image's ID where Docker shows no name.
    pub(crate) fn tell_image(&self, action: &str, id: &Digest, name: &str) {
        let image = self.store.image_by_id(id).ok();
        let mut attributes: BTreeMap<String, String> = image
            .and_then(|image| image.config.labels().cloned())
            .unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        self.events
            .publish("image", action, id.as_str(), attributes);
    }
}

/// When an image was made, if its config says.
fn created(image: &ImageRecord) -> Option<Timestamp> {
    image
        .config
        .created
        .as_deref()
        .and_then(|text| text.parse().ok())
}

/// Bytes as the API's signed numbers.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
