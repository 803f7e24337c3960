//! The engine's images as a registry shows them (`wharf registry serve --from-engine`): manifests made of what the store knows, layers as their exact
//! tars, so that every digest is known without reading a byte, and nothing is stored twice.
//!
//! Images of Docker's own registry are there under their short name and with `library/`, images of others with the registry's name before
//! theirs (`ghcr.io/team/app`), without its port.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use wharf_registry::content::manifests::Stored;
use wharf_registry::manifest::OCI_MANIFEST;
use wharf_registry::name::{RepoName, Target};
use wharf_registry::source::{Later, Layer, Source};
use wharf_spec::digest::Digest;
use wharf_spec::reference::Reference;
use wharf_store::view::{View, ViewedImage, ViewedLayer};

/// For how long a look is good: requests of one pull come close together.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Pieces of a layer on their way.
const AHEAD: usize = 4;

/// Opens the store of a data root.
pub fn open(data_root: &Path) -> Result<Arc<dyn Source>, String> {
    let view = View::open(data_root).map_err(|error| error.to_string())?;
    Ok(Arc::new(EngineImages {
        view,
        seen: Mutex::new(None),
    }))
}

#[derive(Debug)]
struct EngineImages {
    view: View,
    seen: Mutex<Option<(Instant, Arc<Shown>)>>,
}

/// What is shown at one moment.
#[derive(Debug, Default)]
struct Shown {
    tags: BTreeMap<RepoName, BTreeMap<String, Digest>>,
    manifests: HashMap<Digest, Bytes>,
    blobs: HashMap<Digest, Blob>,
}

#[derive(Debug, Clone)]
enum Blob {
    Config(Bytes),
    Layer(ViewedLayer),
}

impl Blob {
    fn size(&self) -> u64 {
        match self {
            Blob::Config(bytes) => bytes.len() as u64,
            Blob::Layer(layer) => layer.size,
        }
    }
}

impl EngineImages {
    async fn look(&self) -> Result<Arc<Shown>, String> {
        if let Some((since, shown)) = &*self.seen.lock()
            && since.elapsed() < GOOD_FOR
        {
            return Ok(shown.clone());
        }
        let view = self.view.clone();
        let images = tokio::task::spawn_blocking(move || view.images()).await;
        let images = images.map_err(|error| error.to_string())?;
        let shown = Arc::new(show(&images.map_err(|error| error.to_string())?));
        *self.seen.lock() = Some((Instant::now(), shown.clone()));
        Ok(shown)
    }
}

fn show(images: &[ViewedImage]) -> Shown {
    let mut shown = Shown::default();
    for image in images {
        let bytes = manifest(image);
        let digest = Digest::of(&bytes);
        shown.manifests.insert(digest.clone(), bytes);
        let config = Blob::Config(Bytes::copy_from_slice(&image.config));
        shown.blobs.insert(image.id.clone(), config);
        for layer in &image.layers {
            let blob = Blob::Layer(layer.clone());
            shown.blobs.insert(layer.diff.clone(), blob);
        }
        for reference in &image.references {
            let Some(tag) = reference.tag() else { continue };
            for repo in names(reference) {
                let tags = shown.tags.entry(repo).or_default();
                tags.insert(tag.to_owned(), digest.clone());
            }
        }
    }
    shown
}

fn manifest(image: &ViewedImage) -> Bytes {
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.diff, "size": layer.size})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": image.id, "size": image.config.len()},
        "layers": layers,
    });
    Bytes::from(manifest.to_string())
}

/// The names under which an image is found.
fn names(reference: &Reference) -> BTreeSet<RepoName> {
    let (domain, path) = (reference.domain(), reference.path());
    let host = domain.split(':').next().unwrap_or(domain);
    let texts = match domain {
        "docker.io" => vec![
            path.to_owned(),
            path.trim_start_matches("library/").to_owned(),
        ],
        _ => vec![format!("{host}/{path}")],
    };
    texts
        .iter()
        .filter_map(|text| RepoName::parse(text))
        .collect()
}

impl Source for EngineImages {
    fn repositories(&self) -> Later<'_, Vec<RepoName>> {
        Box::pin(async { Ok(self.look().await?.tags.keys().cloned().collect()) })
    }

    fn tags<'a>(&'a self, repo: &'a RepoName) -> Later<'a, Option<Vec<String>>> {
        Box::pin(async move {
            let shown = self.look().await?;
            Ok(shown
                .tags
                .get(repo)
                .map(|tags| tags.keys().cloned().collect()))
        })
    }

    fn manifest<'a>(&'a self, repo: &'a RepoName, target: &'a Target) -> Later<'a, Option<Stored>> {
        Box::pin(async move {
            let shown = self.look().await?;
            let Some(tags) = shown.tags.get(repo) else {
                return Ok(None);
            };
            let digest = match target {
                Target::Tag(tag) => tags.get(tag.as_str()),
                Target::Digest(digest) => tags.values().find(|shown| *shown == digest),
            };
            let found = digest.and_then(|digest| Some((digest, shown.manifests.get(digest)?)));
            Ok(found.map(|(digest, bytes)| Stored {
                digest: digest.clone(),
                media_type: OCI_MANIFEST.to_owned(),
                bytes: bytes.clone(),
            }))
        })
    }

    fn blob_size<'a>(&'a self, repo: &'a RepoName, digest: &'a Digest) -> Later<'a, Option<u64>> {
        Box::pin(async move {
            let shown = self.look().await?;
            let there = shown.tags.contains_key(repo);
            Ok(shown.blobs.get(digest).filter(|_| there).map(Blob::size))
        })
    }

    fn blob<'a>(
        &'a self,
        repo: &'a RepoName,
        digest: &'a Digest,
        offset: u64,
    ) -> Later<'a, Option<Layer>> {
        Box::pin(async move {
            let shown = self.look().await?;
            let there = shown.tags.contains_key(repo);
            let Some(blob) = shown.blobs.get(digest).filter(|_| there).cloned() else {
                return Ok(None);
            };
            let size = blob.size();
            let (send, receive) = mpsc::channel(AHEAD);
            let out = Skipping {
                skip: offset,
                send: send.clone(),
            };
            tokio::task::spawn_blocking(move || {
                if let Err(error) = write(&blob, out) {
                    // The client is gone, or hears of it.
                    let _ = send.blocking_send(Err(error));
                }
            });
            let bytes = futures_util::stream::unfold(receive, |mut receive| async move {
                let piece = receive.recv().await?;
                Some((piece, receive))
            });
            Ok(Some(Layer {
                size,
                bytes: Box::pin(bytes),
            }))
        })
    }
}

fn write(blob: &Blob, mut out: Skipping) -> io::Result<()> {
    match blob {
        Blob::Config(bytes) => out.write_all(bytes),
        Blob::Layer(layer) => {
            let mut buffered = io::BufWriter::with_capacity(64 << 10, out);
            layer.write_tar(&mut buffered)?;
            buffered.flush()
        }
    }
}

/// Sends what is written, from an offset on.
struct Skipping {
    skip: u64,
    send: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Skipping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skip = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.skip -= skip as u64;
        if skip < bytes.len() {
            let piece = Bytes::copy_from_slice(&bytes[skip..]);
            let sent = self.send.blocking_send(Ok(piece));
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        for (reference, expected) in [
            ("busybox:1", &["busybox", "library/busybox"][..]),
            ("team/app:1", &["team/app"]),
            ("ghcr.io/a/b:1", &["ghcr.io/a/b"]),
            ("localhost:5000/a:1", &["localhost/a"]),
        ] {
            let reference = Reference::parse(reference).expect("a reference");
            let found: Vec<String> = names(&reference).iter().map(RepoName::to_string).collect();
            assert_eq!(found, expected);
        }
    }
}
