//! `docker image inspect`.

use wharf_api::container::{DriverData, Empty, HealthConfig, Set};
use wharf_api::image::{ImageConfig, ImageInspect, Metadata, RootFs};
use wharf_api::time::rfc3339_nano;
use wharf_spec::digest::{DiffId, Digest};
use wharf_spec::image_config::{Healthcheck, RunConfig};

use super::{created, signed};
use crate::{Engine, Result, clock};

impl Engine {
    /// Everything about one image.
    pub async fn image_inspect(&self, name: &str) -> Result<ImageInspect> {
        let image = self.store.image(name)?;
        let config = &image.config;
        let (driver, data) = self.store.image_graph_driver(&image);
        let names = self.store.references_of(&image.id);
        let (digests, tags): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| name.digest().is_some());
        let last_comment = config
            .history
            .last()
            .map_or("", |step| step.comment.as_str());
        Ok(ImageInspect {
            id: image.id.to_string(),
            repo_tags: tags.into_iter().map(|name| name.familiar()).collect(),
            repo_digests: digests.into_iter().map(|name| name.familiar()).collect(),
            parent: image
                .parent
                .as_ref()
                .map(Digest::to_string)
                .unwrap_or_default(),
            comment: if config.comment.is_empty() {
                last_comment
            } else {
                &config.comment
            }
            .to_owned(),
            created: created(&image).map(rfc3339_nano).unwrap_or_default(),
            docker_version: config.docker_version.clone(),
            author: config.author.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            os: if config.os.is_empty() {
                "linux"
            } else {
                &config.os
            }
            .to_owned(),
            os_version: config.os_version.clone(),
            size: signed(self.store.image_size(&image)),
            virtual_size: None,
            container: Some(config.container.clone()),
            container_config: config.container_config.clone(),
            graph_driver: DriverData {
                data: (!data.is_empty()).then_some(data),
                name: driver,
            },
            root_fs: RootFs {
                kind: config
                    .rootfs
                    .as_ref()
                    .map(|rootfs| rootfs.kind.clone())
                    .unwrap_or_default(),
                layers: config.diff_ids().iter().map(DiffId::to_string).collect(),
            },
            metadata: Metadata {
                last_tag_time: clock::text(image.tagged),
            },
            config: config.config.as_ref().map(run_config).unwrap_or_default(),
        })
    }
}

/// An image's settings as inspect shows them: what is empty counts as absent.
fn run_config(config: &RunConfig) -> ImageConfig {
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let command = |command: &Option<Vec<String>>| command.as_deref().and_then(list);
    ImageConfig {
        args_escaped: config.args_escaped,
        cmd: command(&config.cmd),
        entrypoint: command(&config.entrypoint),
        env: list(&config.env),
        exposed_ports: set(config.exposed_ports.keys()),
        healthcheck: config.healthcheck.as_ref().map(health),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        on_build: list(&config.on_build),
        shell: config.shell.clone(),
        stop_signal: config.stop_signal.clone(),
        user: config.user.clone(),
        volumes: (!config.volumes.is_empty()).then(|| set(config.volumes.keys())),
        working_dir: config.working_dir.clone(),
    }
}

fn set<'a>(keys: impl Iterator<Item = &'a String>) -> Set {
    keys.map(|key| (key.clone(), Empty {})).collect()
}

fn health(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: check.test.clone(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}
