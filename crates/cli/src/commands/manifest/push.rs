//! `manifest push`

use wharf_distribution::Repository;
use wharf_distribution::manifest::DOCKER_LIST;
use wharf_distribution::upload::Begun;
use wharf_spec::digest::Digest;
use wharf_spec::reference::Reference;

use super::inspect::list_document;
use super::local::{Entry, Lists};
use super::name;
use super::remote::Remote;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `manifest push`
///
/// # Errors
/// There is no such list, an image has no platform or is in another registry, the registry refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let list = name(&matches.args[0])?;
    let lists = Lists::open(session)?;
    let entries = lists.list(&list)?.unwrap_or_default();
    if entries.is_empty() {
        return Err(Failure::new(format!("No such manifest: {list}")));
    }
    if let Some(entry) = entries.iter().find(|entry| !has_platform(entry)) {
        return Err(Failure::new(format!(
            "manifest {} must have an OS and Architecture to be pushed to a registry",
            entry.reference
        )));
    }
    let document = list_document(&list, &entries)?;
    let remote = Remote::new(matches.on("insecure"))?;
    let repository = remote.push(session, &list);
    for entry in &entries {
        let source = entry.name()?;
        if source.path() != list.path() {
            bring(&remote, &repository, entry, &source, &list)?;
        }
    }
    let digest = Digest::of(&document);
    let tag = list.tag().unwrap_or("latest");
    remote.wait(repository.put_manifest(tag, DOCKER_LIST, document.into()))?;
    print::out_line(digest.as_str())?;
    if matches.on("purge") {
        lists.remove(&list)?;
    }
    Ok(())
}

fn has_platform(entry: &Entry) -> bool {
    let platform = entry.descriptor.platform.as_ref();
    platform.is_some_and(|platform| !platform.os.is_empty() && !platform.architecture.is_empty())
}

/// Gets an image of another repository of the registry into the list's.
fn bring(
    remote: &Remote,
    repository: &Repository,
    entry: &Entry,
    source: &Reference,
    list: &Reference,
) -> Result<(), Failure> {
    for blob in entry.blobs()? {
        let begun = remote.wait(repository.begin_upload(Some((&blob.digest, source.path()))))?;
        if let Begun::Upload(upload) = begun {
            remote.wait(async {
                upload.cancel().await;
                Ok(())
            })?;
            return Err(Failure::new(format!(
                "error mounting {} to {list}",
                source.with_digest(blob.digest)
            )));
        }
    }
    let manifest = entry.manifest()?;
    let digest = manifest.digest.clone();
    remote.wait(repository.put_manifest(digest.as_str(), &manifest.media_type, manifest.bytes))?;
    print::out_line(&format!(
        "Pushed ref {} with digest: {digest}",
        list.with_digest(digest.clone())
    ))
}
