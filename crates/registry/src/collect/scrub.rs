//! Reading everything again. A blob whose bytes have another digest is put aside: then it is not there, and the next push brings it again.

use std::io::Read;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use wharf_spec::digest::Digest;

use crate::content::Content;
use crate::metrics::Metrics;
use crate::storage::local::blocking;
use crate::storage::{Blob, BlobSource, Storage, StorageError, keys};

/// What is read at once.
const CHUNK: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Blobs read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Damaged ones.
    pub damaged: Vec<String>,
}

/// Reads all blobs, at most `rate` bytes per second (0: no limit).
///
/// # Errors
/// The store failed.
pub async fn run(content: &Content, rate: u64, put_aside: bool) -> Result<Report, StorageError> {
    let mut report = Report::default();
    let began = Instant::now();
    for entry in content.storage().list("blobs/").await? {
        let Some(digest) = keys::parse_slashed(&entry.name) else {
            continue;
        };
        // It may have been removed since.
        let Some(blob) = content.storage().open_blob(&digest).await? else {
            continue;
        };
        report.blobs += 1;
        report.bytes += blob.size;
        if hash(blob, &digest).await? != digest {
            report.damaged.push(digest.to_string());
            tracing::error!(%digest, "a blob is damaged");
            if put_aside {
                set_aside(content, &digest).await?;
            }
        }
        if let Some(nanos) =
            (u128::from(report.bytes) * 1_000_000_000).checked_div(u128::from(rate))
        {
            let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
    Ok(report)
}

async fn hash(blob: Blob, digest: &Digest) -> Result<Digest, StorageError> {
    let mut hasher = digest.algorithm().hasher();
    match blob.source {
        BlobSource::File(mut file) => {
            let key = keys::blob(digest);
            blocking(move || {
                let mut buffer = vec![0; CHUNK];
                loop {
                    match file.read(&mut buffer) {
                        Ok(0) => return Ok(hasher.finish()),
                        Ok(n) => hasher.update(&buffer[..n]),
                        Err(source) => return Err(StorageError::io("reading", &key, source)),
                    }
                }
            })
            .await
        }
        BlobSource::Object(cloud, key) => {
            let mut stream = cloud.stream(key, 0..blob.size);
            while let Some(bytes) = stream.next().await {
                hasher.update(&bytes?);
            }
            Ok(hasher.finish())
        }
    }
}

/// Moves a damaged blob to where nobody finds it but people.
pub async fn set_aside(content: &Content, digest: &Digest) -> Result<(), StorageError> {
    let (from, to) = (keys::blob(digest), keys::corrupt(digest));
    match content.storage() {
        Storage::Local(local) => local.move_to(&from, &to).await,
        Storage::Cloud(cloud) => {
            if let Some(stat) = cloud.stat(&from).await? {
                cloud.copy(&from, &to, stat.size).await?;
                cloud.delete(&from).await?;
            }
            Ok(())
        }
    }
}

/// Reads everything again, for ever.
pub async fn run_for_ever(
    content: Content,
    config: crate::config::ScrubConfig,
    read_only: bool,
    metrics: std::sync::Arc<Metrics>,
) {
    loop {
        tokio::time::sleep(config.interval).await;
        match run(&content, config.rate, !read_only).await {
            Ok(report) => {
                Metrics::count(&metrics.scrubbed, "read", report.blobs);
                Metrics::count(&metrics.scrubbed, "damaged", report.damaged.len() as u64);
                tracing::info!(
                    blobs = report.blobs,
                    damaged = report.damaged.len(),
                    "everything was read again"
                );
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the scrub failed")
            }
        }
    }
}
