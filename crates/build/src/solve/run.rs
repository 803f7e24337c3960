//! `RUN`.

use std::sync::Arc;

use wharf_api::container::{Config, HealthConfig};

use super::error::BuildError;
use super::stage::StageRun;
use super::worker::{RunMount, RunStep, Worker};
use crate::copy::{cache_text, find};
use crate::dockerfile::instruction::{Mount, MountKind, Network, Run, Security};
use crate::files::Files;
use crate::ignore::Patterns;

impl<W: Worker> StageRun<'_, W> {
    /// Runs a command, or takes over what it did before.
    pub(super) async fn run_command(
        &mut self,
        run: &Run,
        mounts: Vec<Mount>,
    ) -> Result<(), BuildError> {
        let command = run.command.resolve(&self.settings.shell());
        let environment = self.settings.config.env.clone().unwrap_or_default();
        let visible = self.scope.visible(&environment);
        let (mounts, inputs) = self.find_mounts(mounts).await?;
        let remembered = self.scope.remembered(&visible);
        let step = Config {
            cmd: Some(saved_command(run, &command, &visible, &remembered, &inputs)),
            entrypoint: if command.is_empty() {
                self.settings.config.entrypoint.clone()
            } else {
                None
            },
            ..self.settings.config.clone()
        };
        if self.take_cached(&step)? {
            return Ok(());
        }
        let mut config = self.settings.config.clone();
        config.cmd = Some(command);
        config.entrypoint = Some(vec![String::new()]);
        config.env.get_or_insert_default().extend(visible);
        config.healthcheck = Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..HealthConfig::default()
        });
        let child = self.child(step)?;
        let step = RunStep {
            image: self.image.clone(),
            config,
            mounts,
            network: run.network,
            security: run.security,
            newest: self.epoch(),
        };
        let image = self.worker().run(step, child, &self.output).await?;
        self.image = Some(image);
        Ok(())
    }

    /// Finds the sources of mounts, and what of them counts for the cache.
    async fn find_mounts(
        &self,
        mounts: Vec<Mount>,
    ) -> Result<(Vec<RunMount>, Vec<String>), BuildError> {
        let (mut found, mut inputs) = (Vec::new(), Vec::new());
        for mount in mounts {
            let (mut files, mut image) = (None, None);
            let mut input = describe(&mount);
            let shows_files = mount.kind == MountKind::Bind
                || (mount.kind == MountKind::Cache && !mount.from.is_empty());
            if shows_files {
                let tree: Arc<dyn Files> = if mount.from.is_empty() {
                    self.shared.request.context.clone()
                } else {
                    let (tree, of) = self.source(&mount.from).await?;
                    image = of;
                    tree
                };
                let source = if mount.source.is_empty() {
                    "/"
                } else {
                    &mount.source
                };
                let whole = crate::path::clean(source) == "/";
                let (text, path) = match &image {
                    // All of an image: its layers say what it is.
                    Some(image) if whole => (self.layers_text(image)?, Vec::new()),
                    _ => hash_bind(tree.clone(), source.to_owned(), mount.from.is_empty()).await?,
                };
                input.push_str(&format!(",{text}"));
                files = Some((tree, path));
            }
            inputs.push(input);
            found.push(RunMount {
                mount,
                image,
                files,
            });
        }
        Ok((found, inputs))
    }

    fn layers_text(&self, image: &str) -> Result<String, BuildError> {
        let config = self.worker().image(image)?;
        let layers: Vec<String> = config.diff_ids().iter().map(ToString::to_string).collect();
        let digest = crate::copy::digest_hex(layers.join(",").as_bytes());
        Ok(format!("layers:{digest}"))
    }
}

/// What a mount is, without what is in it.
fn describe(mount: &Mount) -> String {
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
        MountKind::Ssh => "ssh",
    };
    let id = if mount.id.is_empty() {
        String::new()
    } else {
        format!(",id={}", mount.id)
    };
    format!("--mount=type={kind}{id},target={}", mount.target)
}

async fn hash_bind(
    tree: Arc<dyn Files>,
    source: String,
    context: bool,
) -> Result<(String, Vec<u8>), BuildError> {
    let hash = move || {
        let sources =
            find(&*tree, std::slice::from_ref(&source), context, false).map_err(|error| {
                BuildError::invalid(format!("failed to compute cache key: {error}"))
            })?;
        let text = cache_text(&*tree, &sources, &[], &Patterns::default())
            .map_err(|error| BuildError::internal(error.to_string()))?;
        let path = sources.into_iter().next().map(|source| source.resolved);
        Ok((text, path.unwrap_or_default()))
    };
    super::copy::blocking(hash).await
}

/// The command as cache and history have it: arguments before it, and flags that make a difference.
fn saved_command(
    run: &Run,
    command: &[String],
    visible: &[String],
    remembered: &[String],
    inputs: &[String],
) -> Vec<String> {
    let mut saved = Vec::new();
    if !visible.is_empty() {
        saved.push(format!("|{}", remembered.len()));
        saved.extend_from_slice(remembered);
    }
    saved.extend_from_slice(inputs);
    match run.network {
        Network::Default => {}
        Network::None => saved.push("--network=none".to_owned()),
        Network::Host => saved.push("--network=host".to_owned()),
    }
    if run.security == Security::Insecure {
        saved.push("--security=insecure".to_owned());
    }
    saved.extend_from_slice(command);
    saved
}
