//! `POST /build/prune`: what builds keep for the next one goes, least recently used first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use wharf_api::filters::Filters;
use wharf_build::solve::Outcome;
use wharf_spec::digest::Digest;

use super::records::{CACHE_MOUNT, REGULAR, Record};
use crate::{Engine, Error, Result, blocking};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// IDs.
    pub deleted: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

/// What may stay (BuildKit's `calculateKeepBytes`). 0 means nothing was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Always left to the cache.
    pub reserved: u64,
    /// Never more than this.
    pub max_used: u64,
    /// What is to be free on the disk.
    pub min_free: u64,
}

impl Space {
    /// Bytes that may stay of `total`, with `free` bytes free on the disk.
    fn keep(self, total: u64, free: u64) -> u64 {
        let cap = match (self.max_used, self.min_free) {
            (0, 0) => self.reserved,
            (0, _) => u64::MAX,
            (max, _) => max,
        };
        let excess = self.min_free.saturating_sub(free);
        let cap = if excess > 0 {
            cap.min(total.saturating_sub(excess))
        } else {
            cap
        };
        cap.max(self.reserved)
    }
}

/// Which records go.
struct Wish {
    all: bool,
    space: Space,
    /// Only what was not used since.
    until: Option<SystemTime>,
    filters: Filters,
    /// Images that stay whatever is said.
    spared: BTreeSet<String>,
}

impl Engine {
    /// Removes caches until no more is left than `space` allows. Images of steps go only if `all` is asked for.
    pub async fn build_prune(&self, all: bool, space: Space, filters: &Filters) -> Result<Pruned> {
        check(filters)?;
        let wish = Wish {
            all,
            space,
            until: until(filters)?,
            filters: filters.clone(),
            spared: BTreeSet::new(),
        };
        let engine = self
            .handle()
            .ok_or_else(|| Error::internal("the daemon is shutting down"))?;
        let pruned = blocking(move || engine.prune_now(&wish)).await?;
        let attributes = std::iter::once(("reclaimed".to_owned(), pruned.reclaimed.to_string()));
        self.events.publish(
            "builder",
            "prune",
            "",
            attributes.collect::<BTreeMap<_, _>>(),
        );
        Ok(pruned)
    }

    /// After a build: no more is kept than the daemon's configuration allows.
    pub(super) fn collect_build_cache(&self, outcome: &Outcome) {
        let (Some(keep), Some(engine)) = (self.config.builder.keep, self.handle()) else {
            return;
        };
        let mut spared: BTreeSet<String> = outcome.stages.iter().cloned().collect();
        spared.insert(outcome.image.clone());
        let wish = Wish {
            all: true,
            space: Space {
                max_used: keep,
                ..Space::default()
            },
            until: None,
            filters: Filters::default(),
            spared,
        };
        tokio::task::spawn_blocking(move || match engine.prune_now(&wish) {
            Ok(pruned) if pruned.deleted.is_empty() => {}
            Ok(pruned) => tracing::info!(
                records = pruned.deleted.len(),
                bytes = pruned.reclaimed,
                "build cache was above its limit"
            ),
            Err(error) => tracing::warn!(%error, "build cache was not collected"),
        });
    }

    fn prune_now(&self, wish: &Wish) -> Result<Pruned> {
        let free = rustix::fs::statvfs(&self.config.data_root).map_or(u64::MAX, |found| {
            found.f_bavail.saturating_mul(found.f_frsize)
        });
        let mut records = self.cache_records();
        let mut left: u64 = records.iter().map(|record| record.size).sum();
        let keep = wish.space.keep(left, free);
        let mut pruned = Pruned::default();
        // What others stood on may go once they are gone.
        loop {
            let goes = plan_prune(&records, wish, left, keep);
            if goes.is_empty() {
                return Ok(pruned);
            }
            for id in &goes {
                let Some(at) = records.iter().position(|record| record.id == *id) else {
                    continue;
                };
                let record = records.swap_remove(at);
                left -= record.size;
                self.remove_record(&record, &mut pruned)?;
            }
            let parents: BTreeSet<String> =
                records.iter().map(|record| record.parent.clone()).collect();
            for record in &mut records {
                record.in_use =
                    record.in_use && (record.path.is_some() || parents.contains(&record.id));
            }
        }
    }

    fn remove_record(&self, record: &Record, pruned: &mut Pruned) -> Result<()> {
        match &record.path {
            Some(path) => {
                let lock = self.builds.locks.of(path);
                // A build began to use it.
                let Ok(_guard) = lock.try_write() else {
                    return Ok(());
                };
                self.store
                    .discard(path)
                    .map_err(|error| Error::caused("remove a cache", error))?;
                pruned.reclaimed += record.size;
            }
            None => {
                let id = Digest::parse(&record.id)
                    .map_err(|error| Error::internal(error.to_string()))?;
                let Ok(removed) = self.store.remove_image(&id) else {
                    // A build or a container began to use it.
                    return Ok(());
                };
                pruned.reclaimed += removed.iter().map(|layer| layer.size).sum::<u64>();
                self.tell_image("delete", &id, id.as_str());
            }
        }
        pruned.deleted.push(record.id.clone());
        Ok(())
    }
}

/// IDs of the records that go now, least recently used first, until no more than `keep` bytes are left.
fn plan_prune(records: &[Record], wish: &Wish, mut left: u64, keep: u64) -> Vec<String> {
    let mut candidates: Vec<&Record> = records
        .iter()
        .filter(|record| !record.in_use && !wish.spared.contains(&record.id))
        .filter(|record| wish.all || record.kind == CACHE_MOUNT)
        .filter(|record| wish.until.is_none_or(|until| record.used <= until))
        .filter(|record| fits(record, &wish.filters))
        .collect();
    candidates.sort_by_key(|record| record.used);
    let limited = wish.space != Space::default();
    let mut goes = Vec::new();
    for record in candidates {
        if limited && left <= keep {
            break;
        }
        left = left.saturating_sub(record.size);
        goes.push(record.id.clone());
    }
    goes
}

/// Docker's filters but those about time.
fn fits(record: &Record, filters: &Filters) -> bool {
    let any = |key: &str, holds: &dyn Fn(&str) -> bool| {
        let values = filters.get(key);
        values.is_empty() || values.iter().any(|value| holds(value))
    };
    let truth = |key: &str, actual: bool| {
        any(key, &|value| match value {
            "0" | "false" => !actual,
            _ => actual,
        })
    };
    any("id", &|id| record.id.contains(id))
        && any("parent", &|parent| record.parent == parent)
        && any("type", &|kind| record.kind == kind)
        && any("description", &|text| record.description.contains(text))
        && truth("inuse", record.in_use)
        && truth("shared", false)
        && truth("private", true)
        // Records have no labels.
        && filters.get("label").is_empty()
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
        .map_err(|error| Error::invalid(error.to_string()))?;
    let known = |kind: &String| {
        [
            CACHE_MOUNT,
            REGULAR,
            "source.local",
            "source.git.checkout",
            "frontend",
            "internal",
        ]
        .contains(&kind.as_str())
    };
    match filters.get("type").iter().find(|kind| !known(kind)) {
        Some(unknown) => Err(Error::invalid(format!(
            "unknown type of build cache: {unknown}"
        ))),
        None => Ok(()),
    }
}

/// `until` and its other name: a duration back from now, or a moment. One value, as in moby.
fn until(filters: &Filters) -> Result<Option<SystemTime>> {
    let mut values = filters.get("until").iter().chain(filters.get("unused-for"));
    let Some(text) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Error::invalid("filters expect only one value"));
    }
    let invalid = || {
        Error::invalid(format!(
            "\"until\" filter expects a duration (e.g., '24h') or a timestamp: {text}"
        ))
    };
    if let Some(nanoseconds) = wharf_api::time::parse_go_duration(text) {
        let duration = Duration::from_nanos(u64::try_from(nanoseconds).map_err(|_| invalid())?);
        return SystemTime::now()
            .checked_sub(duration)
            .map(Some)
            .ok_or_else(invalid);
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
    Ok(Some(moment.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, kind: &'static str, size: u64, used: u64) -> Record {
        Record {
            id: id.to_owned(),
            kind,
            parent: String::new(),
            description: format!("about {id}"),
            in_use: id.starts_with("used"),
            size,
            created: SystemTime::UNIX_EPOCH,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
            path: None,
        }
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let records = [
            record("a", CACHE_MOUNT, 10, 30),
            record("b", CACHE_MOUNT, 10, 10),
            record("step", REGULAR, 10, 20),
            record("used", CACHE_MOUNT, 10, 1),
        ];
        let rows: [(bool, u64, &str, &str, &[&str]); 7] = [
            (false, 0, "", "", &["b", "a"]),
            (true, 0, "", "", &["b", "step", "a"]),
            (true, 25, "", "", &["b", "step"]),
            (true, 100, "", "", &[]),
            (true, 0, "type", "regular", &["step"]),
            (true, 0, "id", "a", &["a"]),
            (true, 0, "inuse", "true", &[]),
        ];
        for (all, max, key, value, expected) in rows {
            let mut filters = Filters::default();
            if !key.is_empty() {
                filters.add(key, value.to_owned());
            }
            let wish = Wish {
                all,
                space: Space {
                    max_used: max,
                    ..Space::default()
                },
                until: None,
                filters,
                spared: BTreeSet::new(),
            };
            assert_eq!(
                plan_prune(&records, &wish, 40, max),
                expected,
                "{key}={value}"
            );
        }
    }

    #[test]
    fn space_that_may_stay() {
        let space = |reserved, max_used, min_free| Space {
            reserved,
            max_used,
            min_free,
        };
        for (given, free, expected) in [
            (space(0, 0, 0), 0, 0),
            (space(30, 0, 0), 0, 30),
            (space(0, 50, 0), 0, 50),
            (space(60, 50, 0), 0, 60),
            (space(0, 0, 20), 30, u64::MAX),
            (space(0, 0, 20), 10, 90),
            (space(95, 0, 20), 10, 95),
        ] {
            assert_eq!(given.keep(100, free), expected, "{given:?}");
        }
    }
}
