//! The registry server beside Debian's `docker-registry`: requests, bytes out, bytes in, memory.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::image;
use crate::measure::Values;
use crate::registry::{MANIFEST, Registry};
use crate::side::Side;

/// Bytes of the blob that is pulled, and of the one that is pushed.
const PULLED: u64 = 32 << 20;
const PUSHED: u64 = 500_000_000;

/// A registry with one image of one layer, kept until the case is over.
fn filled(side: &mut Side) -> Result<String> {
    let file = image::ensure_random(PULLED)?;
    if side.registry.is_none() {
        let registry = Registry::start(side)?;
        let (config, _) = registry.push_blob(side, &config()?)?;
        let (layer, _) = registry.push_blob(side, &file)?;
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": PULLED}],
        });
        registry.push_manifest(side, &manifest.to_string())?;
        side.registry = Some((registry, layer));
    }
    let (_, layer) = side.registry.as_ref().context("made above")?;
    Ok(layer.clone())
}

fn config() -> Result<PathBuf> {
    let file = image::directory()?.join("config.json");
    std::fs::write(&file, "{}")?;
    Ok(file)
}

/// What `wrk` says behind `label`, read as a number; with `K`, `M`, `G` for so many bytes.
fn wrk(side: &mut Side, connections: &str, path: &str, label: &str) -> Result<f64> {
    let (registry, _) = side.registry.as_ref().context("a registry")?;
    let url = registry.url(path);
    let mut command = side.engine()?.netns().command("wrk".as_ref());
    command.args(["-t1", "-d3s", "-H", &format!("Accept: {MANIFEST}")]);
    let output = command.args([connections, &url]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("Non-2xx"),
        "wrk {url}: {text}"
    );
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(label));
    number(value.with_context(|| format!("{label} in {text}"))?.trim())
}

fn number(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text[digits.len()..].chars().next() {
        Some('K') => 1024.0,
        Some('M') => 1024.0 * 1024.0,
        Some('G') => 1024.0 * 1024.0 * 1024.0,
        _ => 1.0,
    };
    Ok(digits.parse::<f64>()? * scale)
}

fn with_peak(side: &Side, name: &str, value: f64) -> Result<Values> {
    let (registry, _) = side.registry.as_ref().context("a registry")?;
    Ok(vec![
        (name.to_owned(), value),
        ("peak memory (MiB)".to_owned(), registry.peak()?),
    ])
}

pub(crate) fn manifest(side: &mut Side) -> Result<Values> {
    filled(side)?;
    let rate = wrk(side, "-c16", "/v2/bench/manifests/1", "Requests/sec:")?;
    with_peak(side, "requests/s", rate)
}

pub(crate) fn blob(side: &mut Side) -> Result<Values> {
    let layer = filled(side)?;
    let path = format!("/v2/bench/blobs/{layer}");
    let rate = wrk(side, "-c4", &path, "Transfer/sec:")?;
    with_peak(side, "GB/s", rate / 1e9)
}

/// Five hundred at once; what counts is memory.
pub(crate) fn crowd(side: &mut Side) -> Result<Values> {
    let layer = filled(side)?;
    let path = format!("/v2/bench/blobs/{layer}");
    let rate = wrk(side, "-c500", &path, "Transfer/sec:")?;
    with_peak(side, "GB/s", rate / 1e9)
}

/// Into an empty registry, in one request.
pub(crate) fn push(side: &mut Side) -> Result<Values> {
    let file = image::ensure_random(PUSHED)?;
    let registry = Registry::start(side)?;
    let (_, seconds) = registry.push_blob(side, &file)?;
    Ok(vec![
        (String::new(), seconds * 1e3),
        ("peak memory (MiB)".to_owned(), registry.peak()?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_counts_in_units() {
        for (text, expected) in [
            ("12.5", 12.5),
            ("1.50KB", 1536.0),
            ("2.00MB", 2_097_152.0),
            ("1.00GB", 1_073_741_824.0),
        ] {
            assert_eq!(number(text).ok(), Some(expected), "{text}");
        }
        assert!(number("fast").is_err());
    }
}
