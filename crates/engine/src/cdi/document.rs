//! One CDI file, in JSON or YAML (CDI specification 0.3.0 to 1.0.0).

use std::path::Path;

use serde::Deserialize;

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Document {
    /// Version of the specification it follows.
    pub cdi_version: String,
    /// `vendor.com/class` of all its devices.
    pub kind: String,
    /// The devices.
    pub devices: Vec<Device>,
    /// Edits for each of them.
    pub container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// Its name within the kind.
    pub name: String,
    /// What a container needs to use it.
    pub container_edits: Edits,
}

/// Changes to a container's spec.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Edits {
    /// Environment, `KEY=value`.
    pub env: Vec<String>,
    /// Device nodes.
    pub device_nodes: Vec<Node>,
    /// Bind mounts.
    pub mounts: Vec<Bind>,
    /// OCI hooks.
    pub hooks: Vec<Hook>,
    /// Further groups of the process.
    pub additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    /// Inside.
    pub path: String,
    /// On the host, where it differs.
    pub host_path: String,
    /// `b`, `c`, `u` or `p`; found out when empty.
    #[serde(rename = "type")]
    pub kind: String,
    /// Numbers; found out when both are absent.
    pub major: Option<i64>,
    /// See `major`.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// `rwm` in any combination, all when empty.
    pub permissions: String,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A bind mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Bind {
    /// On the host.
    pub host_path: String,
    /// Inside.
    pub container_path: String,
    /// As mount(8)'s.
    pub options: Vec<String>,
    /// File system type, `bind` when empty.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A program to run at a point of the container's life.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hook {
    /// `createContainer` and its like.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// With the program's own name first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<i64>,
}

impl Document {
    /// Reads and checks a file.
    pub fn read(file: &Path) -> Result<Document, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        Document::parse(&text)
    }

    /// YAML, of which JSON is a part.
    pub fn parse(text: &str) -> Result<Document, String> {
        let document: Document =
            serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        if self.cdi_version.is_empty() {
            return Err("no cdiVersion".into());
        }
        let words = self.kind.split_once('/');
        if !words.is_some_and(|(vendor, class)| is_word(vendor) && is_word(class)) {
            return Err(format!(
                "invalid kind {:?}, expected vendor/class",
                self.kind
            ));
        }
        if self.devices.is_empty() {
            return Err("no devices".into());
        }
        match self.devices.iter().find(|device| !is_word(&device.name)) {
            Some(device) => Err(format!("invalid device name {:?}", device.name)),
            None => Ok(()),
        }
    }
}

/// Letters and digits, with `_`, `-`, `.` and `:` in between.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_checked() {
        for (text, expected) in [
            (
                "{\"cdiVersion\":\"0.6.0\",\"kind\":\"v.com/c\",\"devices\":[{\"name\":\"0\"}]}",
                None,
            ),
            ("kind: v/c", Some("no cdiVersion")),
            (
                "{cdiVersion: 0.6.0, kind: v}",
                Some("invalid kind \"v\", expected vendor/class"),
            ),
            ("{cdiVersion: 0.6.0, kind: v/c}", Some("no devices")),
            (
                "{cdiVersion: 0.6.0, kind: v/c, devices: [{name: ../x}]}",
                Some("invalid device name \"../x\""),
            ),
        ] {
            assert_eq!(Document::parse(text).err().as_deref(), expected, "{text}");
        }
        assert!(Document::parse("[").is_err());
    }
}
