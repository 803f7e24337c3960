//! One stage, step by step.

use std::sync::Arc;

use serde::Deserialize as _;
use wharf_api::container::Config;
use wharf_archive::tar::Kind;
use wharf_spec::image_config::{ImageConfig, RootFs};
use wharf_spec::platform::Platform;

use super::error::BuildError;
use super::output::Output;
use super::worker::{MakeConfig, Named, Worker, WriteLayer};
use super::{Done, Shared};
use crate::copy::{Layer, LayerError, Options, Source, cache_text, unpack};
use crate::dockerfile::instruction::{Instruction, Step};
use crate::dockerfile::scope::Scope;
use crate::dockerfile::stage::parse_one;
use crate::files::{Files, Nothing};
use crate::graph::{Base, source_stage};
use crate::ignore::Patterns;
use crate::image::Child;
use crate::settings::{Settings, same_step};

/// A stage being built.
pub(super) struct StageRun<'a, W: Worker> {
    pub(super) shared: &'a Arc<Shared<W>>,
    pub(super) index: usize,
    /// Number of its `FROM`.
    first: usize,
    pub(super) output: Output,
    pub(super) settings: Settings,
    pub(super) scope: Scope,
    /// The image reached so far.
    pub(super) image: Option<String>,
    /// What it began with, or what the stage it is based on did.
    base: Option<String>,
    /// A step was not in the cache: none after it is looked up.
    missed: bool,
}

impl<'a, W: Worker> StageRun<'a, W> {
    pub(super) fn new(
        shared: &'a Arc<Shared<W>>,
        index: usize,
        first: usize,
        output: Output,
    ) -> StageRun<'a, W> {
        StageRun {
            shared,
            index,
            first,
            output,
            settings: Settings::default(),
            scope: shared.scope.stage(None),
            image: None,
            base: None,
            missed: shared.request.no_cache || is_filtered(shared, index),
        }
    }

    pub(super) fn worker(&self) -> &Arc<W> {
        &self.shared.worker
    }

    pub(super) async fn run(mut self) -> Result<Done, BuildError> {
        let shared = self.shared.clone();
        let stage = &shared.request.file.stages[self.index];
        self.output.step(self.first, shared.total, &stage.source);
        self.begin().await?;
        self.output.reached(self.image.as_deref());
        for (number, step) in stage.steps.iter().enumerate() {
            self.output
                .step(self.first + 1 + number, shared.total, &step.source);
            self.step(step).await?;
            self.output.reached(self.image.as_deref());
        }
        if let Some(image) = &self.image {
            self.output.piece(super::Piece::Image(image.clone()));
        }
        Ok(Done {
            image: self.image,
            base: self.base,
            scope: self.scope,
        })
    }

    /// `FROM`, and the triggers of its image.
    async fn begin(&mut self) -> Result<(), BuildError> {
        let shared = self.shared.clone();
        let vertex = &shared.graph.stages[self.index];
        match &vertex.base {
            Base::Scratch => {}
            Base::Stage(base) => {
                let done = self.result_of(*base).await?;
                self.scope = shared.scope.stage(Some(&done.scope));
                self.image.clone_from(&done.image);
                self.base.clone_from(&done.base);
            }
            Base::Context(name) => {
                self.image = Some(self.context_image(name).await?);
                self.base.clone_from(&self.image);
            }
            Base::Image(name) => {
                let platform = vertex
                    .platform
                    .as_ref()
                    .or(shared.request.platform.as_ref());
                let image = shared.worker.base(name, platform, &self.output).await?;
                self.image = Some(image);
                self.base.clone_from(&self.image);
            }
        }
        let config = match &self.image {
            Some(image) => config_of(&shared.worker.image(image)?)?,
            None => Config::default(),
        };
        self.settings = Settings::of(config);
        self.settings.config.image = self.image.clone().unwrap_or_default();
        let triggers = self.settings.config.on_build.take().unwrap_or_default();
        self.run_triggers(&triggers).await
    }

    async fn run_triggers(&mut self, triggers: &[String]) -> Result<(), BuildError> {
        if triggers.is_empty() {
            return Ok(());
        }
        self.output
            .text(format!("# Executing {} build trigger", triggers.len()));
        if triggers.len() > 1 {
            self.output.text("s");
        }
        self.output.text("\n");
        for trigger in triggers {
            let step =
                parse_one(trigger).map_err(|error| BuildError::invalid(error.to_string()))?;
            self.step(&step).await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), BuildError> {
        let expanded = {
            let lookup = |name: &str| {
                self.settings
                    .variable(name)
                    .or_else(|| self.scope.argument(name))
            };
            step.instruction
                .expand(self.shared.request.file.escape, &lookup)
                .map_err(|problem| BuildError::invalid(problem.to_string()))?
        };
        match &expanded.instruction {
            Instruction::Run(run) => self.run_command(run, expanded.mounts).await?,
            Instruction::Copy(copy) => self.copy(copy, "COPY").await?,
            Instruction::Add(copy) => self.copy(copy, "ADD").await?,
            other => {
                if let Instruction::Arg(arguments) = other {
                    arguments
                        .iter()
                        .for_each(|argument| self.scope.declare(argument));
                }
                self.metadata(other).await?;
            }
        }
        self.settings.config.image = self.image.clone().unwrap_or_default();
        Ok(())
    }

    /// An instruction that changes settings; `WORKDIR` also makes a directory.
    async fn metadata(&mut self, instruction: &Instruction) -> Result<(), BuildError> {
        if matches!(instruction, Instruction::Healthcheck(_)) {
            self.tell_replaced_check();
        }
        let Some(text) = self
            .settings
            .apply(instruction)
            .map_err(BuildError::invalid)?
        else {
            return Ok(());
        };
        let workdir = matches!(instruction, Instruction::Workdir(_));
        let step = if workdir {
            self.noted(&[format!("#(nop) {text}")])
        } else {
            self.noted(&["#(nop) ".to_owned(), text])
        };
        if self.take_cached(&step)? {
            return Ok(());
        }
        // Docker makes a container for this step, whose ID scripts may look for; here it is an ID and no more.
        let id = random_id();
        self.output.running_in(&id);
        let layer = if workdir {
            Some(self.make_workdir().await?)
        } else {
            None
        };
        self.commit(step, layer).await?;
        if self.shared.request.remove {
            self.output.removed(&id);
        }
        Ok(())
    }

    /// Docker tells of a check that another one replaces.
    fn tell_replaced_check(&self) {
        let check = self.settings.config.healthcheck.as_ref();
        let old = check.map(|check| check.test.as_slice()).unwrap_or_default();
        if old.first().is_some_and(|kind| kind != "NONE") {
            let old = old.join(" ");
            self.output
                .text(format!("Note: overriding previous HEALTHCHECK: [{old}]\n"));
        }
    }

    async fn make_workdir(&mut self) -> Result<WriteLayer, BuildError> {
        let base = self.worker().files(self.image.as_deref()).await?;
        let (path, now) = (self.settings.config.working_dir.clone(), self.now());
        Ok(Box::new(move |out| {
            let mut layer = Layer::new(&*base, now);
            let resolved = base
                .resolve(path.as_bytes())
                .map_err(|error| error.to_string())?;
            let found = base.entry(&resolved).map_err(|error| error.to_string())?;
            match found {
                Some(node) if node.entry.kind != Kind::Directory => {
                    return Err(format!("Cannot mkdir: {path} is not a directory"));
                }
                Some(_) => {}
                None => layer
                    .make_directory(&resolved, (0, 0))
                    .map_err(|error| error.to_string())?,
            }
            layer.write(out).map_err(|error| error.to_string())
        }))
    }

    /// Settings that stand for a step that runs nothing: the command is a remark.
    pub(super) fn noted(&self, remark: &[String]) -> Config {
        let mut cmd = self.settings.shell();
        cmd.extend_from_slice(remark);
        Config {
            cmd: Some(cmd),
            ..self.settings.config.clone()
        }
    }

    /// Goes on with the image of an equal step, if there is one.
    pub(super) fn take_cached(&mut self, step: &Config) -> Result<bool, BuildError> {
        if self.missed {
            return Ok(false);
        }
        let settings = &self.settings.config;
        let found = self
            .worker()
            .cached(self.image.as_deref(), step, settings)?;
        let Some(image) = found else {
            self.missed = true;
            return Ok(false);
        };
        self.output.text(" ---> Using cache\n");
        self.image = Some(image);
        Ok(true)
    }

    /// Adds the image of a step.
    pub(super) async fn commit(
        &mut self,
        step: Config,
        layer: Option<WriteLayer>,
    ) -> Result<(), BuildError> {
        let config = self.child(step)?;
        let id = self
            .worker()
            .extend(self.image.as_deref(), layer, config)
            .await?;
        self.image = Some(id);
        Ok(())
    }

    /// The config of the image after a step.
    pub(super) fn child(&self, step: Config) -> Result<MakeConfig, BuildError> {
        let parent = match &self.image {
            Some(image) => self.worker().image(image)?,
            None => self.empty_image(),
        };
        let (settings, created) = (self.settings.clone(), self.created());
        Ok(Box::new(move |layer| {
            Child {
                settings: &settings,
                step: &step,
                layer,
                created: &created,
            }
            .json(&parent)
        }))
    }

    fn empty_image(&self) -> ImageConfig {
        let vertex = &self.shared.graph.stages[self.index];
        let platform = vertex
            .platform
            .clone()
            .or_else(|| self.shared.request.platform.clone());
        let platform = platform.unwrap_or_else(Platform::host);
        ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            rootfs: Some(RootFs {
                kind: "layers".to_owned(),
                diff_ids: Vec::new(),
            }),
            ..ImageConfig::default()
        }
    }

    /// Waits for another stage.
    pub(super) async fn result_of(&self, index: usize) -> Result<Arc<Done>, BuildError> {
        let mut result = self.shared.results[index].clone();
        let done = result
            .wait_for(Option::is_some)
            .await
            .map_err(|_| BuildError::follow())?;
        done.clone().ok_or_else(BuildError::follow)
    }

    /// The files that `--from` names: a stage's, a context's, or an image's.
    pub(super) async fn source_files(&self, from: &str) -> Result<Arc<dyn Files>, BuildError> {
        self.source(from).await.map(|(files, _)| files)
    }

    /// The same, and the image if they are one's.
    pub(super) async fn source(
        &self,
        from: &str,
    ) -> Result<(Arc<dyn Files>, Option<String>), BuildError> {
        let request = &self.shared.request;
        let stage = source_stage(&request.file, self.index, from).map_err(BuildError::invalid)?;
        if let Some(stage) = stage {
            let done = self.result_of(stage).await?;
            let files = self.worker().files(done.image.as_deref()).await?;
            return Ok((files, done.image.clone()));
        }
        let lower = from.to_lowercase();
        let image = if request.contexts.contains(&lower) {
            match self.worker().context(&lower, &self.output).await? {
                Named::Files(files) => return Ok((files, None)),
                Named::Image(image) => image,
            }
        } else {
            let found = self
                .worker()
                .base(from, request.platform.as_ref(), &self.output);
            found
                .await
                .map_err(|error| error.context(&format!("invalid from flag value {from}")))?
        };
        Ok((self.worker().files(Some(&image)).await?, Some(image)))
    }

    /// A named context as the image that a stage begins with: its files are one layer.
    async fn context_image(&self, name: &str) -> Result<String, BuildError> {
        let files = match self.worker().context(name, &self.output).await? {
            Named::Image(image) => return Ok(image),
            Named::Files(files) => files,
        };
        let tree = files.clone();
        let root = Source {
            path: Vec::new(),
            resolved: Vec::new(),
            directory: true,
            pivot: 0,
        };
        let hash = super::copy::blocking(move || {
            cache_text(
                &*tree,
                std::slice::from_ref(&root),
                &[],
                &Patterns::default(),
            )
            .map_err(|error| BuildError::internal(error.to_string()))
        })
        .await?;
        let step = self.noted(&[format!("#(nop) CONTEXT {hash} in / ")]);
        if !self.shared.request.no_cache
            && let Some(image) = self.worker().cached(None, &step, &self.settings.config)?
        {
            return Ok(image);
        }
        let now = self.now();
        let write: WriteLayer = Box::new(move |out| {
            let nothing = Nothing;
            let mut layer = Layer::new(&nothing, now);
            let text = |error: LayerError| error.to_string();
            unpack(&mut layer, &*files, "/", &Options::default(), 0).map_err(text)?;
            layer.write(out).map_err(|error| error.to_string())
        });
        let config = self.child(step)?;
        self.worker().extend(None, Some(write), config).await
    }

    /// Seconds since 1970: now, or what `SOURCE_DATE_EPOCH` says.
    pub(super) fn now(&self) -> i64 {
        self.epoch()
            .unwrap_or_else(|| jiff::Timestamp::now().as_second())
    }

    fn created(&self) -> String {
        let epoch = self
            .epoch()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        wharf_api::time::rfc3339_nano(epoch.unwrap_or_else(jiff::Timestamp::now))
    }

    /// What `SOURCE_DATE_EPOCH` says.
    pub(super) fn epoch(&self) -> Option<i64> {
        let given = self.shared.request.arguments.get("SOURCE_DATE_EPOCH")?;
        given.as_ref()?.parse().ok()
    }
}

/// Whether `--no-cache-filter` names the stage.
fn is_filtered<W>(shared: &Shared<W>, index: usize) -> bool {
    let stage = &shared.request.file.stages[index];
    let names = |wanted: &String| {
        stage.name.as_deref() == Some(&wanted.to_lowercase()) || *wanted == index.to_string()
    };
    shared.request.no_cache_stages.iter().any(names)
}

/// An image's settings for containers.
fn config_of(image: &ImageConfig) -> Result<Config, BuildError> {
    let value = serde_json::to_value(image.config.clone().unwrap_or_default());
    value
        .and_then(serde_json::from_value)
        .map_err(|error| BuildError::internal(format!("image config: {error}")))
}

/// Whether a stored step is this one.
pub fn is_same(stored: &serde_json::Value, step: &Config) -> bool {
    Config::deserialize(stored).is_ok_and(|stored| same_step(&stored, step))
}

/// 64 hexadecimal digits.
fn random_id() -> String {
    let mut bytes = [0; 32];
    // Without random numbers an ID that only shows is all zeros.
    let _ = getrandom::fill(&mut bytes);
    crate::copy::hex(&bytes)
}
