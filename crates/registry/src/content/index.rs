//! `index.json` of a local directory: with it, the store is an OCI layout that other tools read (`skopeo copy oci:<root>:<repository>:<tag> …`).
//! It follows changes a little later; the registry itself never reads it.

use std::time::Duration;

use serde_json::json;

use super::Content;
use crate::manifest::OCI_INDEX;
use crate::storage::StorageError;

/// After a change, further ones are awaited for so long.
const SETTLE: Duration = Duration::from_secs(2);

/// Keeps the file up to date, for ever.
pub async fn keep(content: Content) {
    loop {
        if let Err(error) = write(&content).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "index.json was not written"
            );
        }
        content.changed().await;
        tokio::time::sleep(SETTLE).await;
    }
}

/// Writes the file.
pub async fn write(content: &Content) -> Result<(), StorageError> {
    let mut manifests = Vec::new();
    for repo in content.repositories().await? {
        for tagged in content.tagged(&repo).await? {
            let Some(media_type) = content.manifest_type(&repo, &tagged.digest).await? else {
                continue;
            };
            let stat = content
                .storage()
                .stat(&crate::storage::keys::blob(&tagged.digest))
                .await?;
            manifests.push(json!({
                "mediaType": media_type,
                "digest": tagged.digest,
                "size": stat.map_or(0, |stat| stat.size),
                "annotations": {"org.opencontainers.image.ref.name": format!("{repo}:{}", tagged.tag)},
            }));
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    content
        .storage()
        .put("index.json", index.to_string().into())
        .await
}
