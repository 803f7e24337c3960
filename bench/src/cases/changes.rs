//! What a container has changed: found, exported, committed.

use std::fs::File;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use wharf_e2e::cli;
use wharf_e2e::images::BUSYBOX;

use crate::image;
use crate::measure::{Values, timed};
use crate::side::Side;

/// Makes so many small files in directories of a thousand.
fn script(files: u32) -> String {
    format!(
        "d=0; while [ $d -lt {} ]; do mkdir -p /m/$d; cd /m/$d; f=0; while [ $f -lt 1000 ]; do echo $f >$f; f=$((f+1)); done; d=$((d+1)); done",
        files / 1000
    )
}

/// A stopped container that has made so many files, kept for all runs of the case.
fn changed(side: &mut Side, image: &str, files: u32) -> Result<String> {
    if let Some(id) = &side.kept {
        return Ok(id.clone());
    }
    let mut api = side.connect();
    let id = api.create_from(image, "none", &["sh", "-c", &script(files)])?;
    api.start(&id)?;
    api.wait(&id)?;
    side.kept = Some(id.clone());
    Ok(id)
}

/// `diff` over the API, 100,000 files.
pub(crate) fn diff(side: &mut Side) -> Result<Values> {
    let id = changed(side, BUSYBOX, 100_000)?;
    let mut api = side.connect();
    let target = format!("/containers/{id}/changes");
    let (ms, answer) = timed(|| api.request("GET", &target, None));
    let found = answer?.as_array().map_or(0, Vec::len);
    ensure!(found > 100_000, "{found} changes");
    Ok(vec![(String::new(), ms)])
}

/// `export` and `commit` of the large image with 10,000 changed files.
pub(crate) fn export_and_commit(side: &mut Side) -> Result<Values> {
    if side.kept.is_none() {
        let archive = image::ensure_big()?;
        side.docker(&[
            "load",
            "-q",
            "-i",
            archive.to_str().context("a plain path")?,
        ])?;
    }
    let id = changed(side, image::BIG, 10_000)?;
    let (export, status) = timed(|| {
        side.command(&cli::docker_program(), &["export", &id])
            .stdout(Stdio::from(File::create("/dev/null")?))
            .status()
            .context("start the CLI")
    });
    ensure!(status?.success(), "the export failed");
    let (commit, result) = timed(|| side.docker(&["commit", &id, "wharf-bench/changed"]));
    result?;
    side.docker(&["rmi", "wharf-bench/changed"])?;
    Ok(vec![("export".into(), export), ("commit".into(), commit)])
}
