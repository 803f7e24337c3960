//! `POST /build`: images from Dockerfiles (moby `daemon/builder`). The solver is `wharf-build`'s; here is what it works with.

mod agents;
mod cache;
mod caches;
mod context;
mod export;
mod extras;
mod facts;
mod fetch;
mod mounts;
mod named;
mod outputs;
mod prune;
mod records;
mod remote_cache;
mod run;
mod secrets;
mod squash;
mod uploads;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use wharf_api::container::HostConfig;
use wharf_api::error::Kind;
use wharf_api::progress::{ErrorDetail, Progress};
use wharf_build::dockerfile;
use wharf_build::files::Files;
use wharf_build::solve::{self, BuildError, Fault, Piece, short};
use wharf_distribution::Credentials;
use wharf_spec::digest::Digest;
use wharf_spec::platform::Platform;
use wharf_spec::reference::Reference;

use crate::{Engine, Error, Result, blocking};
pub use caches::CacheMount;
pub use extras::{CacheSource, Extras};
pub use outputs::OutputOption;
pub use prune::{Pruned, Space};
use uploads::Upload;
pub use uploads::UploadKind;
use worker::{Brought, EngineWorker};

/// What a client wants built.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Names of the result.
    pub tags: Vec<String>,
    /// Path of the Dockerfile in the context; empty for `Dockerfile`.
    pub dockerfile: String,
    /// Where the context comes from; empty for the request's body.
    pub remote: String,
    /// Build arguments.
    pub arguments: BTreeMap<String, Option<String>>,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// Images to take steps from.
    pub cache_from: Vec<String>,
    /// Stage to build.
    pub target: String,
    /// `os/arch[/variant]`.
    pub platform: String,
    /// Nothing is taken from the cache.
    pub no_cache: bool,
    /// Base images are pulled even if they are here.
    pub pull: bool,
    /// Only the ID is told.
    pub quiet: bool,
    /// Containers are removed after they were needed.
    pub remove: bool,
    /// The same, and one whose command failed is removed even if it would be kept.
    pub force_remove: bool,
    /// All layers above the base become one.
    pub squash: bool,
    /// What containers of `RUN` get: limits, network, hosts.
    pub host: HostConfig,
    /// Who may pull what, by registry.
    pub credentials: HashMap<String, Credentials>,
    /// Where the result goes besides the engine.
    pub outputs: Vec<OutputOption>,
    /// What goes beyond Docker's API.
    pub extras: Extras,
    /// Name by which the build can be cancelled.
    pub id: String,
}

/// Builds under way that can be cancelled.
#[derive(Default)]
pub(crate) struct Builds {
    running: Mutex<HashMap<String, watch::Sender<bool>>>,
    pub(crate) locks: mounts::CacheLocks,
    uploads: Mutex<HashMap<String, uploads::Waiting>>,
    agents: agents::Agents,
    secrets: secrets::StepSecrets,
}

/// Checked wishes, ready to be built.
pub struct Build {
    request: solve::Request,
    worker: EngineWorker,
    tags: Vec<Reference>,
    quiet: bool,
    squash: bool,
    facts: bool,
    push: bool,
    id: String,
}

impl Engine {
    /// Takes in the context and checks the Dockerfile: everything that can be refused before the answer begins.
    pub async fn build_prepare(
        &self,
        options: BuildOptions,
        body: impl Read + Send + 'static,
    ) -> Result<Build> {
        let outputs = outputs::Outputs::parse(&options.outputs)?;
        let mut names = options.tags.clone();
        names.extend(outputs.names);
        let tags = tags(&names)?;
        if options.squash && !self.config.experimental {
            return Err(Error::invalid(
                "squash is only supported with experimental mode",
            ));
        }
        let platform = match options.platform.as_str() {
            "" => None,
            // Their results would be one index, which is no image of an engine.
            text if text.contains(',') => {
                return Err(Error::new(
                    Kind::NotImplemented,
                    format!(
                        "several platforms in one build ({text}) are not supported: build for one at a time"
                    ),
                ));
            }
            text => Some(Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?),
        };
        let brought = self.build_brought(&options).await?;
        let source = self.build_source(&options, &brought.secrets, body).await?;
        let file = dockerfile::parse(&source.dockerfile)
            .map_err(|error| Error::invalid(error.message(&source.name)))?;
        let engine = self
            .handle()
            .ok_or_else(|| Error::new(Kind::Unavailable, "the daemon is shutting down"))?;
        Ok(Build {
            request: solve::Request {
                file,
                context: Arc::new(source.context) as Arc<dyn Files>,
                arguments: options.arguments.clone(),
                labels: options.labels.clone(),
                target: options.target.clone(),
                no_cache: options.no_cache,
                no_cache_stages: options.extras.no_cache_filter.clone(),
                contexts: brought.given.keys().cloned().collect(),
                remove: options.remove,
                platform,
            },
            tags,
            quiet: options.quiet,
            squash: options.squash,
            facts: options.extras.facts,
            push: outputs.push,
            id: options.id.clone(),
            worker: EngineWorker::new(engine, options, brought),
        })
    }

    /// Builds and names the result. `tell` gets the lines of the answer. Dropping the future ends the build.
    pub async fn build_run(
        &self,
        build: Build,
        mut tell: impl FnMut(Progress),
    ) -> Result<String, BuildFailure> {
        let cancelled = self.builds.register(&build.id);
        let quiet = build.quiet;
        let mut hidden = Vec::new();
        let worker = Arc::new(build.worker);
        let work = solve::solve(worker.clone(), build.request, |piece| {
            if quiet {
                hidden.extend(lines(piece));
            } else {
                lines(piece).into_iter().for_each(&mut tell);
            }
        });
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = cancelled.wait() => Err(BuildError::internal("context canceled")),
        };
        self.builds.forget(&build.id);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // Whoever asked for quiet sees all of a build that failed.
                hidden.into_iter().for_each(&mut tell);
                let code = error.code;
                return Err(BuildFailure {
                    error: refusal(error),
                    code,
                });
            }
        };
        let outcome = match build.squash {
            true => self.squash_outcome(outcome).await?,
            false => outcome,
        };
        if build.squash && !quiet {
            lines(Piece::Image(outcome.image.clone()))
                .into_iter()
                .for_each(&mut tell);
        }
        let id =
            Digest::parse(&outcome.image).map_err(|error| Error::internal(error.to_string()))?;
        if build.facts {
            tell(worker.facts(&outcome));
        }
        self.collect_build_cache(&outcome);
        if quiet {
            self.name_image(&id, &build.tags, &mut |_| {})?;
            if build.push {
                self.push_result(&build.tags, &worker.options, &mut |_| {})
                    .await?;
            }
            tell(Progress::stream(format!("{}\n", outcome.image)));
            return Ok(outcome.image);
        }
        tell(Progress::stream(format!(
            "Successfully built {}\n",
            short(&outcome.image)
        )));
        self.name_image(&id, &build.tags, &mut tell)?;
        if build.push {
            self.push_result(&build.tags, &worker.options, &mut tell)
                .await?;
        }
        Ok(outcome.image)
    }

    /// One layer instead of many.
    async fn squash_outcome(&self, outcome: solve::Outcome) -> Result<solve::Outcome> {
        let engine = self
            .handle()
            .ok_or_else(|| Error::new(Kind::Unavailable, "the daemon is shutting down"))?;
        blocking(move || {
            let parse =
                |id: &str| Digest::parse(id).map_err(|error| Error::internal(error.to_string()));
            let base = outcome.base.as_deref().map(parse).transpose()?;
            let image = engine.squash(&parse(&outcome.image)?, base.as_ref())?;
            Ok(solve::Outcome {
                image: image.to_string(),
                ..outcome
            })
        })
        .await
    }

    /// Looks up what the client sent ahead, and gets the caches it names.
    async fn build_brought(&self, options: &BuildOptions) -> Result<Brought> {
        let extras = &options.extras;
        let mut brought = Brought {
            given: named::given(self, &extras.contexts)?,
            ..Brought::default()
        };
        if !extras.secrets.is_empty() {
            match self.take_upload(&extras.secrets)? {
                Upload::Secrets(secrets) => brought.secrets = secrets,
                _ => return Err(Error::invalid("the upload has no secrets")),
            }
        }
        for source in &extras.cache_from {
            let loaded = match source {
                CacheSource::Upload(id) => match self.take_upload(id)? {
                    Upload::Images(loaded) => loaded,
                    _ => return Err(Error::invalid("the upload has no images")),
                },
                CacheSource::Registry(name) => match self.pull_cache(name, options).await {
                    Ok(loaded) => loaded,
                    // As in BuildKit: a cache that is not there is no reason to fail.
                    Err(error) => {
                        tracing::info!(cache = name, %error, "cache of a build");
                        continue;
                    }
                },
            };
            brought
                .cache
                .extend(loaded.ids.iter().map(ToString::to_string));
            brought.loaded.push(loaded);
        }
        Ok(brought)
    }

    fn name_image(
        &self,
        id: &Digest,
        tags: &[Reference],
        tell: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        for tag in tags {
            self.store.tag(id, tag)?;
            self.tell_image("tag", id, &tag.familiar());
            tell(Progress::stream(format!(
                "Successfully tagged {}\n",
                tag.familiar()
            )));
        }
        Ok(())
    }

    /// `POST /build/cancel`.
    pub fn build_cancel(&self, id: &str) {
        if let Some(sender) = self.builds.running.lock().get(id) {
            sender.send_replace(true);
        }
    }

    async fn build_source(
        &self,
        options: &BuildOptions,
        secrets: &fetch::Secrets,
        body: impl Read + Send + 'static,
    ) -> Result<context::Source> {
        let scratch = self.config.data_root.clone();
        let name = options.dockerfile.clone();
        if options.remote.is_empty() {
            return blocking(move || context::from_upload(body, &name, &scratch)).await;
        }
        let remote = fetch::remote(self, &options.remote, secrets).await?;
        // Docker's classic builder keeps `.git`, BuildKit and its clients do not.
        let kept = options.arguments.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let kept = matches!(kept, Some(Some(value)) if value == "1" || value == "true");
        if let fetch::Remote::Directory(checkout) = &remote
            && options.extras.facts
            && !kept
        {
            checkout.without_git()?;
        }
        blocking(move || context::from_remote(remote, &name, &scratch)).await
    }
}

impl std::fmt::Debug for Builds {
    /// Secrets are among what it has.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let running = self.running.lock().len();
        f.debug_struct("Builds")
            .field("running", &running)
            .finish_non_exhaustive()
    }
}

/// Why a build ended early.
#[derive(Debug)]
pub struct BuildFailure {
    /// The reason.
    pub error: Error,
    /// Exit code of the command that failed, 0 if it was none.
    code: i64,
}

impl From<Error> for BuildFailure {
    fn from(error: Error) -> BuildFailure {
        BuildFailure { error, code: 0 }
    }
}

impl BuildFailure {
    /// The line that ends the answer.
    pub fn line(&self) -> Progress {
        let message = self.error.to_string();
        Progress {
            error_detail: Some(ErrorDetail {
                code: self.code,
                message: message.clone(),
            }),
            error: message,
            ..Progress::default()
        }
    }
}

/// Names, each once.
fn tags(texts: &[String]) -> Result<Vec<Reference>> {
    let mut tags: Vec<Reference> = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let tag = Reference::parse(text).map_err(|error| Error::invalid(error.to_string()))?;
        if tag.digest().is_some() {
            return Err(Error::invalid("build tag cannot contain a digest"));
        }
        let tag = tag.or_latest();
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn lines(piece: Piece) -> Vec<Progress> {
    vec![match piece {
        Piece::Text(text) => Progress::stream(text),
        Piece::Progress(progress) => *progress,
        Piece::Image(id) => Progress {
            aux: Some(serde_json::json!({ "ID": id })),
            ..Progress::default()
        },
    }]
}

fn refusal(error: BuildError) -> Error {
    let kind = match error.fault {
        Fault::Invalid => Kind::Invalid,
        Fault::NotFound => Kind::NotFound,
        Fault::Internal => Kind::Internal,
        Fault::NotImplemented => Kind::NotImplemented,
    };
    Error::new(kind, error.message)
}

impl Builds {
    fn register(&self, id: &str) -> Cancelled {
        let (sender, receiver) = watch::channel(false);
        if !id.is_empty() {
            self.running.lock().insert(id.to_owned(), sender);
        }
        Cancelled(receiver)
    }

    fn forget(&self, id: &str) {
        self.running.lock().remove(id);
    }
}

struct Cancelled(watch::Receiver<bool>);

impl Cancelled {
    /// Never ends for a build without a name.
    async fn wait(mut self) {
        if self.0.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
