//! `--squash`: all layers above the base become one (moby `daemon/images/image_squash.go`).

use serde_json::{Value, json};
use wharf_api::gojson;
use wharf_build::copy::{Layer, difference};
use wharf_build::files::{Directory, Files, Nothing};
use wharf_spec::digest::{DiffId, Digest};
use wharf_store::ExtendError;

use crate::container::root_view::RootView;
use crate::{Engine, Error, Result};

impl Engine {
    /// An image like `image`, with one layer above those of `base`. Blocking.
    pub(super) fn squash(&self, image: &Digest, base: Option<&Digest>) -> Result<Digest> {
        let new = self.tree_of(image)?;
        let nothing: Box<dyn Files> = Box::new(Nothing);
        let old = match base {
            Some(base) => self.tree_of(base)?,
            None => nothing,
        };
        let config = self.store.image_by_id(image)?.raw.to_vec();
        let below = match base {
            Some(base) => self.store.image_by_id(base)?.config.clone(),
            None => Default::default(),
        };
        let mut write = |out: &mut dyn std::io::Write| {
            let mut layer = Layer::new(&*old, 0);
            difference(&mut layer, &*old, &*new).map_err(|error| error.to_string())?;
            layer.write(out).map_err(|error| error.to_string())
        };
        let comment = match base {
            Some(base) => format!("merge {image} to {base}"),
            None => format!("create new from {image}"),
        };
        let created = wharf_api::time::rfc3339_nano(jiff::Timestamp::now());
        let make = |diff: Option<&DiffId>| {
            let steps = below.history.len();
            let mut diffs = below.diff_ids().to_vec();
            diffs.extend(diff.cloned());
            squashed(&config, steps, &json!(diffs), &comment, &created)
        };
        let made = self.store.extend(base, Some(&mut write), make);
        let id = made.map_err(|error| match error {
            ExtendError::Written(text) => Error::internal(text),
            ExtendError::Store(error) => error.into(),
        })?;
        // It stands for itself: its history has no images.
        self.store.forget_parent(&id)?;
        Ok(id)
    }

    /// The files of an image. Blocking.
    pub(crate) fn tree_of(&self, image: &Digest) -> Result<Box<dyn Files>> {
        let held = self.store.hold_layers(image)?;
        if held.dirs.is_empty() {
            return Ok(Box::new(Nothing));
        }
        let failed = |error| Error::caused("look at the image's files", error);
        let root = RootView::of_layers(&held.dirs).map_err(failed)?;
        Ok(Box::new(Directory::new(root, held).map_err(failed)?))
    }
}

/// The config of the squashed image: the steps of the build have no layers any more, a last one has all.
fn squashed(config: &[u8], steps: usize, diffs: &Value, comment: &str, created: &str) -> Vec<u8> {
    // It was read when the image was made.
    let mut image: Value = serde_json::from_slice(config).unwrap_or_default();
    if let Some(history) = image["history"].as_array_mut() {
        for entry in history.iter_mut().skip(steps) {
            entry["empty_layer"] = json!(true);
        }
        history.push(json!({"created": created, "comment": comment}));
    }
    image["rootfs"]["diff_ids"] = diffs.clone();
    image["created"] = json!(created);
    gojson::to_string(&image).into_bytes()
}
