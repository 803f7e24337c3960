//! What a client sends ahead of a build: named contexts, secrets, and archives of images.
//!
//! Each is known by a random ID until a build takes it, for a while at most. Contexts lie in files without names, secrets in memory only:
//! a killed daemon leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_build::files::{Context, Files};
use wharf_spec::digest::Digest;
use wharf_store::load::{LoadEvent, LoadOptions};

use crate::{Engine, Error, Result, blocking, ids};

/// What nobody takes is forgotten after this.
const LIFE: Duration = Duration::from_secs(15 * 60);
/// BuildKit takes secrets of 500 KiB each.
const MAX_SECRETS: u64 = 16 << 20;

/// What was sent.
pub(super) enum Upload {
    /// Files.
    Context(Arc<dyn Files>),
    /// Values by ID.
    Secrets(BTreeMap<String, Vec<u8>>),
    /// Images that are in the store now.
    Images(Loaded),
}

/// Images that came with a build. Those that nothing stands on go with this value.
pub(super) struct Loaded {
    engine: Arc<Engine>,
    /// All of them.
    pub(super) ids: Vec<Digest>,
    /// Those that were not there before.
    new: Vec<Digest>,
}

impl Loaded {
    /// `new` are those that were not there before.
    pub(super) fn new(engine: Arc<Engine>, ids: Vec<Digest>, new: Vec<Digest>) -> Loaded {
        Loaded { engine, ids, new }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.engine.forget_unused(&self.new);
    }
}

/// An upload and its age.
pub(super) struct Waiting {
    upload: Upload,
    since: Instant,
}

/// Kinds of uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadKind {
    /// A tar of files.
    Context,
    /// A JSON object of base64 texts.
    Secrets,
    /// An archive that `docker load` takes.
    Images,
}

impl UploadKind {
    /// The value of the parameter `kind`.
    pub fn parse(text: &str) -> Result<UploadKind> {
        match text {
            "context" => Ok(UploadKind::Context),
            "secrets" => Ok(UploadKind::Secrets),
            "images" => Ok(UploadKind::Images),
            other => Err(Error::invalid(format!(
                "unknown kind of upload {other:?}: it is context, secrets or images"
            ))),
        }
    }
}

impl Engine {
    /// Takes something in for a build to come; gives its ID.
    pub async fn build_upload(
        &self,
        kind: UploadKind,
        body: impl Read + Send + 'static,
    ) -> Result<String> {
        let engine = self
            .handle()
            .ok_or_else(|| Error::internal("the daemon is shutting down"))?;
        let upload = blocking(move || match kind {
            UploadKind::Context => {
                let context =
                    Context::receive(body, &engine.config.data_root).map_err(|error| {
                        Error::invalid(format!("Error processing tar file({error})"))
                    })?;
                Ok(Upload::Context(Arc::new(context)))
            }
            UploadKind::Secrets => secrets(body).map(Upload::Secrets),
            UploadKind::Images => engine.load_unnamed(body).map(Upload::Images),
        })
        .await?;
        let id = ids::random();
        let mut uploads = self.builds.uploads.lock();
        let now = Instant::now();
        let old: Vec<String> = uploads
            .iter()
            .filter(|(_, waiting)| now.duration_since(waiting.since) > LIFE)
            .map(|(id, _)| id.clone())
            .collect();
        let forgotten: Vec<_> = old.iter().filter_map(|id| uploads.remove(id)).collect();
        uploads.insert(id.clone(), Waiting { upload, since: now });
        drop(uploads);
        drop(forgotten);
        Ok(id)
    }

    /// Hands an upload to the build that names it.
    pub(super) fn take_upload(&self, id: &str) -> Result<Upload> {
        let found = self.builds.uploads.lock().remove(id);
        found.map(|waiting| waiting.upload).ok_or_else(|| {
            Error::not_found(format!("no upload {id}: it was used, or waited too long"))
        })
    }

    fn load_unnamed(self: &Arc<Self>, body: impl Read + Send) -> Result<Loaded> {
        let before: BTreeSet<Digest> = self
            .store
            .images()
            .into_iter()
            .map(|image| image.id)
            .collect();
        let mut loaded = Vec::new();
        self.store
            .load(body, &LoadOptions::default(), &mut |event| {
                if let LoadEvent::Image { id, .. } = event {
                    loaded.push(id);
                }
            })
            .map_err(Error::from)?;
        let new = loaded
            .iter()
            .filter(|id| !before.contains(*id))
            .cloned()
            .collect();
        Ok(Loaded::new(self.clone(), loaded, new))
    }

    /// Removes those of the images that have no name and that nothing stands on.
    pub(super) fn forget_unused(&self, ids: &[Digest]) {
        for id in ids {
            let used = !self.store.references_of(id).is_empty()
                || !self.store.children_of(id).is_empty()
                || self
                    .containers
                    .all()
                    .iter()
                    .any(|container| container.record().image_id == id.as_str());
            if used {
                continue;
            }
            if let Err(error) = self.store.remove_image(id) {
                tracing::warn!(image = %id, %error, "left-over image of a build");
            }
        }
    }
}

fn secrets(body: impl Read) -> Result<BTreeMap<String, Vec<u8>>> {
    use base64::Engine as _;
    let invalid = || Error::invalid("the build's secrets cannot be read");
    let mut bytes = Vec::new();
    body.take(MAX_SECRETS)
        .read_to_end(&mut bytes)
        .map_err(|_| invalid())?;
    let texts: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    texts
        .into_iter()
        .map(|(id, text)| {
            let value = base64::engine::general_purpose::STANDARD.decode(text);
            Ok((id, value.map_err(|_| invalid())?))
        })
        .collect()
}
