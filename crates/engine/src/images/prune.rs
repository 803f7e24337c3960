//! `docker image prune`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use wharf_api::error::Kind;
use wharf_api::filters::Filters;
use wharf_api::image::{DeleteItem, ImagePruneReport};
use wharf_api::time::parse_filter_time;
use wharf_spec::digest::Digest;
use wharf_store::ImageRecord;

use super::created;
use crate::{Engine, Error, Result, blocking, matches_unwanted};

/// A pull that broke off so recently may be repeated at any moment.
const LEFT_FOR: Duration = Duration::from_secs(60);

const ACCEPTED: [&str; 4] = ["dangling", "label", "label!", "until"];

impl Engine {
    /// Removes images without names, or with `dangling=false` all that no container uses.
    pub async fn image_prune(&self, filters: Filters) -> Result<ImagePruneReport> {
        filters.validate(&ACCEPTED)?;
        let dangling = filters.get_bool("dangling", true)?;
        let until = until(&filters)?;
        self.finish(move |engine| async move {
            blocking(move || engine.prune_images(&filters, dangling, until)).await
        })
        .await
    }

    fn prune_images(
        &self,
        filters: &Filters,
        dangling: bool,
        until: Option<Timestamp>,
    ) -> Result<ImagePruneReport> {
        let sizes: HashMap<String, u64> = self
            .store
            .layers()
            .into_iter()
            .map(|layer| (layer.chain.to_string(), layer.size))
            .collect();
        let mut deleted: Vec<DeleteItem> = Vec::new();
        for image in self.prune_candidates(filters, until) {
            for name in self.prune_names(&image, dangling) {
                match self.remove_image_now(&name, false, true) {
                    Ok(items) => deleted.extend(items),
                    // Images in use stay; that is the point of pruning.
                    Err(error) if error.kind() == Kind::Conflict => {}
                    Err(error) => tracing::warn!(image = %name, %error, "failed to prune image"),
                }
            }
        }
        let layers: u64 = deleted
            .iter()
            .filter_map(|item| sizes.get(&item.deleted))
            .sum();
        let space_reclaimed = layers + self.prune_downloads();
        let attributes =
            BTreeMap::from([("reclaimed".to_owned(), u64::to_string(&space_reclaimed))]);
        self.events.publish("image", "prune", "", attributes);
        Ok(ImagePruneReport {
            images_deleted: (!deleted.is_empty()).then_some(deleted),
            space_reclaimed,
        })
    }

    /// What pulls that were cut off left, unless a pull is under way that may go on with it. Returns the bytes.
    fn prune_downloads(&self) -> u64 {
        if !self.downloads.is_idle() {
            return 0;
        }
        let before = self.store.usage();
        self.store.remove_partial(LEFT_FOR);
        if let Err(error) = self.store.remove_parked(LEFT_FOR) {
            tracing::warn!(%error, "layers of interrupted pulls were not removed");
        }
        let after = self.store.usage();
        (before.parked + before.partial).saturating_sub(after.parked + after.partial)
    }

    /// Images that are the end of a line and pass the filters.
    fn prune_candidates(&self, filters: &Filters, until: Option<Timestamp>) -> Vec<ImageRecord> {
        let mut images = self.store.images();
        let parents: HashSet<Digest> = images
            .iter()
            .filter_map(|image| image.parent.clone())
            .collect();
        images.retain(|image| {
            let named = !self.store.references_of(&image.id).is_empty();
            (named || !parents.contains(&image.id))
                && until.is_none_or(|until| created(image).is_some_and(|at| at <= until))
                && filters.matches_labels("label", image.config.labels())
                && !matches_unwanted(filters, image.config.labels())
        });
        images
    }

    /// By which names to remove an image; none if it is to stay.
    fn prune_names(&self, image: &ImageRecord, dangling: bool) -> Vec<String> {
        let names = self.store.references_of(&image.id);
        if names.is_empty() {
            return vec![image.id.hex().to_owned()];
        }
        if dangling && names.iter().any(|name| name.digest().is_none()) {
            return Vec::new();
        }
        names.iter().map(ToString::to_string).collect()
    }
}

fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    match filters.get("until") {
        [] => Ok(None),
        [text] => {
            let at = parse_filter_time(text, Timestamp::now()).map_err(|error| {
                Error::invalid(format!("invalid value for 'until' filter: {error}"))
            })?;
            Timestamp::from_nanosecond(i128::from(at))
                .map(Some)
                .map_err(|error| {
                    Error::invalid(format!("invalid value for 'until' filter: {error}"))
                })
        }
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}
