//! `POST /commit`: an image of what a container has become (moby `daemon/commit.go`).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wharf_api::container::Config;
use wharf_api::gojson;
use wharf_api::time::rfc3339_nano;
use wharf_spec::digest::Digest;
use wharf_spec::image_config::{ImageConfig, RunConfig};
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;
use wharf_store::Layered;

use super::record::Record;
use super::status::Status;
use super::{Container, image_config};
use crate::images::changes;
use crate::images::tag::repository_tag;
use crate::{Engine, Error, Result, blocking};

/// What is asked for beside the container.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Repository of the new image's name; empty for none.
    pub repository: String,
    /// Tag of the name; empty for `latest`.
    pub tag: String,
    /// A remark.
    pub comment: String,
    /// Who.
    pub author: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Settings to start from instead of the container's.
    pub config: Option<Config>,
}

impl Engine {
    /// Returns the new image's ID.
    pub async fn container_commit(&self, name: &str, options: CommitOptions) -> Result<String> {
        let container = self.containers.get(name)?;
        let reference = repository_tag(&options.repository, &options.tag)?;
        check(&container)?;
        self.finish(move |engine| async move {
            let frozen = engine.freeze_for_commit(&container, options.pause).await;
            let committed = engine.commit(&container, reference, options).await;
            if frozen {
                // It may have ended or been thawed by somebody else meanwhile.
                let _ = engine.container_unpause(&container.id).await;
            }
            committed
        })
        .await
    }

    /// Whether it was frozen here. One that cannot be is committed as it runs, as Docker does.
    async fn freeze_for_commit(&self, container: &Container, pause: bool) -> bool {
        pause
            && container.status() == Status::Running
            && self.container_pause(&container.id).await.is_ok()
    }

    async fn commit(
        &self,
        container: &Arc<Container>,
        reference: Option<Reference>,
        options: CommitOptions,
    ) -> Result<String> {
        let record = container.record();
        let parent =
            Digest::parse(&record.image_id).map_err(|error| Error::internal(error.to_string()))?;
        let base = self.store.image_by_id(&parent)?;
        let image = NewImage {
            config: settings(&record, options.config, &options.changes)?,
            base: base.config,
            comment: options.comment.clone(),
            author: options.author,
            record,
        };
        let (store, id) = (self.store.clone(), container.id.clone());
        let named = reference.clone();
        let new = blocking(move || {
            let new = store.commit(&id, |layered| image.json(layered))?;
            store.set_parent(&new, &parent)?;
            if let Some(name) = named {
                store.tag(&new, &name)?;
            }
            Ok(new)
        })
        .await?;
        let name = reference.map(|name| name.familiar()).unwrap_or_default();
        if !name.is_empty() {
            self.tell_image("tag", &new, &name);
        }
        let attributes = [
            ("comment", options.comment.as_str()),
            ("imageID", new.as_str()),
            ("imageRef", &name),
        ];
        self.tell(container, "commit", &attributes);
        Ok(new.to_string())
    }
}

fn check(container: &Container) -> Result<()> {
    let refused = |how: &str| {
        Err(Error::conflict(format!(
            "You cannot commit container {} which is {how}",
            container.id
        )))
    };
    match container.status() {
        Status::Dead => refused("Dead"),
        Status::Removing => refused("being removed"),
        _ => Ok(()),
    }
}

/// The container's settings under the ones given, with the changes applied.
fn settings(record: &Record, given: Option<Config>, changes: &[String]) -> Result<Config> {
    let start = given.unwrap_or_else(|| record.config.clone());
    let mut config = changes::apply(start, changes)?;
    let own = serde_json::to_value(&record.config)
        .and_then(serde_json::from_value::<RunConfig>)
        .map_err(|error| Error::caused("read the container's settings", error))?;
    image_config::merge(&mut config, &own);
    Ok(config)
}

/// What the new image's config says (moby `image.NewChildImage`).
struct NewImage {
    config: Config,
    base: Arc<ImageConfig>,
    comment: String,
    author: String,
    record: Arc<Record>,
}

impl NewImage {
    /// The image config; Docker writes its keys sorted.
    fn json(&self, layered: &Layered) -> Vec<u8> {
        let created = rfc3339_nano(Timestamp::now());
        let mut image = Map::new();
        let mut add = |key: &str, value: Value| image.insert(key.to_owned(), value);
        let or_host = |text: &str, host: String| {
            if text.is_empty() {
                host
            } else {
                text.to_owned()
            }
        };
        add(
            "architecture",
            json!(or_host(
                &self.base.architecture,
                Platform::host().architecture
            )),
        );
        if !self.author.is_empty() {
            add("author", json!(self.author));
        }
        add("config", value_of(&self.config));
        add("container", json!(self.record.id));
        add("container_config", value_of(&self.record.config));
        add("created", json!(created));
        add("docker_version", json!(wharf_api::version::ENGINE));
        add("history", self.history(layered, &created));
        add("os", json!(or_host(&self.base.os, "linux".into())));
        if !self.base.os_features.is_empty() {
            add("os.features", json!(self.base.os_features));
        }
        if !self.base.os_version.is_empty() {
            add("os.version", json!(self.base.os_version));
        }
        let mut layers = self.base.diff_ids().to_vec();
        layers.extend(layered.diff.clone());
        add("rootfs", json!({"type": "layers", "diff_ids": layers}));
        if !self.base.variant.is_empty() {
            add("variant", json!(self.base.variant));
        }
        gojson::to_string(&image).into_bytes()
    }

    fn history(&self, layered: &Layered, created: &str) -> Value {
        let mut step = Map::new();
        step.insert("created".into(), json!(created));
        let command = self
            .record
            .config
            .cmd
            .as_deref()
            .unwrap_or_default()
            .join(" ");
        for (key, text) in [
            ("created_by", &command),
            ("author", &self.author),
            ("comment", &self.comment),
        ] {
            if !text.is_empty() {
                step.insert(key.into(), json!(text));
            }
        }
        if layered.diff.is_none() {
            step.insert("empty_layer".into(), json!(true));
        }
        let mut steps: Vec<Value> = self.base.history.iter().map(|step| json!(step)).collect();
        steps.push(Value::Object(step));
        Value::Array(steps)
    }
}

fn value_of(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}
