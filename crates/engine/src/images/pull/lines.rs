//! Docker's lines about a pull.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use wharf_api::progress::Progress;
use wharf_spec::digest::Digest;
use wharf_spec::reference::Reference;

use super::Sink;
use super::download::{Job, Stage};
use crate::images::signed;
use crate::{Error, Result};

/// Positions are told no more often.
const STEP: Duration = Duration::from_millis(100);

/// Writes to whoever asked. Positions are left out when the client reads slowly; states never are.
#[derive(Debug)]
pub(super) struct Lines(Sink);

impl Lines {
    pub(super) fn new(sink: Sink) -> Lines {
        Lines(sink)
    }

    async fn send(&self, line: Progress) {
        // A client that is gone ends the pull elsewhere.
        let _ = self.0.send(line).await;
    }

    /// `latest: Pulling from library/busybox`
    pub(super) async fn pulling(&self, what: &str, reference: &Reference) {
        let line = Progress {
            id: what.to_owned(),
            status: format!("Pulling from {}", reference.path()),
            ..Progress::default()
        };
        self.send(line).await;
    }

    /// `Digest: sha256:…`
    pub(super) async fn digest(&self, digest: &Digest) {
        self.message(format!("Digest: {digest}")).await;
    }

    /// How it ended.
    pub(super) async fn outcome(&self, reference: &Reference, newer: bool) {
        let name = reference.familiar();
        self.message(if newer {
            format!("Status: Downloaded newer image for {name}")
        } else {
            format!("Status: Image is up to date for {name}")
        })
        .await;
    }

    async fn message(&self, status: String) {
        let line = Progress {
            status,
            ..Progress::default()
        };
        self.send(line).await;
    }

    /// A state of one layer.
    pub(super) async fn status(&self, id: &str, status: &str) {
        self.send(Progress::status(id, status)).await;
    }

    fn position(&self, id: &str, status: &str, current: u64, total: u64) {
        // Only the latest position matters, so it may be dropped.
        let _ = self.0.try_send(Progress::position(
            id,
            status,
            signed(current),
            signed(total),
        ));
    }

    /// Tells what becomes of layers until all are there. As with Docker, a layer is complete after those below it.
    pub(super) async fn follow(&self, jobs: Vec<(String, Job)>) -> Result<()> {
        let mut followed: FuturesUnordered<_> = jobs
            .iter()
            .enumerate()
            .map(|(index, (id, job))| async move {
                let outcome = self.follow_one(id, job.watch()).await;
                outcome.map(|()| index)
            })
            .collect();
        let (mut here, mut complete) = (vec![false; jobs.len()], 0);
        while let Some(index) = followed.next().await {
            here[index?] = true;
            while here.get(complete) == Some(&true) {
                self.status(&jobs[complete].0, "Pull complete").await;
                complete += 1;
            }
        }
        Ok(())
    }

    async fn follow_one(&self, id: &str, mut stages: watch::Receiver<Stage>) -> Result<()> {
        let mut told = Told::default();
        loop {
            let stage = stages.borrow_and_update().clone();
            self.stage(id, &stage, &mut told).await;
            match stage {
                Stage::Done => return Ok(()),
                Stage::Failed(kind, message) => return Err(Error::new(kind, message)),
                Stage::Downloading { .. } | Stage::Extracting { .. } => {
                    // The end is told at once.
                    let mut end = stages.clone();
                    let ended = end.wait_for(Stage::is_last);
                    let _ = tokio::time::timeout(STEP, ended).await;
                }
                _ => {}
            }
            if stages.changed().await.is_err() {
                return Err(Error::internal("the download was given up"));
            }
        }
    }

    /// Tells a stage, and those that went by too quickly to be seen.
    async fn stage(&self, id: &str, stage: &Stage, told: &mut Told) {
        match stage {
            // A job that starts at once never waits.
            Stage::Waiting if !told.complete => self.status(id, "Waiting").await,
            Stage::Retrying(pause) => {
                let seconds = pause.as_secs().max(1);
                let unit = if seconds == 1 { "second" } else { "seconds" };
                self.status(id, &format!("Retrying in {seconds} {unit}"))
                    .await;
            }
            Stage::Downloading { current, total } => {
                told.total = *total;
                self.position(id, "Downloading", *current, *total);
            }
            Stage::Extracting { total } => {
                told.total = *total;
                self.extracting(id, told).await;
            }
            Stage::Done => self.extracting(id, told).await,
            _ => {}
        }
    }

    async fn extracting(&self, id: &str, told: &mut Told) {
        if std::mem::replace(&mut told.complete, true) {
            return;
        }
        self.status(id, "Verifying Checksum").await;
        self.status(id, "Download complete").await;
        let total = signed(told.total);
        self.send(Progress::position(id, "Extracting", total, total))
            .await;
    }
}

/// What was told of a layer.
#[derive(Default)]
struct Told {
    /// That all bytes are there.
    complete: bool,
    /// Bytes in all.
    total: u64,
}
