//! `docker import`: an image from a tar of files.

use std::io::Read;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wharf_api::container::Config;
use wharf_api::gojson;
use wharf_api::time::rfc3339_nano;
use wharf_spec::digest::DiffId;
use wharf_spec::platform::Platform;

use super::changes;
use super::tag::repository_tag;
use crate::{Engine, Error, Result, blocking};

impl Engine {
    /// Makes an image of one layer; returns its ID. `changes` are Dockerfile instructions.
    pub async fn image_import(
        &self,
        archive: impl Read + Send + 'static,
        repository: &str,
        tag: &str,
        message: &str,
        changes: Vec<String>,
        platform: &str,
    ) -> Result<String> {
        let name = repository_tag(repository, tag)?;
        let platform = self::platform(platform)?.unwrap_or_else(Platform::host);
        if platform.os != "linux" {
            return Err(Error::invalid("operating system is not supported"));
        }
        let config = changes::apply(Config::default(), &changes)?;
        let image = NewImage {
            config,
            platform,
            message: message.to_owned(),
        };
        self.finish(move |engine| async move {
            blocking(move || {
                let id = engine.store.import(archive, |diff| image.json(diff))?;
                if let Some(name) = name {
                    engine.store.tag(&id, &name)?;
                    engine.tell_image("tag", &id, &name.familiar());
                }
                engine.tell_image("import", &id, id.as_str());
                Ok(id.to_string())
            })
            .await
        })
        .await
    }
}

/// The platform in a parameter; `None` when it is empty.
pub(super) fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    Platform::parse(text)
        .map(Some)
        .map_err(|error| Error::invalid(error.to_string()))
}

/// What an imported image's config says.
struct NewImage {
    config: Config,
    platform: Platform,
    message: String,
}

impl NewImage {
    /// The image config; Docker writes its keys sorted.
    fn json(&self, diff: &DiffId) -> Vec<u8> {
        let created = rfc3339_nano(Timestamp::now());
        let mut history = Map::new();
        history.insert("created".to_owned(), json!(created));
        let mut image = Map::new();
        let mut add = |key: &str, value: Value| image.insert(key.to_owned(), value);
        add("architecture", json!(self.platform.architecture));
        if !self.message.is_empty() {
            add("comment", json!(self.message));
            history.insert("comment".to_owned(), json!(self.message));
        }
        add(
            "config",
            serde_json::to_value(&self.config).unwrap_or_default(),
        );
        add(
            "container_config",
            serde_json::to_value(Config::default()).unwrap_or_default(),
        );
        add("created", json!(created));
        add("docker_version", json!(wharf_api::version::ENGINE));
        add("history", json!([history]));
        add("os", json!(self.platform.os));
        add("rootfs", json!({"type": "layers", "diff_ids": [diff]}));
        if !self.platform.variant.is_empty() {
            add("variant", json!(self.platform.variant));
        }
        gojson::to_string(&image).into_bytes()
    }
}
