//! The volume requests of the API.

use std::collections::BTreeMap;
use std::path::Path;

use wharf_api::filters::Filters;
use wharf_api::volume::{
    Volume as Wire, VolumeCreateRequest, VolumeListResponse, VolumePruneReport,
};

use super::{DRIVER, Volume, no_such};
use crate::{Engine, Error, Result, clock};

const LIST_FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];
const PRUNE_FILTERS: [&str; 3] = ["all", "label", "label!"];

impl Engine {
    /// `POST /volumes/create`.
    pub async fn volume_create(&self, request: VolumeCreateRequest) -> Result<Wire> {
        let (volume, new) = self.volumes.create(
            &request.name,
            &request.driver,
            request.driver_opts,
            request.labels,
        )?;
        if new {
            self.tell_volume("create", &volume.name, BTreeMap::new());
        }
        Ok(self.wire(&volume))
    }

    /// `GET /volumes/{name}`.
    pub async fn volume_inspect(&self, name: &str) -> Result<Wire> {
        let volume = self.volumes.get(name).ok_or_else(|| no_such(name))?;
        Ok(self.wire(&volume))
    }

    /// `GET /volumes`.
    pub async fn volume_list(&self, filters: Filters) -> Result<VolumeListResponse> {
        filters.validate(&LIST_FILTERS)?;
        let dangling = match filters.contains("dangling") {
            true => Some(filters.get_bool("dangling", false)?),
            false => None,
        };
        let volumes = self.volumes.all();
        let chosen = volumes.iter().filter(|volume| {
            filters.matches("name", &volume.name)
                && filters.matches_exact("driver", DRIVER)
                && filters.matches_labels("label", volume.labels.as_ref())
                && dangling
                    .is_none_or(|dangling| dangling == self.volume_users(&volume.name).is_empty())
        });
        Ok(VolumeListResponse {
            volumes: chosen.map(|volume| self.wire(volume)).collect(),
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
            let chosen = (all || volume.is_anonymous())
                && filters.matches_labels("label", volume.labels.as_ref())
                && !crate::matches_unwanted(&filters, volume.labels.as_ref())
                && self.volume_users(&volume.name).is_empty();
            if !chosen {
                continue;
            }
            report.space_reclaimed += directory_size(&self.volumes.data(&volume.name));
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
        let (volumes, owned) = (self.volumes.clone(), name.to_owned());
        crate::blocking(move || volumes.remove(&owned)).await?;
        self.tell_volume("destroy", name, BTreeMap::new());
        Ok(())
    }

    pub(crate) fn tell_volume(
        &self,
        action: &str,
        name: &str,
        mut attributes: BTreeMap<String, String>,
    ) {
        attributes.insert("driver".into(), DRIVER.into());
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

    fn wire(&self, volume: &Volume) -> Wire {
        Wire {
            created_at: seconds(volume.created_ns),
            driver: DRIVER.into(),
            labels: volume.labels.clone(),
            mountpoint: self.volumes.data(&volume.name).display().to_string(),
            name: volume.name.clone(),
            options: (!volume.options.is_empty()).then(|| volume.options.clone()),
            scope: "local".into(),
            ..Wire::default()
        }
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
