//! Throwing away, while pushes go on: tags by rules of retention, manifests, blobs that nothing names, uploads that nobody goes on with; and
//! looking whether what is here is whole.
//!
//! See [`crate::content::lease`] for how a blob that somebody was just promised is never thrown away.

pub mod check;
pub mod retention;
pub mod scrub;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use wharf_spec::digest::Digest;

use crate::config::GcConfig;
use crate::content::lease::{MARK_GOOD_FOR, MARK_STALE};
use crate::content::tags::Tagged;
use crate::content::{Content, ContentError};
use crate::manifest::Manifest;
use crate::name::{RepoName, Tag, Target};
use crate::storage::{Storage, StorageError, keys};

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Leases, retention, untagged manifests, uploads.
    pub config: GcConfig,
    /// Whether it only says what it would do.
    pub dry_run: bool,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Repositories seen.
    pub repositories: u64,
    /// Tags removed by retention.
    pub tags: Vec<String>,
    /// Manifests removed.
    pub manifests: Vec<String>,
    /// Blobs taken out of repositories.
    pub unlinked: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads forgotten.
    pub uploads: u64,
    /// Blobs that nothing names, left because somebody was promised them.
    pub leased: u64,
}

/// Runs one collection.
///
/// # Errors
/// The store failed; nothing that is needed was removed.
pub async fn run(content: &Content, plan: &Plan) -> Result<Report, ContentError> {
    let mut report = Report::default();
    remove_stale_marks(content.storage()).await?;
    uploads(content, plan, &mut report).await?;
    // What lies here before anything is looked at: what comes later is not this run's business.
    let blobs = content.storage().list("blobs/").await?;
    let mut live: HashSet<Digest> = HashSet::new();
    for repo in content.repositories().await? {
        report.repositories += 1;
        repository(content, plan, &repo, &mut live, &mut report).await?;
    }
    for entry in blobs {
        let Some(digest) = keys::parse_slashed(&entry.name).filter(|digest| !live.contains(digest))
        else {
            continue;
        };
        let key = keys::blob(&digest);
        if condemn(content, plan, &digest, &key, &mut report).await? {
            report.blobs += 1;
            report.bytes += entry.stat.size;
        }
    }
    if let Storage::Local(local) = content.storage()
        && !plan.dry_run
    {
        local.tidy(Duration::from_secs(24 * 3600)).await?;
    }
    Ok(report)
}

/// Uploads that nobody went on with.
async fn uploads(content: &Content, plan: &Plan, report: &mut Report) -> Result<(), StorageError> {
    let mut youngest: HashMap<String, Duration> = HashMap::new();
    for entry in content.storage().list(keys::UPLOADS).await? {
        let Some((id, _)) = entry.name.split_once('/') else {
            continue;
        };
        let age = youngest.entry(id.to_owned()).or_insert(Duration::MAX);
        *age = (*age).min(entry.stat.age());
    }
    for (id, age) in youngest {
        if age < plan.config.upload_expiry {
            continue;
        }
        report.uploads += 1;
        if !plan.dry_run {
            content.remove_upload(&id).await?;
        }
    }
    Ok(())
}

/// One repository: which tags and manifests go, then which blobs nothing in it names. What stays is live.
async fn repository(
    content: &Content,
    plan: &Plan,
    repo: &RepoName,
    live: &mut HashSet<Digest>,
    report: &mut Report,
) -> Result<(), ContentError> {
    // Links are listed before manifests: a blob that is linked later is not in this list.
    let links = content.storage().list(&keys::repo_blobs(repo)).await?;
    let tagged = content.tagged(repo).await?;
    let expired =
        retention::plan_retention(&plan.config.retention, repo, &tagged, SystemTime::now());
    for tag in &expired {
        report.tags.push(format!("{repo}:{tag}"));
        if !plan.dry_run {
            // A tag that was pushed again since stays.
            let before = tagged
                .iter()
                .find(|tagged| tagged.tag == *tag)
                .map(|tagged| &tagged.digest);
            if content.tag(repo, tag).await?.as_ref() == before {
                content.remove_tag(repo, tag).await?;
            }
        }
    }
    let graph = Graph::read(content, repo).await?;
    let kept = graph.keep(plan, &tagged, &expired);
    let mut named: HashSet<Digest> = HashSet::new();
    for (digest, manifest) in &graph.manifests {
        if !kept.contains(digest) && unlink_manifest(content, plan, repo, digest, report).await? {
            continue;
        }
        live.insert(digest.clone());
        named.extend(
            manifest
                .iter()
                .flat_map(|manifest| manifest.blobs().map(|blob| blob.digest.clone())),
        );
    }
    for entry in links {
        let Some(digest) = keys::parse_slashed(&entry.name) else {
            continue;
        };
        let key = keys::repo_blob(repo, &digest);
        if named.contains(&digest) || !condemn(content, plan, &digest, &key, report).await? {
            live.insert(digest);
        } else {
            report.unlinked += 1;
        }
    }
    Ok(())
}

/// A repository's manifests; `None` for one that cannot be read.
#[derive(Debug)]
struct Graph {
    manifests: HashMap<Digest, Option<Manifest>>,
}

impl Graph {
    async fn read(content: &Content, repo: &RepoName) -> Result<Graph, ContentError> {
        let mut manifests = HashMap::new();
        for (digest, _) in content.manifests(repo).await? {
            let target = Target::Digest(digest.clone());
            let manifest = match content.manifest(repo, &target).await {
                Ok(stored) => Manifest::parse(&stored.bytes, &stored.media_type).ok(),
                // Removed meanwhile, or its content is lost or damaged: what it names is not known.
                Err(
                    ContentError::ManifestUnknown
                    | ContentError::Storage(StorageError::Damaged { .. }),
                ) => None,
                Err(error) => return Err(error),
            };
            manifests.insert(digest, manifest);
        }
        Ok(Graph { manifests })
    }

    /// Which manifests stay.
    fn keep(&self, plan: &Plan, tagged: &[Tagged], expired: &[Tag]) -> HashSet<Digest> {
        let is_expired = |tagged: &&Tagged| expired.contains(&tagged.tag);
        let roots = tagged
            .iter()
            .filter(|tagged| !is_expired(tagged))
            .map(|tagged| &tagged.digest);
        if plan.config.untagged {
            return self.reach(roots);
        }
        // Without that wish only what lost its last tag right now goes, and what nothing else holds below it.
        let lost: HashSet<&Digest> = tagged
            .iter()
            .filter(is_expired)
            .map(|tagged| &tagged.digest)
            .collect();
        let below = self.reach(lost.iter().copied());
        let kept = self.reach(roots);
        let others = self
            .manifests
            .keys()
            .filter(|digest| !below.contains(*digest));
        let held = self.reach(others);
        kept.union(&held).cloned().collect()
    }

    /// Everything that these hold: themselves, manifests they list, and manifests that refer to any of them.
    fn reach<'a>(&'a self, roots: impl Iterator<Item = &'a Digest>) -> HashSet<Digest> {
        let mut referrers: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
        for (digest, manifest) in &self.manifests {
            if let Some(subject) = manifest
                .as_ref()
                .and_then(|manifest| manifest.subject.as_ref())
            {
                referrers.entry(&subject.digest).or_default().push(digest);
            }
        }
        let mut reached = HashSet::new();
        let mut queue: Vec<&Digest> = roots.collect();
        while let Some(digest) = queue.pop() {
            if !reached.insert(digest.clone()) {
                continue;
            }
            if let Some(Some(manifest)) = self.manifests.get(digest) {
                queue.extend(manifest.manifests.iter().map(|child| &child.digest));
            }
            queue.extend(referrers.get(digest).into_iter().flatten());
        }
        reached
    }
}

/// Takes a manifest out of its repository, unless it was promised to somebody. Tells whether it is gone.
async fn unlink_manifest(
    content: &Content,
    plan: &Plan,
    repo: &RepoName,
    digest: &Digest,
    report: &mut Report,
) -> Result<bool, ContentError> {
    if !may_go(content, plan, digest, report).await? {
        return Ok(false);
    }
    report.manifests.push(format!("{repo}@{digest}"));
    if plan.dry_run {
        return Ok(true);
    }
    let began = Instant::now();
    let result = match content.remove_manifest(repo, digest).await {
        Ok(()) | Err(ContentError::ManifestUnknown | ContentError::NameUnknown) => {
            Ok(began.elapsed() < MARK_GOOD_FOR)
        }
        Err(error) => Err(error),
    };
    content.storage().delete(&keys::condemned(digest)).await?;
    result
}

/// Removes a key of a blob (its content, or its place in a repository), unless the blob was promised to somebody.
async fn condemn(
    content: &Content,
    plan: &Plan,
    digest: &Digest,
    key: &str,
    report: &mut Report,
) -> Result<bool, ContentError> {
    if !may_go(content, plan, digest, report).await? {
        return Ok(false);
    }
    if plan.dry_run {
        return Ok(true);
    }
    let deleted = content.storage().delete(key).await;
    content.forget_lease(digest);
    if key.starts_with("blobs/") && matches!(content.storage(), Storage::Cloud(_)) {
        content.storage().delete(&keys::lease(digest)).await?;
    }
    content.storage().delete(&keys::condemned(digest)).await?;
    deleted?;
    Ok(true)
}

/// Marks a digest and then looks at its lease, in this order. True leaves the mark: the caller acts and takes it away.
async fn may_go(
    content: &Content,
    plan: &Plan,
    digest: &Digest,
    report: &mut Report,
) -> Result<bool, ContentError> {
    let storage = content.storage();
    let mark = keys::condemned(digest);
    let young = |lease: Option<crate::storage::Stat>| {
        lease.is_some_and(|stat| stat.age() < plan.config.lease)
    };
    // Most of what is kept is kept for this reason: no mark is needed to see it.
    if young(storage.lease(digest).await?) {
        report.leased += 1;
        return Ok(false);
    }
    if plan.dry_run {
        return Ok(true);
    }
    if !storage.put_new(&mark, Bytes::new()).await? {
        // Another collector has it.
        return Ok(false);
    }
    if young(storage.lease(digest).await?) {
        report.leased += 1;
        storage.delete(&mark).await?;
        return Ok(false);
    }
    Ok(true)
}

async fn remove_stale_marks(storage: &Storage) -> Result<(), StorageError> {
    for entry in storage.list(keys::CONDEMNED).await? {
        if entry.stat.age() > MARK_STALE {
            storage
                .delete(&format!("{}{}", keys::CONDEMNED, entry.name))
                .await?;
        }
    }
    Ok(())
}

/// Runs collections for ever.
pub async fn run_for_ever(
    content: Content,
    plan: Plan,
    metrics: std::sync::Arc<crate::metrics::Metrics>,
) {
    use crate::metrics::Metrics;
    loop {
        tokio::time::sleep(plan.config.interval).await;
        match run(&content, &plan).await {
            Ok(report) => {
                Metrics::count(&metrics.collected, "blobs", report.blobs);
                Metrics::count(&metrics.collected, "bytes", report.bytes);
                Metrics::count(
                    &metrics.collected,
                    "manifests",
                    report.manifests.len() as u64,
                );
                Metrics::count(&metrics.collected, "tags", report.tags.len() as u64);
                Metrics::count(&metrics.collected, "uploads", report.uploads);
                metrics.collected_at.set(jiff::Timestamp::now().as_second());
                metrics
                    .repositories
                    .set(i64::try_from(report.repositories).unwrap_or(i64::MAX));
                tracing::info!(
                    blobs = report.blobs,
                    bytes = report.bytes,
                    manifests = report.manifests.len(),
                    tags = report.tags.len(),
                    uploads = report.uploads,
                    "garbage was collected"
                );
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "garbage collection failed"
            ),
        }
    }
}
