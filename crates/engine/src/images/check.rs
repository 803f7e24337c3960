//! `system check`: finds damage in what is stored, and mends what can be mended. An extension: Docker has nothing like it.

use serde::Serialize;
use wharf_distribution::Credentials;
use wharf_distribution::manifest::Descriptor;
use wharf_spec::digest::DiffId;
use wharf_spec::reference::Reference;
use wharf_store::check::{CheckReport, DamagedLayer, Problem};

use super::pull::download::Stage;
use crate::{Engine, Error, Result, blocking};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckResult {
    /// Layers looked at.
    pub layers: usize,
    /// Images looked at.
    pub images: usize,
    /// What is wrong.
    pub problems: Vec<CheckProblem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckProblem {
    /// `orphan`, `link`, `layer`, `download`, `blob`, `image`, `container`.
    pub kind: &'static str,
    /// Which.
    pub object: String,
    /// What is wrong with it, and where it is not mended, what to do.
    pub text: String,
    /// It is right again.
    pub repaired: bool,
}

impl Engine {
    /// Checks everything that is stored. With `repair`, leftovers go, and damaged layers are pulled again from where they came.
    pub async fn system_check(&self, repair: bool) -> Result<CheckResult> {
        let store = self.store.clone();
        let report: CheckReport = blocking(move || Ok(store.check(repair)?)).await?;
        let mut problems = Vec::new();
        for (problem, mended) in report.problems {
            problems.push(match problem {
                Problem::Layer(layer) => self.damaged(layer, repair).await,
                other => describe(other, mended),
            });
        }
        Ok(CheckResult {
            layers: report.layers,
            images: report.images,
            problems,
        })
    }

    async fn damaged(&self, layer: DamagedLayer, repair: bool) -> CheckProblem {
        let mut text = format!("damaged: {}", layer.why);
        let mut repaired = false;
        if repair {
            let again = match self.make_again(&layer).await {
                Ok(from) => Ok(from),
                Err(_) => self.pull_again(&layer).await,
            };
            match again {
                Ok(from) => {
                    repaired = true;
                    text = format!("{text}; {from}");
                }
                Err(error) => {
                    text = format!(
                        "{text}; {error}: remove the images that have it, then pull or load them again"
                    );
                }
            }
        }
        CheckProblem {
            kind: "layer",
            object: layer.chain.to_string(),
            text,
            repaired,
        }
    }

    /// Makes a layer again of its compressed form, if that was kept and is whole.
    async fn make_again(&self, layer: &DamagedLayer) -> Result<String> {
        let (store, layer) = (self.store.clone(), layer.clone());
        blocking(move || {
            for blob in store.known_blobs(&layer.diff)? {
                let Some(file) = store.kept_blob(&blob.digest, blob.size) else {
                    continue;
                };
                store.take_layer(file, &blob.digest, &layer.diff)?;
                store.replace_layer(&layer.chain)?;
                return Ok("made again of its compressed form".to_owned());
            }
            Err(Error::not_found("its compressed form was not kept"))
        })
        .await
    }

    /// Gets a layer from one of the repositories it is known to be in, and puts it in its place. Returns the words for that.
    async fn pull_again(&self, layer: &DamagedLayer) -> Result<String> {
        let mut last = Error::not_found("no registry is known to have it");
        for blob in self.store.known_blobs(&layer.diff)? {
            for source in self.store.sources_of(&blob.digest)? {
                let Ok(name) = Reference::parse(&source) else {
                    continue;
                };
                let descriptor = Descriptor {
                    media_type: blob.media_type.clone(),
                    size: blob.size,
                    digest: blob.digest.clone(),
                    urls: Vec::new(),
                    annotations: None,
                    platform: None,
                };
                match self.fetch_layer(&name, &descriptor, &layer.diff).await {
                    Ok(()) => {
                        let (store, chain) = (self.store.clone(), layer.chain.clone());
                        blocking(move || Ok(store.replace_layer(&chain)?)).await?;
                        return Ok(format!("pulled again from {source}"));
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    async fn fetch_layer(&self, name: &Reference, layer: &Descriptor, diff: &DiffId) -> Result<()> {
        let repository = self.registry.pull(name, &Credentials::default()).await;
        let job = self.downloads.join(&self.store, &repository, layer, diff);
        let mut stages = job.watch();
        let ended = stages
            .wait_for(|stage| matches!(stage, Stage::Done | Stage::Failed(..)))
            .await;
        match ended.as_deref() {
            Ok(Stage::Failed(kind, message)) => Err(Error::new(*kind, message.clone())),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::internal("the download was given up")),
        }
    }
}

fn describe(problem: Problem, repaired: bool) -> CheckProblem {
    let (kind, object, text) = match problem {
        Problem::Orphan(name) => ("orphan", name, "nothing refers to it".to_owned()),
        Problem::Link(chain) => (
            "link",
            chain.to_string(),
            "its short name is missing or wrong".to_owned(),
        ),
        Problem::Parked(diff, why) => ("download", diff.to_string(), format!("damaged: {why}")),
        Problem::Blob(digest, why) => (
            "blob",
            digest.to_string(),
            format!("damaged: {why}; nothing depends on it"),
        ),
        Problem::Image(id, why) => (
            "image",
            id.to_string(),
            format!("{why}: remove it, then pull or load it again"),
        ),
        Problem::Container(id) => (
            "container",
            id,
            "its directory is missing: remove the container".to_owned(),
        ),
        // Told by whoever can mend it.
        Problem::Layer(layer) => ("layer", layer.chain.to_string(), layer.why),
    };
    CheckProblem {
        kind,
        object,
        text,
        repaired,
    }
}
