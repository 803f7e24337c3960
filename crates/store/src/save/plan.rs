//! Which images and names go into an archive.

use wharf_spec::digest::Digest;
use wharf_spec::platform::Platform;
use wharf_spec::reference::{AnyReference, Reference};

use crate::error::StoreError;
use crate::image::{self, ImageRecord};
use crate::layer::{Layer, chain_of};
use crate::state::State;
use crate::store::{Pins, Store};

/// Images to save. While it lives, their layers stay.
#[derive(Debug)]
pub struct SavePlan {
    pub(super) images: Vec<PlannedImage>,
    _pins: Pins,
}

#[derive(Debug)]
pub(super) struct PlannedImage {
    pub(super) record: ImageRecord,
    /// Tags it was asked for by.
    pub(super) references: Vec<Reference>,
    /// Bottom first, with the directory of each.
    pub(super) layers: Vec<(Layer, std::path::PathBuf)>,
}

impl SavePlan {
    /// IDs of the images, in order.
    pub fn image_ids(&self) -> impl Iterator<Item = &Digest> {
        self.images.iter().map(|image| &image.record.id)
    }
}

impl Store {
    /// Resolves names as `docker save` does: an ID gives the image without names, a bare name all its tags.
    pub fn plan_save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<SavePlan, StoreError> {
        let mut pins = Pins::new(self);
        let mut state = self.state.lock();
        let mut wanted: Vec<(ImageRecord, Vec<Reference>)> = Vec::new();
        for name in names {
            for (record, reference) in resolve(&state, name)? {
                add(&mut wanted, record, reference);
            }
        }
        let mut images = Vec::new();
        for (record, references) in wanted {
            check(&record, platform)?;
            if let Some(top) = &record.top {
                pins.keep(&mut state, top.clone());
            }
            let chain = chain_of(&state.layers, record.top.as_ref());
            let layers = chain
                .into_iter()
                .rev()
                .map(|layer| (layer.clone(), self.driver.layer_dir(&layer.cache)))
                .collect();
            images.push(PlannedImage {
                record,
                references,
                layers,
            });
        }
        drop(state);
        Ok(SavePlan {
            images,
            _pins: pins,
        })
    }
}

fn add(
    wanted: &mut Vec<(ImageRecord, Vec<Reference>)>,
    record: ImageRecord,
    reference: Option<Reference>,
) {
    let at = wanted
        .iter()
        .position(|(known, _)| known.id == record.id)
        .unwrap_or_else(|| {
            wanted.push((record, Vec::new()));
            wanted.len() - 1
        });
    let references = &mut wanted[at].1;
    references.extend(reference.filter(|reference| !references.contains(reference)));
}

fn resolve(state: &State, name: &str) -> Result<Vec<(ImageRecord, Option<Reference>)>, StoreError> {
    let reference = match AnyReference::parse(name)? {
        AnyReference::Id(_) => return Ok(vec![(image::find(state, name)?, None)]),
        AnyReference::Named(reference) => reference,
    };
    if reference.familiar_name() == "sha256" {
        // `sha256:` and a part of an ID looks like a name with a tag.
        return Ok(vec![(by_prefix(state, name)?, None)]);
    }
    if !reference.is_name_only() {
        let id = state.references.get(&reference);
        let record = id.and_then(|id| state.images.get(id));
        let record =
            record.ok_or_else(|| StoreError::NotFound("reference does not exist".to_owned()))?;
        return Ok(vec![(
            record.clone(),
            reference.digest().is_none().then_some(reference),
        )]);
    }
    let same_name = state.references.iter().filter(|(known, _)| {
        known.domain() == reference.domain() && known.path() == reference.path()
    });
    let tagged: Vec<_> = same_name
        .filter_map(|(known, id)| {
            Some((
                state.images.get(id)?.clone(),
                known.tag().map(|_| known.clone()),
            ))
        })
        .collect();
    if tagged.is_empty() {
        Ok(vec![(by_prefix(state, name)?, None)])
    } else {
        Ok(tagged)
    }
}

fn by_prefix(state: &State, name: &str) -> Result<ImageRecord, StoreError> {
    image::find_prefix(state, name)
        .cloned()
        .ok_or_else(|| StoreError::NoSuchImage(name.to_owned()))
}

fn check(record: &ImageRecord, platform: Option<&Platform>) -> Result<(), StoreError> {
    if let Some(platform) = platform
        && !platform.runs(&record.config.platform())
    {
        let wanted = platform.format_all();
        return Err(StoreError::Invalid(format!(
            "no suitable export target found for platform {wanted}"
        )));
    }
    if record.config.diff_ids().is_empty() {
        return Err(StoreError::Invalid(
            "empty export - not implemented".to_owned(),
        ));
    }
    Ok(())
}
