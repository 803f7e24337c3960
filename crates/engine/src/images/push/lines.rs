//! Docker's lines about a push.

use serde_json::json;
use wharf_api::progress::{Detail, Progress};
use wharf_spec::digest::{DiffId, Digest};
use wharf_spec::reference::Reference;

use crate::images::pull::Sink;
use crate::images::signed;

/// Writes to whoever asked.
#[derive(Debug, Clone)]
pub(super) struct Lines(Sink);

impl Lines {
    pub(super) fn new(sink: Sink) -> Lines {
        Lines(sink)
    }

    async fn send(&self, line: Progress) {
        // A client that is gone ends the push elsewhere.
        let _ = self.0.send(line).await;
    }

    pub(super) async fn refers_to(&self, reference: &Reference) {
        let line = Progress {
            status: format!("The push refers to repository [{}]", reference.name()),
            ..Progress::default()
        };
        self.send(line).await;
    }

    pub(super) async fn status(&self, diff: &DiffId, status: &str) {
        self.send(Progress::status(diff.0.short(), status)).await;
    }

    /// Only the latest position matters, so it may be dropped. From any thread.
    pub(super) fn position(&self, diff: &DiffId, current: u64, total: u64) {
        let _ = self.0.try_send(Progress::position(
            diff.0.short(),
            "Pushing",
            signed(current),
            signed(total),
        ));
    }

    /// `latest: digest: sha256:… size: 528`, for people and for programs.
    pub(super) async fn pushed(&self, tag: &str, digest: &Digest, size: usize) {
        let line = Progress {
            status: format!("{tag}: digest: {digest} size: {size}"),
            ..Progress::default()
        };
        self.send(line).await;
        let aux = Progress {
            detail: Some(Detail::default()),
            aux: Some(json!({"Tag": tag, "Digest": digest, "Size": size})),
            ..Progress::default()
        };
        self.send(aux).await;
    }
}
