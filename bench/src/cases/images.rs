//! Images from and to a registry on the same machine, as archives, and made of containers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::registry::DockerRegistry;

use crate::image;
use crate::measure::{Values, timed};
use crate::side::Side;

const PORT: u16 = 5000;
const REMOTE: &str = "127.0.0.1:5000/wharf-bench/big:1";
/// Bytes of the small archive.
const SMALL: u64 = 100_000_000;

fn one(ms: f64) -> Values {
    vec![(String::new(), ms)]
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a plain path")
}

/// The large image is in the daemon.
fn ensure_loaded(side: &Side) -> Result<()> {
    if side.docker(&["image", "inspect", image::BIG]).is_ok() {
        return Ok(());
    }
    let archive = image::ensure_big()?;
    side.docker(&["load", "-q", "-i", text(&archive)?])
}

/// A registry's directory that has the large image, filled once by whoever comes first.
fn filled(side: &mut Side) -> Result<PathBuf> {
    let home = image::directory()?.join("registry");
    if home.join("filled").exists() {
        return Ok(home);
    }
    let _ = std::fs::remove_dir_all(&home);
    ensure_loaded(side)?;
    let registry = DockerRegistry::start_at(side.engine()?, &home, PORT);
    side.docker(&["tag", image::BIG, REMOTE])?;
    side.docker(&["push", "-q", REMOTE])?;
    drop(registry);
    side.docker(&["rmi", "-f", REMOTE, image::BIG])?;
    std::fs::write(home.join("filled"), "")?;
    Ok(home)
}

/// Milliseconds of a pull with none of the layers there, and the daemon's peak of resident memory in MiB.
fn cold_pull(side: &mut Side) -> Result<(f64, f64)> {
    let home = filled(side)?;
    let _ = side.docker(&["rmi", "-f", REMOTE]);
    let _ = side.docker(&["rmi", "-f", image::BIG]);
    let pid = side.engine()?.pid();
    let registry = DockerRegistry::start_at(side.engine()?, &home, PORT);
    // Forgets the peak so far (proc(5), clear_refs).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let (ms, pulled) = timed(|| side.docker(&["pull", "-q", REMOTE]));
    pulled?;
    drop(registry);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("the peak of memory")?;
    side.docker(&["rmi", "-f", REMOTE])?;
    Ok((ms, peak.parse::<f64>()? / 1024.0))
}

pub(crate) fn pull(side: &mut Side) -> Result<Values> {
    let (ms, peak) = cold_pull(side)?;
    Ok(vec![
        (String::new(), ms),
        ("peak memory (MiB)".into(), peak),
    ])
}

/// Into an empty registry, of layers that were loaded and so have no compressed form yet.
pub(crate) fn push(side: &mut Side) -> Result<Values> {
    ensure_loaded(side)?;
    let home = image::directory()?.join("empty-registry");
    let _ = std::fs::remove_dir_all(&home);
    let registry = DockerRegistry::start_at(side.engine()?, &home, PORT);
    side.docker(&["tag", image::BIG, REMOTE])?;
    let (ms, pushed) = timed(|| side.docker(&["push", "-q", REMOTE]));
    drop(registry);
    side.docker(&["rmi", REMOTE])?;
    std::fs::remove_dir_all(&home)?;
    pushed.map(|()| one(ms))
}

pub(crate) fn save(side: &mut Side) -> Result<Values> {
    ensure_loaded(side)?;
    let (ms, saved) = timed(|| side.docker(&["save", image::BIG]));
    saved.map(|()| one(ms))
}

pub(crate) fn remove(side: &mut Side) -> Result<Values> {
    ensure_loaded(side)?;
    let (ms, removed) = timed(|| side.docker(&["rmi", "-f", image::BIG]));
    removed.map(|()| one(ms))
}

pub(crate) fn import(side: &mut Side) -> Result<Values> {
    let archive = image::ensure_tar("small.tar", SMALL)?;
    let name = "wharf-bench/imported:1";
    let (ms, imported) = timed(|| side.docker(&["import", text(&archive)?, name]));
    imported?;
    side.docker(&["rmi", "-f", name])?;
    Ok(one(ms))
}

/// Of a container that has written so much.
pub(crate) fn commit(side: &mut Side) -> Result<Values> {
    if side.kept.is_none() {
        let archive = image::ensure_tar("small.tar", SMALL)?;
        let mut api = side.connect();
        let id = api.create("none", &["true"])?;
        side.kept = Some(id.clone());
        let copied = side
            .command(
                &wharf_e2e::cli::docker_program(),
                &["cp", "-", &format!("{id}:/")],
            )
            .stdin(std::fs::File::open(archive)?)
            .status()?;
        ensure!(copied.success(), "cp into a container of {BUSYBOX} failed");
    }
    let id = side.kept.clone().context("made above")?;
    let name = "wharf-bench/committed:1";
    let (ms, committed) = timed(|| side.docker(&["commit", &id, name]));
    committed?;
    side.docker(&["rmi", "-f", name])?;
    Ok(one(ms))
}
