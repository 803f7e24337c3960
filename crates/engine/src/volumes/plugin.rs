//! Volume drivers outside of the engine (docs.docker.com, "Docker volume plugins"). Blocking.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::plugins::{self, Absent, Subject};
use crate::{Error, Result};

const SUBJECT: Subject = Subject {
    implements: "VolumeDriver",
    word: "volume",
};

/// A driver that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin(plugins::Plugin);

/// A volume as a driver tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginVolume {
    /// Name.
    pub name: String,
    /// Where it is mounted, if it is.
    pub mountpoint: String,
    /// When it was made; RFC 3339, or empty.
    pub created_at: String,
    /// Anything.
    pub status: Option<BTreeMap<String, Value>>,
}

/// Finds a driver that says it handles volumes.
pub fn find(name: &str) -> Result<Plugin> {
    plugins::Plugin::find(name, SUBJECT, Absent::Fails).map(Plugin)
}

/// The same, for a container that starts: drivers may be on their way up, too.
pub fn await_driver(name: &str) -> Result<Plugin> {
    plugins::Plugin::find(name, SUBJECT, Absent::MayCome).map(Plugin)
}

/// All drivers that say so. Those that do not answer are passed over.
pub fn all() -> Vec<Plugin> {
    let found = plugins::Plugin::all(SUBJECT);
    found.into_iter().map(Plugin).collect()
}

impl Plugin {
    /// What users call it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Makes a volume.
    pub fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        self.0
            .ask(
                "/VolumeDriver.Create",
                &json!({"Name": name, "Opts": options}),
            )
            .map(drop)
    }

    /// Removes a volume.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.0
            .ask("/VolumeDriver.Remove", &json!({"Name": name}))
            .map(drop)
    }

    /// Makes a volume's data accessible for one user, who has an ID; where it is.
    pub fn mount(&self, name: &str, id: &str) -> Result<PathBuf> {
        let answer = self
            .0
            .ask("/VolumeDriver.Mount", &json!({"Name": name, "ID": id}))?;
        Ok(answer["Mountpoint"].as_str().unwrap_or_default().into())
    }

    /// That user is done with it.
    pub fn unmount(&self, name: &str, id: &str) -> Result<()> {
        self.0
            .ask("/VolumeDriver.Unmount", &json!({"Name": name, "ID": id}))
            .map(drop)
    }

    /// Where a volume is mounted, empty if it is not.
    pub fn path(&self, name: &str) -> Result<String> {
        let answer = self.0.ask("/VolumeDriver.Path", &json!({"Name": name}))?;
        Ok(answer["Mountpoint"].as_str().unwrap_or_default().to_owned())
    }

    /// What the driver knows about a volume; `None` when it says that it has no such one. The error is that it cannot be asked.
    pub fn get(&self, name: &str) -> Result<Option<PluginVolume>> {
        let asked = self.0.ask_if("/VolumeDriver.Get", &json!({"Name": name}))?;
        let Some(volume) = asked.map(|answer| answer["Volume"].clone()) else {
            return Ok(None);
        };
        if volume.is_null() {
            return Ok(None);
        }
        let found: PluginVolume = serde_json::from_value(volume)
            .map_err(|error| Error::caused("read the answer of a volume plugin", error))?;
        Ok(Some(found))
    }

    /// All its volumes.
    pub fn list(&self) -> Result<Vec<PluginVolume>> {
        let answer = self.0.ask("/VolumeDriver.List", &Value::Null)?;
        let list: Option<Vec<PluginVolume>> = serde_json::from_value(answer["Volumes"].clone())
            .map_err(|error| Error::caused("read the answer of a volume plugin", error))?;
        Ok(list.unwrap_or_default())
    }

    /// `local` or `global`. Old drivers do not know the question; other answers count as `local` (moby `getCapabilities`).
    pub fn scope(&self) -> String {
        let answer = self.0.ask("/VolumeDriver.Capabilities", &Value::Null);
        let scope = answer
            .ok()
            .and_then(|answer| Some(answer["Capabilities"]["Scope"].as_str()?.to_lowercase()));
        scope
            .filter(|scope| scope == "global")
            .unwrap_or_else(|| "local".into())
    }
}
