//! What builds keep for the next one, as records: directories of `RUN --mount=type=cache`, and images of steps that no named image
//! stands on.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wharf_api::system::CacheRecord;

use super::mounts::cache_home;
use crate::Engine;

/// Type of a directory (BuildKit's `UsageRecordTypeCacheMount`).
pub(super) const CACHE_MOUNT: &str = "exec.cachemount";
/// Type of an image of a step.
pub(super) const REGULAR: &str = "regular";

/// One thing that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) parent: String,
    pub(super) description: String,
    /// Something stands on it, or uses it now.
    pub(super) in_use: bool,
    pub(super) size: u64,
    pub(super) created: SystemTime,
    pub(super) used: SystemTime,
    /// Its directory, if it is one.
    pub(super) path: Option<PathBuf>,
}

impl Record {
    /// As `system df` shows it.
    fn shown(&self) -> CacheRecord {
        let time = |time: SystemTime| {
            jiff::Timestamp::try_from(time)
                .map_or_else(|_| String::new(), wharf_api::time::rfc3339_nano)
        };
        CacheRecord {
            id: self.id.clone(),
            parents: Some(self.parent.clone())
                .filter(|parent| !parent.is_empty())
                .into_iter()
                .collect(),
            kind: self.kind.to_owned(),
            description: self.description.clone(),
            in_use: self.in_use,
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            created_at: time(self.created),
            last_used_at: Some(time(self.used)),
            usage_count: 1,
            ..CacheRecord::default()
        }
    }
}

impl Engine {
    /// Records for `system df`. Blocking.
    pub fn build_cache(&self) -> Vec<CacheRecord> {
        self.cache_records().iter().map(Record::shown).collect()
    }

    /// All records. Blocking: sizes of directories are counted.
    pub(super) fn cache_records(&self) -> Vec<Record> {
        let mut records = self.cache_mounts();
        records.extend(self.step_records());
        records
    }

    /// Directories of cache mounts.
    pub(super) fn cache_mounts(&self) -> Vec<Record> {
        let home = cache_home(&self.config.data_root);
        let Ok(entries) = std::fs::read_dir(&home) else {
            return Vec::new();
        };
        let directories = entries.filter_map(Result::ok).map(|entry| entry.path());
        directories
            .filter_map(|path| self.cache_mount(path))
            .collect()
    }

    fn cache_mount(&self, path: PathBuf) -> Option<Record> {
        let time =
            |name: &str| std::fs::metadata(path.join(name)).and_then(|found| found.modified());
        let name = path.file_name()?.to_string_lossy().into_owned();
        let target = std::fs::read_to_string(path.join("id")).ok()?;
        let created = time("id").ok()?;
        Some(Record {
            id: name,
            kind: CACHE_MOUNT,
            parent: String::new(),
            description: format!("cached mount {target}"),
            in_use: self.builds.locks.of(&path).try_write().is_err(),
            size: size(&path),
            created,
            used: time("used").unwrap_or(created),
            path: Some(path),
        })
    }

    /// Images of steps without a name, that neither a named image nor a container stands on.
    fn step_records(&self) -> Vec<Record> {
        let images = self.store.images();
        let parents: HashMap<String, String> = images
            .iter()
            .filter_map(|image| Some((image.id.to_string(), image.parent.as_ref()?.to_string())))
            .collect();
        let mut held: BTreeSet<String> = self
            .containers
            .all()
            .iter()
            .map(|container| container.record().image_id.clone())
            .collect();
        held.extend(
            self.store
                .references()
                .into_iter()
                .map(|(_, id)| id.to_string()),
        );
        let mut pending: Vec<String> = held.iter().cloned().collect();
        while let Some(id) = pending.pop() {
            if let Some(parent) = parents.get(&id)
                && held.insert(parent.clone())
            {
                pending.push(parent.clone());
            }
        }
        let with_children: BTreeSet<&String> = parents.values().collect();
        let kept = images.iter().filter(|image| {
            image.config.container_config.is_some()
                && image.parent.is_some()
                && !held.contains(image.id.as_str())
        });
        kept.map(|image| {
            let id = image.id.to_string();
            let created = made(image.config.created.as_deref());
            let last = image.config.history.last();
            let layer = last.is_some_and(|step| !step.empty_layer);
            let top = self
                .store
                .layers_of(image)
                .last()
                .map_or(0, |layer| layer.size);
            Record {
                kind: REGULAR,
                parent: parents.get(&id).cloned().unwrap_or_default(),
                description: last.map(|step| step.created_by.clone()).unwrap_or_default(),
                in_use: with_children.contains(&id),
                size: if layer { top } else { 0 },
                created,
                used: created,
                path: None,
                id,
            }
        })
        .collect()
    }
}

fn made(created: Option<&str>) -> SystemTime {
    created
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
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
