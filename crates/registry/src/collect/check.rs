//! Whether everything that is named is here.

use crate::content::{Content, ContentError};
use crate::manifest::Manifest;
use crate::name::{RepoName, Target};
use crate::storage::StorageError;

/// What was looked at and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Repositories.
    pub repositories: u64,
    /// Tags.
    pub tags: u64,
    /// Manifests.
    pub manifests: u64,
    /// Blobs that manifests name.
    pub blobs: u64,
    /// One sentence each.
    pub problems: Vec<String>,
    /// Those of them that were put right.
    pub repaired: u64,
}

/// Looks at all repositories but those that `skip` says are caches, whose blobs come when they are asked for. With `repair`, tags and manifests whose
/// content is lost are removed.
///
/// # Errors
/// The store failed.
pub async fn run(
    content: &Content,
    repair: bool,
    skip: impl Fn(&RepoName) -> bool,
) -> Result<Report, ContentError> {
    let mut report = Report::default();
    for repo in content.repositories().await? {
        report.repositories += 1;
        manifests(content, &repo, repair, skip(&repo), &mut report).await?;
        tags(content, &repo, repair, &mut report).await?;
    }
    Ok(report)
}

async fn manifests(
    content: &Content,
    repo: &RepoName,
    repair: bool,
    is_cache: bool,
    report: &mut Report,
) -> Result<(), ContentError> {
    for (digest, _) in content.manifests(repo).await? {
        report.manifests += 1;
        let target = Target::Digest(digest.clone());
        let manifest = match content.manifest(repo, &target).await {
            Ok(stored) => Manifest::parse(&stored.bytes, &stored.media_type).ok(),
            Err(
                ContentError::ManifestUnknown | ContentError::Storage(StorageError::Damaged { .. }),
            ) => None,
            Err(error) => return Err(error),
        };
        let Some(manifest) = manifest else {
            report.problems.push(format!(
                "{repo}@{digest}: the manifest's content is lost or damaged"
            ));
            if repair {
                content.remove_manifest(repo, &digest).await?;
                report.repaired += 1;
            }
            continue;
        };
        for blob in manifest.blobs().filter(|_| !is_cache) {
            report.blobs += 1;
            let here = match content.blob(repo, &blob.digest).await {
                Ok(found) => found.size == blob.size || blob.size == 0,
                Err(ContentError::BlobUnknown) => false,
                Err(error) => return Err(error),
            };
            if !here {
                report
                    .problems
                    .push(format!("{repo}@{digest}: blob {} is missing", blob.digest));
            }
        }
        for child in manifest.manifests.iter().filter(|_| !is_cache) {
            if !content.links_manifest(repo, &child.digest).await? {
                report.problems.push(format!(
                    "{repo}@{digest}: manifest {} is missing",
                    child.digest
                ));
            }
        }
    }
    Ok(())
}

async fn tags(
    content: &Content,
    repo: &RepoName,
    repair: bool,
    report: &mut Report,
) -> Result<(), ContentError> {
    for tagged in content.tagged(repo).await? {
        report.tags += 1;
        if !content.links_manifest(repo, &tagged.digest).await? {
            report.problems.push(format!(
                "{repo}:{}: names {}, which is not here",
                tagged.tag, tagged.digest
            ));
            if repair {
                content.remove_tag(repo, &tagged.tag).await?;
                report.repaired += 1;
            }
        }
    }
    Ok(())
}
