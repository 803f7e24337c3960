//! `docker images`.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use wharf_api::filters::Filters;
use wharf_api::image::ImageSummary;
use wharf_api::time::parse_filter_time;
use wharf_spec::digest::{ChainId, Digest};
use wharf_spec::reference::Reference;
use wharf_store::ImageRecord;

use super::{created, glob, signed};
use crate::{Engine, Error, Result, matches_unwanted};

const ACCEPTED: [&str; 7] = [
    "dangling",
    "label",
    "label!",
    "before",
    "since",
    "reference",
    "until",
];

/// The filters once all names in them are found.
struct Wanted<'a> {
    filters: &'a Filters,
    all: bool,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Engine {
    /// Images that pass all filters, newest first. Intermediate images only with `all`.
    pub async fn image_list(
        &self,
        all: bool,
        filters: Filters,
        shared_size: bool,
    ) -> Result<Vec<ImageSummary>> {
        filters.validate(&ACCEPTED)?;
        let dangling = filters.get_bool("dangling", false)?;
        let wanted = Wanted {
            filters: &filters,
            all,
            dangling: filters.contains("dangling").then_some(dangling),
            before: self.before(&filters)?,
            since: self.since(&filters)?,
        };
        let images = self.store.images();
        let parents: HashSet<Digest> = images
            .iter()
            .filter_map(|image| image.parent.clone())
            .collect();
        let mut names: HashMap<Digest, Vec<Reference>> = HashMap::new();
        for (name, id) in self.store.references() {
            names.entry(id).or_default().push(name);
        }
        let users = self.image_users();
        let shared = if shared_size {
            Some(self.shared_layers(&images))
        } else {
            None
        };
        let mut found = Vec::new();
        for image in &images {
            let names = names.get(&image.id).map_or(&[][..], Vec::as_slice);
            let Some(mut summary) = wanted.summary(image, names, parents.contains(&image.id))?
            else {
                continue;
            };
            summary.size = signed(self.store.image_size(image));
            summary.containers = users.get(image.id.as_str()).copied().unwrap_or(0);
            if let Some(shared) = &shared {
                summary.shared_size =
                    signed(chain(image).iter().filter_map(|id| shared.get(id)).sum());
            }
            found.push(summary);
        }
        found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    /// The oldest of the images and times that results must precede.
    fn before(&self, filters: &Filters) -> Result<Option<Timestamp>> {
        let mut times: Vec<Timestamp> = self.creation_times(filters.get("before"))?;
        let now = Timestamp::now();
        for text in filters.get("until") {
            let at = parse_filter_time(text, now).ok();
            let at = at.and_then(|ns| Timestamp::from_nanosecond(i128::from(ns)).ok());
            times.push(at.ok_or_else(|| {
                Error::invalid(format!("invalid value for 'until' filter: failed to parse value as time or duration: {text:?}"))
            })?);
        }
        Ok(times.into_iter().min())
    }

    fn since(&self, filters: &Filters) -> Result<Option<Timestamp>> {
        Ok(self.creation_times(filters.get("since"))?.into_iter().max())
    }

    fn creation_times(&self, names: &[String]) -> Result<Vec<Timestamp>> {
        let mut times = Vec::new();
        for name in names {
            times.extend(created(&self.store.image(name)?));
        }
        Ok(times)
    }

    /// Number of containers by image ID.
    pub(crate) fn image_users(&self) -> HashMap<String, i64> {
        let mut users = HashMap::new();
        for container in self.containers.all() {
            *users
                .entry(container.record().image_id.clone())
                .or_default() += 1;
        }
        users
    }

    /// Sizes of layers that more than one image has.
    fn shared_layers(&self, images: &[ImageRecord]) -> HashMap<ChainId, u64> {
        let mut uses: HashMap<ChainId, usize> = HashMap::new();
        for id in images.iter().flat_map(chain) {
            *uses.entry(id).or_default() += 1;
        }
        let layers = self.store.layers().into_iter();
        let shared = layers.filter(|layer| uses.get(&layer.chain).is_some_and(|n| *n > 1));
        shared.map(|layer| (layer.chain, layer.size)).collect()
    }
}

fn chain(image: &ImageRecord) -> Vec<ChainId> {
    ChainId::chain(image.config.diff_ids())
}

impl Wanted<'_> {
    /// The line for an image, without its sizes; `None` if a filter leaves it out.
    fn summary(
        &self,
        image: &ImageRecord,
        names: &[Reference],
        has_children: bool,
    ) -> Result<Option<ImageSummary>> {
        let only_dangling = self.dangling == Some(true);
        if (only_dangling && has_children) || !self.in_time(image) || !self.has_labels(image) {
            return Ok(None);
        }
        let mut summary = ImageSummary {
            id: image.id.to_string(),
            parent_id: image
                .parent
                .as_ref()
                .map(Digest::to_string)
                .unwrap_or_default(),
            created: created(image).map_or(0, Timestamp::as_second),
            labels: image
                .config
                .labels()
                .filter(|labels| !labels.is_empty())
                .cloned(),
            shared_size: -1,
            ..ImageSummary::default()
        };
        for name in names {
            if !self.names(name)? {
                continue;
            }
            match name.digest() {
                Some(_) => summary.repo_digests.push(name.familiar()),
                None => summary.repo_tags.push(name.familiar()),
            }
        }
        if summary.repo_tags.is_empty() && summary.repo_digests.is_empty() {
            // An image without names is a result, or a step on the way to one.
            let shown = self.all || !has_children;
            let unwanted = self.dangling == Some(false) || self.filters.contains("reference");
            return Ok((shown && !unwanted).then_some(summary));
        }
        Ok((!only_dangling || summary.repo_tags.is_empty()).then_some(summary))
    }

    fn in_time(&self, image: &ImageRecord) -> bool {
        let created = created(image);
        self.before
            .is_none_or(|before| created.is_some_and(|at| at < before))
            && self
                .since
                .is_none_or(|since| created.is_some_and(|at| at > since))
    }

    fn has_labels(&self, image: &ImageRecord) -> bool {
        self.filters.matches_labels("label", image.config.labels())
            && !matches_unwanted(self.filters, image.config.labels())
    }

    fn names(&self, name: &Reference) -> Result<bool> {
        if !self.filters.contains("reference") {
            return Ok(true);
        }
        for pattern in self.filters.get("reference") {
            for text in [name.familiar(), name.familiar_name()] {
                if glob::matches(pattern, &text)
                    .map_err(|error| Error::internal(error.to_string()))?
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
