//! The volume requests of the API.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use wharf_api::filters::Filters;
use wharf_api::volume::{
    Volume as Wire, VolumeCreateRequest, VolumeListResponse, VolumePruneReport,
};

use super::elsewhere::Shown;
use super::{DRIVER, NewVolume, Volume, no_such};
use crate::{Engine, Error, Result};

const LIST_FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];
const PRUNE_FILTERS: [&str; 3] = ["all", "label", "label!"];

impl Engine {
    /// `POST /volumes/create`.
    pub async fn volume_create(&self, request: VolumeCreateRequest) -> Result<Wire> {
        let wanted = NewVolume {
            name: request.name,
            driver: request.driver,
            options: request.driver_opts,
            labels: request.labels,
        };
        let volumes = self.volumes.clone();
        let (volume, new) = crate::blocking(move || volumes.create(wanted)).await?;
        if new {
            self.tell_volume("create", &volume.name, BTreeMap::new());
        }
        self.wire(volume).await
    }

    /// `GET /volumes/{name}`.
    pub async fn volume_inspect(&self, name: &str) -> Result<Wire> {
        let (volumes, owned) = (self.volumes.clone(), name.to_owned());
        let context = |error: Error| error.context(format!("get {name}"));
        let found = crate::blocking(move || volumes.find(&owned)).await;
        let volume = found.map_err(context)?.ok_or_else(|| no_such(name))?;
        self.wire(volume).await
    }

    /// `GET /volumes`.
    pub async fn volume_list(&self, filters: Filters) -> Result<VolumeListResponse> {
        filters.validate(&LIST_FILTERS)?;
        let dangling = match filters.contains("dangling") {
            true => Some(filters.get_bool("dangling", false)?),
            false => None,
        };
        let (volumes, drivers) = (self.volumes.clone(), filters.clone());
        let (found, warnings) = crate::blocking(move || {
            Ok(volumes.list(|driver| drivers.matches_exact("driver", driver)))
        })
        .await?;
        let chosen = found.into_iter().filter(|shown| {
            filters.matches("name", &shown.volume.name)
                && filters.matches_labels("label", shown.volume.labels.as_ref())
                && dangling.is_none_or(|dangling| {
                    dangling == self.volume_users(&shown.volume.name).is_empty()
                })
        });
        Ok(VolumeListResponse {
            volumes: chosen.map(wire).collect(),
            warnings: (!warnings.is_empty()).then_some(warnings),
        })
    }

    /// `DELETE /volumes/{name}`. `force`: a missing volume is no error, and one is forgotten whose driver does not answer.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let (volumes, owned) = (self.volumes.clone(), name.to_owned());
        match crate::blocking(move || volumes.find(&owned)).await {
            Ok(Some(_)) => {}
            Ok(None) if force => return Ok(()),
            Ok(None) => return Err(no_such(name)),
            Err(_) if force => {}
            Err(error) => return Err(error.context(format!("get {name}"))),
        }
        let users = self.volume_users(name);
        if !users.is_empty() {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        self.delete_volume(name, force).await
    }

    /// `POST /volumes/prune`: anonymous ones nobody uses, with `all=true` also named ones.
    pub async fn volume_prune(&self, filters: Filters) -> Result<VolumePruneReport> {
        filters.validate(&PRUNE_FILTERS)?;
        let all = filters.get_bool("all", false)?;
        let mut report = VolumePruneReport {
            volumes_deleted: Some(Vec::new()),
            space_reclaimed: 0,
        };
        for volume in self.volumes.all() {
            // What other drivers or servers keep may matter to others than this host (moby `VolumesService.Prune`).
            let chosen = volume.driver == DRIVER
                && volume.options.is_empty()
                && (all || volume.is_anonymous())
                && filters.matches_labels("label", volume.labels.as_ref())
                && !crate::matches_unwanted(&filters, volume.labels.as_ref())
                && self.volume_users(&volume.name).is_empty();
            if !chosen {
                continue;
            }
            let data = self.volumes.data(&volume.name);
            report.space_reclaimed += crate::blocking(move || Ok(directory_size(&data))).await?;
            self.delete_volume(&volume.name, false).await?;
            report
                .volumes_deleted
                .get_or_insert_default()
                .push(volume.name);
        }
        let reclaimed = report.space_reclaimed.to_string();
        self.events.publish(
            "volume",
            "prune",
            "",
            [("reclaimed".to_owned(), reclaimed)].into(),
        );
        Ok(report)
    }

    /// Removes a volume nobody uses; `purge`: at least its row.
    pub(crate) async fn delete_volume(&self, name: &str, purge: bool) -> Result<()> {
        let driver = self
            .volumes
            .get(name)
            .map_or_else(String::new, |volume| volume.driver);
        let (volumes, store, owned) = (self.volumes.clone(), self.store.clone(), name.to_owned());
        crate::blocking(move || volumes.remove(&owned, purge, |path| store.discard(path))).await?;
        let attributes = BTreeMap::from([("driver".to_owned(), driver)]);
        self.tell_volume("destroy", name, attributes);
        Ok(())
    }

    pub(crate) fn tell_volume(
        &self,
        action: &str,
        name: &str,
        mut attributes: BTreeMap<String, String>,
    ) {
        attributes.entry("driver".into()).or_insert_with(|| {
            let known = self.volumes.get(name);
            known.map_or_else(|| DRIVER.into(), |volume| volume.driver)
        });
        self.events.publish("volume", action, name, attributes);
    }

    /// Ids of containers that refer to a volume.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<String> {
        let uses = |container: &crate::container::Container| {
            let record = container.record();
            record
                .mounts
                .iter()
                .any(|mount| mount.kind == "volume" && mount.name == name)
        };
        let containers = self.containers.all();
        containers
            .iter()
            .filter(|container| uses(container))
            .map(|container| container.id.clone())
            .collect()
    }

    /// A volume is given back; failures are logged, for whoever had it is gone.
    pub(crate) fn release_volume(&self, name: &str, user: &str) {
        let others = self.containers.all().iter().any(|container| {
            container.id != user
                && container.live().is_some()
                && container
                    .record()
                    .mounts
                    .iter()
                    .any(|mount| mount.kind == "volume" && mount.name == name)
        });
        if let Err(error) = self.volumes.release(name, user, others) {
            tracing::warn!(volume = name, %error, "volume not given back");
        }
    }

    async fn wire(&self, volume: Volume) -> Result<Wire> {
        let volumes = self.volumes.clone();
        crate::blocking(move || volumes.show(volume).map(wire)).await
    }
}

fn wire(shown: Shown) -> Wire {
    let Shown {
        volume,
        mountpoint,
        created,
        status,
    } = shown;
    Wire {
        created_at: created,
        driver: volume.driver,
        labels: volume.labels,
        mountpoint,
        name: volume.name,
        options: (!volume.options.is_empty()).then_some(volume.options),
        scope: volume.scope,
        status,
        ..Wire::default()
    }
}

/// Bytes of files below a directory, each once whatever its number of names; what cannot be read counts nothing.
pub(crate) fn directory_size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut linked) = (0, HashSet::new());
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            match entry.metadata() {
                Ok(found) if found.is_dir() => left.push(entry.path()),
                Ok(found) if found.nlink() == 1 || linked.insert((found.dev(), found.ino())) => {
                    bytes += found.len();
                }
                _ => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("sub")).expect("created");
        std::fs::write(dir.path().join("sub/a"), "12345").expect("written");
        std::fs::write(dir.path().join("b"), "123").expect("written");
        std::fs::hard_link(dir.path().join("sub/a"), dir.path().join("c")).expect("linked");
        assert_eq!(directory_size(dir.path()), 8);
        assert_eq!(directory_size(&dir.path().join("none")), 0);
    }
}
