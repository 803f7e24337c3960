//! The image of a step: its config, made from its parent's.

use serde_json::{Map, Value, json};
use wharf_api::container::Config;
use wharf_api::gojson;
use wharf_spec::digest::DiffId;
use wharf_spec::image_config::{HistoryEntry, ImageConfig};

use crate::settings::Settings;

/// What a step adds to its parent.
#[derive(Debug, Clone)]
pub struct Child<'a> {
    /// Settings after the step.
    pub settings: &'a Settings,
    /// Settings that stand for the step in the cache; its command tells what was done.
    pub step: &'a Config,
    /// Its layer, unless that is empty.
    pub layer: Option<&'a DiffId>,
    /// RFC 3339.
    pub created: &'a str,
}

impl Child<'_> {
    /// The config of the new image, keys in Docker's order.
    pub fn json(&self, parent: &ImageConfig) -> Vec<u8> {
        let created_by = self.step.cmd.as_deref().unwrap_or_default().join(" ");
        let mut history = parent.history.clone();
        history.push(HistoryEntry {
            created: Some(self.created.to_owned()),
            created_by,
            author: self.settings.author.clone(),
            comment: String::new(),
            empty_layer: self.layer.is_none(),
        });
        let mut diff_ids = parent.diff_ids().to_vec();
        diff_ids.extend(self.layer.cloned());
        let mut image = Map::new();
        let mut add = |key: &str, value: Value| image.insert(key.to_owned(), value);
        add("architecture", json!(parent.architecture));
        if !self.settings.author.is_empty() {
            add("author", json!(self.settings.author));
        }
        add(
            "config",
            serde_json::to_value(&self.settings.config).unwrap_or_default(),
        );
        add(
            "container_config",
            serde_json::to_value(self.step).unwrap_or_default(),
        );
        add("created", json!(self.created));
        add("docker_version", json!(wharf_api::version::ENGINE));
        add(
            "history",
            serde_json::to_value(&history).unwrap_or_default(),
        );
        add("os", json!(parent.os));
        add("rootfs", json!({"type": "layers", "diff_ids": diff_ids}));
        if !parent.variant.is_empty() {
            add("variant", json!(parent.variant));
        }
        gojson::to_string(&image).into_bytes()
    }
}
