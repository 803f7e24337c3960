//! `POST /build/prune`: what builds keep for the next one.
//!
//! Kept are the directories of `RUN --mount=type=cache`, and the images of steps that no named image stands on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wharf_api::filters::Filters;
use wharf_spec::digest::Digest;

use super::mounts::cache_home;
use crate::{Engine, Error, Result, blocking};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// IDs.
    pub deleted: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

/// A directory of a cache mount.
struct CacheMount {
    path: PathBuf,
    name: String,
    used: SystemTime,
    size: u64,
}

impl Engine {
    /// Removes caches, least recently used first, until no more than `keep` bytes are left. Images of steps go if `all` is asked for.
    pub async fn build_prune(&self, all: bool, keep: i64, filters: &Filters) -> Result<Pruned> {
        check(filters)?;
        let until = filters
            .get("until")
            .first()
            .map(|text| age(text))
            .transpose()?;
        let types: Vec<String> = filters
            .get("type")
            .iter()
            .map(ToString::to_string)
            .collect();
        let home = cache_home(&self.config.data_root);
        let keep = u64::try_from(keep).unwrap_or(0);
        let mut pruned = Pruned::default();
        if types.is_empty() || types.iter().any(|kind| kind == "exec.cachemount") {
            let trash = self.store.clone();
            pruned = blocking(move || {
                let mut caches = cache_mounts(&home);
                caches.retain(|cache| until.is_none_or(|until| cache.used <= until));
                caches.sort_by_key(|cache| cache.used);
                let mut left: u64 = caches.iter().map(|cache| cache.size).sum();
                let mut pruned = Pruned::default();
                for cache in caches {
                    if keep > 0 && left <= keep {
                        break;
                    }
                    trash
                        .discard(&cache.path)
                        .map_err(|error| Error::caused("remove a cache", error))?;
                    left -= cache.size;
                    pruned.reclaimed += cache.size;
                    pruned.deleted.push(cache.name);
                }
                Ok(pruned)
            })
            .await?;
        }
        if all && keep == 0 && (types.is_empty() || types.iter().any(|kind| kind == "regular")) {
            self.prune_steps(until, &mut pruned)?;
        }
        let attributes = std::iter::once(("reclaimed".to_owned(), pruned.reclaimed.to_string()));
        self.events
            .publish("builder", "prune", "", attributes.collect());
        Ok(pruned)
    }

    /// Images without a name and without children, as long as there are any.
    fn prune_steps(&self, until: Option<SystemTime>, pruned: &mut Pruned) -> Result<()> {
        let used: BTreeSet<String> = self
            .containers
            .all()
            .iter()
            .map(|container| container.record().image_id.clone())
            .collect();
        loop {
            let leaf = self.store.images().into_iter().find(|image| {
                image.config.container_config.is_some()
                    && image.parent.is_some()
                    && self.store.references_of(&image.id).is_empty()
                    && self.store.children_of(&image.id).is_empty()
                    && !used.contains(image.id.as_str())
                    && until.is_none_or(|until| made(image.config.created.as_deref()) <= until)
            });
            let Some(image) = leaf else { return Ok(()) };
            let id: Digest = image.id.clone();
            let removed = self.store.remove_image(&id)?;
            pruned.reclaimed += removed.iter().map(|layer| layer.size).sum::<u64>();
            pruned.deleted.push(id.to_string());
            self.tell_image("delete", &id, id.as_str());
        }
    }

    /// Bytes in cache mounts, for `system df`.
    pub fn build_cache_size(&self) -> u64 {
        let home = cache_home(&self.config.data_root);
        cache_mounts(&home).iter().map(|cache| cache.size).sum()
    }
}

fn check(filters: &Filters) -> Result<()> {
    filters
        .validate(&[
            "until",
            "unused-for",
            "id",
            "parent",
            "type",
            "description",
            "inuse",
            "shared",
            "private",
            "label",
            "label!",
        ])
        .map_err(|error| Error::invalid(error.to_string()))
}

/// The moment a duration ago.
fn age(text: &str) -> Result<SystemTime> {
    let invalid = || {
        Error::invalid(format!(
            "\"until\" filter expects a duration (e.g., '24h') or a timestamp: {text}"
        ))
    };
    let nanoseconds = wharf_api::time::parse_go_duration(text).ok_or_else(invalid)?;
    let duration = Duration::from_nanos(u64::try_from(nanoseconds).map_err(|_| invalid())?);
    SystemTime::now().checked_sub(duration).ok_or_else(invalid)
}

fn made(created: Option<&str>) -> SystemTime {
    created
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

fn cache_mounts(home: &Path) -> Vec<CacheMount> {
    let Ok(entries) = std::fs::read_dir(home) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            let path = entry.path();
            let used = std::fs::metadata(path.join("used"))
                .and_then(|metadata| metadata.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            CacheMount {
                name: entry.file_name().to_string_lossy().into_owned(),
                used,
                size: size(&path),
                path,
            }
        })
        .collect()
}

/// Bytes of the files below a directory.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten();
    entries.flatten().map(|entry| size(&entry.path())).sum()
}
