//! Programs that Docker's engine asks by its plugin protocol: JSON posted to a Unix socket or a TCP address
//! (docs.docker.com, "Docker Plugin API"). What they are for is their callers' subject: volumes, authorization. Blocking.

mod discovery;
mod exchange;

use serde_json::{Value, json};
use wharf_logship::connection::Address;

use crate::{Error, Result};
use discovery::Places;
pub use exchange::Absent;

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// What it must say that it implements.
    pub implements: &'static str,
    /// In messages: `volume`, `authorization`.
    pub word: &'static str,
}

/// A plugin that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    name: String,
    subject: Subject,
    address: Address,
}

impl Plugin {
    /// Finds a plugin that says it is for `subject`.
    pub fn find(name: &str, subject: Subject, absent: Absent) -> Result<Plugin> {
        find_in(&Places::default(), name, subject, absent)
    }

    /// All plugins that say so. Those that do not answer are passed over.
    #[must_use]
    pub fn all(subject: Subject) -> Vec<Plugin> {
        let places = Places::default();
        let names = places.names();
        names
            .iter()
            .filter_map(|name| find_in(&places, name, subject, Absent::Fails).ok())
            .collect()
    }

    /// What users call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Posts `body` (nothing for `null`) and gives the answer. A refusal is an error in the plugin's words.
    pub fn ask(&self, method: &str, body: &Value) -> Result<Value> {
        self.ask_or_wait(method, body, Absent::Fails)
    }

    fn ask_or_wait(&self, method: &str, body: &Value, absent: Absent) -> Result<Value> {
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

    /// The same, where a refusal is an answer: `None`.
    pub fn ask_if(&self, method: &str, body: &Value) -> Result<Option<Value>> {
        let (status, text) = self.send(method, body, Absent::Fails)?;
        let answer = parse(&text);
        Ok((status == 200 && refusal(&answer).is_empty()).then_some(answer))
    }

    fn send(&self, method: &str, body: &Value, absent: Absent) -> Result<(u16, Vec<u8>)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        exchange::exchange(&self.address, &self.name, method, &body, absent).map_err(|error| {
            let what = format!(
                "error while calling {} of {} plugin {:?}",
                method.trim_start_matches('/'),
                self.subject.word,
                self.name
            );
            Error::caused(&what, error)
        })
    }
}

fn find_in(places: &Places, name: &str, subject: Subject, absent: Absent) -> Result<Plugin> {
    let unknown = || {
        Error::not_found(format!(
            "error looking up {} plugin {name}: plugin {name:?} not found",
            subject.word
        ))
    };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(unknown());
    }
    let plugin = Plugin {
        name: name.to_owned(),
        subject,
        address: places.locate(name).ok_or_else(unknown)?,
    };
    let answer = plugin.ask_or_wait("/Plugin.Activate", &Value::Null, absent)?;
    let fits = answer["Implements"]
        .as_array()
        .is_some_and(|list| list.contains(&json!(subject.implements)));
    if fits { Ok(plugin) } else { Err(unknown()) }
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
        let subject = Subject {
            implements: "VolumeDriver",
            word: "volume",
        };
        for name in ["no-such-plugin", "../x", "", ".x"] {
            let error = Plugin::find(name, subject, Absent::Fails).expect_err("refused");
            assert_eq!(
                error.to_string(),
                format!("error looking up volume plugin {name}: plugin {name:?} not found")
            );
        }
    }
}
