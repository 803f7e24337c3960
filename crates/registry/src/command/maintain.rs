//! `gc` and `check`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Failure, Place};
use crate::collect::{self, check as structure, scrub};
use crate::config::{Config, units};
use crate::content::{Content, Settings};
use crate::run::open_existing;
use crate::storage::Storage;
use crate::upstream::Upstreams;

#[derive(Debug, Args)]
pub(super) struct Gc {
    #[command(flatten)]
    place: Place,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Keep blobs that a client was promised so recently (default: the configuration's, or nothing while no registry serves the directory)
    #[arg(long, value_name = "DURATION")]
    lease: Option<String>,
    /// Also remove manifests without a tag
    #[arg(long, short = 'm', visible_alias = "untagged")]
    delete_untagged: bool,
    /// Print a report in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    place: Place,
    /// Also read every blob and compare its digest
    #[arg(long)]
    read: bool,
    /// Remove tags and manifests whose content is lost, put damaged blobs aside
    #[arg(long)]
    repair: bool,
    /// Print a report in JSON
    #[arg(long)]
    json: bool,
}

/// Holds the directory alone, if nobody serves it.
fn alone(storage: &Storage) -> Option<std::fs::File> {
    match storage {
        Storage::Local(local) => local.lock(true).ok(),
        Storage::Cloud(_) => None,
    }
}

pub(super) async fn gc(gc: &Gc) -> Result<ExitCode, Failure> {
    let mut config = gc.place.load()?;
    let storage = open_existing(&config)?;
    let alone = alone(&storage);
    config.gc.untagged |= gc.delete_untagged;
    config.gc.lease = match &gc.lease {
        Some(text) => units::parse_duration(text)
            .ok_or_else(|| format!("--lease {text}: no duration such as 90s, 1h30m or 7d"))?,
        // Without a server there are no pushes, and nobody to keep a promise to.
        None if alone.is_some() => Duration::ZERO,
        None => config.gc.lease,
    };
    let content = Content::new(storage, Settings::of(&config));
    let plan = collect::Plan {
        config: config.gc.clone(),
        dry_run: gc.dry_run,
    };
    let report = collect::run(&content, &plan).await?;
    refresh_index(&content, alone.is_some() && !gc.dry_run).await?;
    if gc.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let would = if gc.dry_run { "would be " } else { "" };
    for tag in &report.tags {
        println!("tag {tag} {would}removed");
    }
    for manifest in &report.manifests {
        println!("manifest {manifest} {would}removed");
    }
    println!(
        "{} blobs ({}) {would}removed, {} taken out of repositories, {} uploads {would}forgotten; {} kept for pushes under way",
        report.blobs,
        units::show_size(report.bytes),
        report.unlinked,
        report.uploads,
        report.leased
    );
    Ok(ExitCode::SUCCESS)
}

/// A server does this itself.
async fn refresh_index(content: &Content, wanted: bool) -> Result<(), Failure> {
    if wanted && matches!(content.storage(), Storage::Local(_)) {
        crate::content::index::write(content).await?;
    }
    Ok(())
}

pub(super) async fn check(check: &Check) -> Result<ExitCode, Failure> {
    let config: Config = check.place.load()?;
    let storage = open_existing(&config)?;
    let content = Content::new(storage, Settings::of(&config));
    let upstreams = Upstreams::open(&config)?;
    let damaged = match check.read {
        true => Some(scrub::run(&content, 0, check.repair).await?),
        false => None,
    };
    let skip =
        |repo: &crate::name::RepoName| config.storage.sparse || upstreams.of(repo, None).is_some();
    let report = structure::run(&content, check.repair, skip).await?;
    let n_damaged = damaged.as_ref().map_or(0, |report| report.damaged.len());
    if check.json {
        let both = serde_json::json!({"structure": report, "content": damaged});
        println!("{}", serde_json::to_string_pretty(&both)?);
    } else {
        for digest in damaged.iter().flat_map(|report| &report.damaged) {
            println!("{digest}: the blob is damaged");
        }
        for problem in &report.problems {
            println!("{problem}");
        }
        println!(
            "{} repositories, {} tags, {} manifests, {} blobs: {} problems, {} repaired",
            report.repositories,
            report.tags,
            report.manifests,
            report.blobs,
            report.problems.len() + n_damaged,
            report.repaired
        );
    }
    let clean = report.problems.is_empty() && n_damaged == 0;
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
