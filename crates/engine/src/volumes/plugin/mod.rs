//! Volume drivers outside of the engine: Docker's plugin protocol, JSON posted to a Unix socket or a TCP address
//! (docs.docker.com, "Docker volume plugins"). Blocking.

mod discovery;
mod exchange;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wharf_logship::connection::Address;

use crate::{Error, Result};
use discovery::Places;
use exchange::Absent;

/// A driver that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// What users call it.
    pub name: String,
    address: Address,
}

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
    find_in(&Places::default(), name, Absent::Fails)
}

/// The same, for a container that starts: drivers may be on their way up, too.
pub fn await_driver(name: &str) -> Result<Plugin> {
    find_in(&Places::default(), name, Absent::MayCome)
}

/// All drivers that say so. Those that do not answer are passed over.
pub fn all() -> Vec<Plugin> {
    let places = Places::default();
    let names = places.names();
    names
        .iter()
        .filter_map(|name| find_in(&places, name, Absent::Fails).ok())
        .collect()
}

fn find_in(places: &Places, name: &str, absent: Absent) -> Result<Plugin> {
    let unknown = || {
        Error::not_found(format!(
            "error looking up volume plugin {name}: plugin {name:?} not found"
        ))
    };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(unknown());
    }
    let plugin = Plugin {
        name: name.to_owned(),
        address: places.locate(name).ok_or_else(unknown)?,
    };
    let answer = plugin.ask("/Plugin.Activate", &Value::Null, absent)?;
    let handles = answer["Implements"]
        .as_array()
        .is_some_and(|list| list.contains(&json!("VolumeDriver")));
    if handles { Ok(plugin) } else { Err(unknown()) }
}

impl Plugin {
    /// Makes a volume.
    pub fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        self.call(
            "/VolumeDriver.Create",
            &json!({"Name": name, "Opts": options}),
        )
        .map(drop)
    }

    /// Removes a volume.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.call("/VolumeDriver.Remove", &json!({"Name": name}))
            .map(drop)
    }

    /// Makes a volume's data accessible for one user, who has an ID; where it is.
    pub fn mount(&self, name: &str, id: &str) -> Result<PathBuf> {
        let answer = self.call("/VolumeDriver.Mount", &json!({"Name": name, "ID": id}))?;
        Ok(answer["Mountpoint"].as_str().unwrap_or_default().into())
    }

    /// That user is done with it.
    pub fn unmount(&self, name: &str, id: &str) -> Result<()> {
        self.call("/VolumeDriver.Unmount", &json!({"Name": name, "ID": id}))
            .map(drop)
    }

    /// Where a volume is mounted, empty if it is not.
    pub fn path(&self, name: &str) -> Result<String> {
        let answer = self.call("/VolumeDriver.Path", &json!({"Name": name}))?;
        Ok(answer["Mountpoint"].as_str().unwrap_or_default().to_owned())
    }

    /// What the driver knows about a volume; `None` when it says that it has no such one. The error is that it cannot be asked.
    pub fn get(&self, name: &str) -> Result<Option<PluginVolume>> {
        let method = "/VolumeDriver.Get";
        let (status, text) = self.send(method, &json!({"Name": name}), Absent::Fails)?;
        let answer = parse(&text);
        if status != 200 || !refusal(&answer).is_empty() || answer["Volume"].is_null() {
            return Ok(None);
        }
        let found: PluginVolume = serde_json::from_value(answer["Volume"].clone())
            .map_err(|error| Error::caused("read the answer of a volume plugin", error))?;
        Ok(Some(found))
    }

    /// All its volumes.
    pub fn list(&self) -> Result<Vec<PluginVolume>> {
        let answer = self.call("/VolumeDriver.List", &Value::Null)?;
        let list: Option<Vec<PluginVolume>> = serde_json::from_value(answer["Volumes"].clone())
            .map_err(|error| Error::caused("read the answer of a volume plugin", error))?;
        Ok(list.unwrap_or_default())
    }

    /// `local` or `global`. Old drivers do not know the question; other answers count as `local` (moby `getCapabilities`).
    pub fn scope(&self) -> String {
        let answer = self.call("/VolumeDriver.Capabilities", &Value::Null);
        let scope = answer
            .ok()
            .and_then(|answer| Some(answer["Capabilities"]["Scope"].as_str()?.to_lowercase()));
        scope
            .filter(|scope| scope == "global")
            .unwrap_or_else(|| "local".into())
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value> {
        self.ask(method, body, Absent::Fails)
    }

    fn ask(&self, method: &str, body: &Value, absent: Absent) -> Result<Value> {
        let (status, text) = self.send(method, body, absent)?;
        let answer = parse(&text);
        let error = refusal(&answer);
        if status == 200 && error.is_empty() {
            return Ok(answer);
        }
        let what = method.trim_start_matches('/');
        let reason = if error.is_empty() {
            String::from_utf8_lossy(&text).trim().to_owned()
        } else {
            error.to_owned()
        };
        // Only what is no answer names the call (moby `statusError`).
        Err(Error::internal(if status == 200 {
            reason
        } else {
            format!("{what}: {reason}")
        }))
    }

    fn send(&self, method: &str, body: &Value, absent: Absent) -> Result<(u16, Vec<u8>)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        exchange::exchange(&self.address, &self.name, method, &body, absent).map_err(|error| {
            let what = format!(
                "error while calling {} of volume plugin {:?}",
                method.trim_start_matches('/'),
                self.name
            );
            Error::caused(&what, error)
        })
    }
}

fn parse(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or(Value::Null)
}

fn refusal(answer: &Value) -> &str {
    answer["Err"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for name in ["no-such-plugin", "../x", "", ".x"] {
            let error = find(name).expect_err("refused");
            assert!(
                error.to_string().starts_with("error looking up"),
                "{name:?}"
            );
        }
    }
}
