//! The volume requests of the API.

use std::collections::BTreeMap;
use std::path::Path;

use wharf_api::filters::Filters;
use wharf_api::volume::{
    Volume as Wire, VolumeCreateRequest, VolumeListResponse, VolumePruneReport,
};

use super::{DRIVER, NewVolume, Volume, no_such, plugin};
use crate::{Engine, Error, Result, clock};

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
        let volume = self.volumes.get(name).ok_or_else(|| no_such(name))?;
        self.wire(volume).await
    }

    /// `GET /volumes`.
    pub async fn volume_list(&self, filters: Filters) -> Result<VolumeListResponse> {
        filters.validate(&LIST_FILTERS)?;
        let dangling = match filters.contains("dangling") {
            true => Some(filters.get_bool("dangling", false)?),
            false => None,
        };
        let volumes = self.volumes.all();
        let chosen = volumes.into_iter().filter(|volume| {
            filters.matches("name", &volume.name)
                && filters.matches_exact("driver", &volume.driver)
                && filters.matches_labels("label", volume.labels.as_ref())
                && dangling
                    .is_none_or(|dangling| dangling == self.volume_users(&volume.name).is_empty())
        });
        let mut listed = Vec::new();
        for volume in chosen {
            listed.push(self.wire(volume).await?);
        }
        Ok(VolumeListResponse {
            volumes: listed,
            warnings: None,
        })
    }

    /// `DELETE /volumes/{name}`. `force`: a missing volume is no error.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        if self.volumes.get(name).is_none() {
            return if force { Ok(()) } else { Err(no_such(name)) };
        }
        let users = self.volume_users(name);
        if !users.is_empty() {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        self.delete_volume(name).await
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
            // What other drivers keep may matter to others than this host (moby `volumesPrune`).
            let chosen = volume.driver == DRIVER
                && (all || volume.is_anonymous())
                && filters.matches_labels("label", volume.labels.as_ref())
                && !crate::matches_unwanted(&filters, volume.labels.as_ref())
                && self.volume_users(&volume.name).is_empty();
            if !chosen {
                continue;
            }
            let data = self.volumes.data(&volume.name);
            report.space_reclaimed += crate::blocking(move || Ok(directory_size(&data))).await?;
            self.delete_volume(&volume.name).await?;
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

    /// Removes a volume nobody uses.
    pub(crate) async fn delete_volume(&self, name: &str) -> Result<()> {
        let driver = self
            .volumes
            .get(name)
            .map_or_else(String::new, |volume| volume.driver);
        let (volumes, store, owned) = (self.volumes.clone(), self.store.clone(), name.to_owned());
        crate::blocking(move || volumes.remove(&owned, |path| store.discard(path))).await?;
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
        // A driver is asked, which may take long.
        if volume.driver == DRIVER {
            return Ok(wire(&volumes, &volume, BTreeMap::new()));
        }
        crate::blocking(move || {
            let found = plugin::find(&volume.driver).and_then(|plugin| plugin.get(&volume.name));
            let status = found
                .ok()
                .and_then(|found| found.status)
                .unwrap_or_default();
            Ok(wire(&volumes, &volume, status))
        })
        .await
    }
}

fn wire(
    volumes: &super::Volumes,
    volume: &Volume,
    status: BTreeMap<String, serde_json::Value>,
) -> Wire {
    Wire {
        created_at: seconds(volume.created_ns),
        driver: volume.driver.clone(),
        labels: volume.labels.clone(),
        mountpoint: volumes.mountpoint(volume),
        name: volume.name.clone(),
        options: (!volume.options.is_empty()).then(|| volume.options.clone()),
        scope: volume.scope.clone(),
        status,
        ..Wire::default()
    }
}

/// RFC 3339 without fraction, as Docker shows volumes' times.
fn seconds(ns: i64) -> String {
    clock::text(Some(ns - ns.rem_euclid(1_000_000_000)))
}

/// Bytes of files below a directory; what cannot be read counts nothing.
pub(crate) fn directory_size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
