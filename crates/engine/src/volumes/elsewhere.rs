//! Volumes that other drivers keep. What a driver says counts; a row only remembers labels and options (moby
//! `daemon/volume/service/store.go`). Everything here is blocking: drivers are asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::plugin::{self, Plugin, PluginVolume};
use super::{DRIVER, Volume, Volumes};
use crate::{Result, clock};

/// A volume with what only its driver knows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// As remembered.
    pub volume: Volume,
    /// Where its data is, empty where that is nowhere at the moment.
    pub mountpoint: String,
    /// RFC 3339.
    pub created: String,
    /// Anything.
    pub status: BTreeMap<String, Value>,
}

impl Volumes {
    /// A volume by name. One that its driver no longer has is forgotten; an unknown name is asked of all drivers.
    pub fn find(&self, name: &str) -> Result<Option<Volume>> {
        let Some(known) = self.get(name) else {
            return self.find_elsewhere(name);
        };
        if known.driver == DRIVER {
            return Ok(Some(known));
        }
        let found = plugin::find(&known.driver).and_then(|plugin| plugin.get(name));
        let found = found.map_err(|error| {
            error.context(format!(
                "error while checking if volume {name:?} exists in driver {:?}",
                known.driver
            ))
        })?;
        if found.is_none() {
            self.forget(name)?;
            return Ok(None);
        }
        Ok(Some(known))
    }

    fn find_elsewhere(&self, name: &str) -> Result<Option<Volume>> {
        for plugin in plugin::all() {
            if let Ok(Some(found)) = plugin.get(name) {
                let volume = told(plugin.name(), &plugin.scope(), &found);
                return self.add(volume).map(|(volume, _)| Some(volume));
            }
        }
        Ok(None)
    }

    /// A volume as its driver shows it now.
    pub fn show(&self, volume: Volume) -> Result<Shown> {
        if volume.driver == DRIVER {
            return Ok(self.shown(volume));
        }
        let plugin = plugin::find(&volume.driver)?;
        let mut found = plugin.get(&volume.name)?.unwrap_or_default();
        if found.mountpoint.is_empty() {
            found.mountpoint = plugin.path(&volume.name).unwrap_or_default();
        }
        Ok(from_driver(volume, found))
    }

    /// All volumes of the drivers that are wanted, and what went wrong with drivers that could not tell: theirs are as remembered.
    pub fn list(&self, wanted: impl Fn(&str) -> bool) -> (Vec<Shown>, Vec<String>) {
        let known = self.all();
        let mut listed: Vec<Shown> = known
            .iter()
            .filter(|volume| volume.driver == DRIVER && wanted(DRIVER))
            .map(|volume| self.shown(volume.clone()))
            .collect();
        let mut warnings = Vec::new();
        for driver in self.drivers().iter().filter(|driver| wanted(driver)) {
            let told = plugin::find(driver).and_then(|plugin| Ok((plugin.list()?, plugin)));
            match told {
                Ok((found, plugin)) => listed.extend(self.of_driver(&plugin, found)),
                Err(error) => {
                    warnings.push(format!("list {driver}: {error}"));
                    let theirs = known.iter().filter(|volume| volume.driver == *driver);
                    listed.extend(theirs.map(|volume| self.shown(volume.clone())));
                }
            }
        }
        listed.sort_by(|a, b| a.volume.name.cmp(&b.volume.name));
        (listed, warnings)
    }

    /// Drivers there are, and those that volumes are remembered of.
    pub fn drivers(&self) -> BTreeSet<String> {
        let there = plugin::all()
            .into_iter()
            .map(|plugin| plugin.name().to_owned());
        let remembered = self.all().into_iter().map(|volume| volume.driver);
        there
            .chain(remembered.filter(|driver| driver != DRIVER))
            .collect()
    }

    /// A name that belongs to another driver's volume is left out, as in Docker.
    fn of_driver(&self, plugin: &Plugin, found: Vec<PluginVolume>) -> Vec<Shown> {
        if found.is_empty() {
            return Vec::new();
        }
        let scope = plugin.scope();
        let shown = found.into_iter().filter_map(|found| {
            let volume = match self.get(&found.name) {
                Some(known) if known.driver == plugin.name() => known,
                Some(_) => return None,
                None => told(plugin.name(), &scope, &found),
            };
            Some(from_driver(volume, found))
        });
        shown.collect()
    }

    fn shown(&self, volume: Volume) -> Shown {
        let mountpoint = match volume.driver.as_str() {
            DRIVER => self.data(&volume.name).display().to_string(),
            _ => String::new(),
        };
        Shown {
            mountpoint,
            created: seconds(volume.created_ns),
            status: BTreeMap::new(),
            volume,
        }
    }
}

/// A volume that somebody else has made.
fn told(driver: &str, scope: &str, found: &PluginVolume) -> Volume {
    Volume {
        name: found.name.clone(),
        created_ns: 0,
        labels: None,
        options: BTreeMap::new(),
        driver: driver.to_owned(),
        scope: scope.to_owned(),
        renamed_from: String::new(),
    }
}

fn from_driver(volume: Volume, found: PluginVolume) -> Shown {
    let created = match (found.created_at.is_empty(), volume.created_ns) {
        (false, _) => found.created_at,
        (true, 0) => clock::text(None),
        (true, ns) => seconds(ns),
    };
    Shown {
        mountpoint: found.mountpoint,
        created,
        status: found.status.unwrap_or_default(),
        volume,
    }
}

/// RFC 3339 without fraction, as Docker shows volumes' times.
fn seconds(ns: i64) -> String {
    clock::text(Some(ns - ns.rem_euclid(1_000_000_000)))
}
