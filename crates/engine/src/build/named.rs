//! Named contexts (`--build-context name=…`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use wharf_build::files::{Context, Directory, Files};
use wharf_build::path::clean;
use wharf_build::solve::{BuildError, Named, Output, Worker, is_git};

use super::fetch::{self, Remote};
use super::uploads::{Loaded, Upload};
use super::worker::{EngineWorker, failed};
use crate::{Engine, Error, Result, blocking};

/// A context as the request has it.
pub(super) enum Given {
    /// An image to be pulled if it is missing.
    Image(String),
    /// Sent ahead.
    Files(Arc<dyn Files>),
    /// Sent ahead.
    Loaded(Loaded),
    /// To be fetched.
    Address(String),
}

/// Understands all of them; names in lower case.
pub(super) fn given(
    engine: &Engine,
    contexts: &BTreeMap<String, String>,
) -> Result<HashMap<String, Given>> {
    contexts
        .iter()
        .map(|(name, value)| {
            if name.is_empty() {
                return Err(Error::invalid("a build context has no name"));
            }
            Ok((name.to_lowercase(), one(engine, name, value)?))
        })
        .collect()
}

fn one(engine: &Engine, name: &str, value: &str) -> Result<Given> {
    if let Some(image) = value.strip_prefix("docker-image://") {
        return Ok(Given::Image(image.to_owned()));
    }
    if let Some(id) = value.strip_prefix("upload:") {
        return match engine.take_upload(id)? {
            Upload::Context(files) => Ok(Given::Files(files)),
            Upload::Images(loaded) => Ok(Given::Loaded(loaded)),
            Upload::Secrets(_) => Err(Error::invalid("secrets are no build context")),
        };
    }
    if is_git(value) || value.starts_with("http://") || value.starts_with("https://") {
        return Ok(Given::Address(value.to_owned()));
    }
    Err(Error::invalid(format!(
        "unsupported build context {name}={value}"
    )))
}

impl EngineWorker {
    /// What a named context is, found once.
    pub(super) async fn named_context(
        &self,
        name: &str,
        output: &Output,
    ) -> Result<Named, BuildError> {
        let given = self
            .given
            .get(name)
            .ok_or_else(|| BuildError::internal(format!("no build context {name}")))?;
        match given {
            Given::Image(image) => Ok(Named::Image(self.base(image, None, output).await?)),
            Given::Files(files) => Ok(Named::Files(files.clone())),
            Given::Loaded(loaded) => match loaded.ids.first() {
                Some(id) => Ok(Named::Image(id.to_string())),
                None => Err(BuildError::invalid(format!(
                    "build context {name} has no image for this platform"
                ))),
            },
            Given::Address(address) => self.fetched_context(name, address).await.map(Named::Files),
        }
    }

    async fn fetched_context(
        &self,
        name: &str,
        address: &str,
    ) -> Result<Arc<dyn Files>, BuildError> {
        let mut fetched = self.fetched.lock().await;
        if let Some(files) = fetched.get(name) {
            return Ok(files.clone());
        }
        let remote = fetch::remote(&self.engine, address, &self.secrets)
            .await
            .map_err(|error| failed(&error))?;
        let scratch = self.engine.config.data_root.clone();
        let files: Arc<dyn Files> = match remote {
            Remote::Directory(checkout) => checkout
                .without_git()
                .and_then(|()| checkout.files())
                .map_err(|error| failed(&error))?,
            Remote::Archive(content) => blocking(move || {
                let context = Context::receive(content.reader(), &scratch);
                context.map_err(|error| Error::invalid(error.to_string()))
            })
            .await
            .map(|context| Arc::new(context) as Arc<dyn Files>)
            .map_err(|error| failed(&error))?,
            // A file that is no archive is a file of that name.
            Remote::Dockerfile(content) => {
                let path = address.split(['?', '#']).next().unwrap_or_default();
                let file = clean(path.rsplit('/').next().unwrap_or("context"));
                let context = blocking(move || {
                    Context::of_file(&file, &content, &scratch)
                        .map_err(|error| Error::internal(error.to_string()))
                });
                Arc::new(context.await.map_err(|error| failed(&error))?)
            }
        };
        fetched.insert(name.to_owned(), files.clone());
        Ok(files)
    }
}

impl fetch::Checkout {
    /// Its files; the directory goes with them.
    pub(super) fn files(self) -> Result<Arc<dyn Files>> {
        let failed = |error: std::io::Error| Error::caused("open the checkout", error);
        let root = std::fs::File::open(self.path()).map_err(failed)?;
        Ok(Arc::new(Directory::new(root.into(), self).map_err(failed)?))
    }
}
