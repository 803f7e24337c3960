//! Builds with the stock CLI and the classic builder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wharf_e2e::cli::docker_program;

use crate::measure::{Values, timed};
use crate::side::Side;

/// Four copies and four commands.
const STEPS: &str = "FROM busybox\nCOPY a /a\nRUN echo 1 > /1\nCOPY b /b\nRUN echo 2 > /2\nCOPY c /c\nRUN echo 3 > /3\nCOPY d /d\nRUN echo 4 > /4\n";

/// Eight steps, nothing cached; then all of them cached.
pub(crate) fn steps(side: &mut Side) -> Result<Values> {
    let dir = context("steps", STEPS, |dir| {
        for name in ["a", "b", "c", "d"] {
            fs::write(dir.join(name), name)?;
        }
        Ok(())
    })?;
    let (new, result) = timed(|| build(side, &["--no-cache", "-q"], &dir));
    result?;
    let (cached, result) = timed(|| build(side, &["-q"], &dir));
    result?;
    Ok(vec![
        ("no cache".to_owned(), new),
        ("cached".to_owned(), cached),
    ])
}

/// Only the cached one.
pub(crate) fn cached(side: &mut Side) -> Result<Values> {
    let dir = context("steps", STEPS, |dir| {
        for name in ["a", "b", "c", "d"] {
            fs::write(dir.join(name), name)?;
        }
        Ok(())
    })?;
    build(side, &["-q"], &dir)?;
    let (ms, result) = timed(|| build(side, &["-q"], &dir));
    result?;
    Ok(vec![(String::new(), ms)])
}

/// A context of 10,000 small files, all copied.
pub(crate) fn many(side: &mut Side) -> Result<Values> {
    let dir = context("many", "FROM busybox\nCOPY . /files/\n", |dir| {
        for number in 0..10_000 {
            let below = dir.join(format!("d{}", number / 100));
            fs::create_dir_all(&below)?;
            fs::write(
                below.join(format!("f{number}")),
                format!("file {number}\n").repeat(20),
            )?;
        }
        Ok(())
    })?;
    let (ms, result) = timed(|| build(side, &["--no-cache", "-q"], &dir));
    result?;
    Ok(vec![(String::new(), ms)])
}

/// One file of 500 MB, copied.
pub(crate) fn large(side: &mut Side) -> Result<Values> {
    let dir = context("large", "FROM busybox\nCOPY big /big\n", |dir| {
        // Bytes that neither compress nor repeat soon.
        let mut state = 1_u64;
        let block: Vec<u8> = (0..1 << 20)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        fs::write(dir.join("big"), block.repeat(500))?;
        Ok(())
    })?;
    let (ms, result) = timed(|| build(side, &["--no-cache", "-q", "-t", "bench-large"], &dir));
    result?;
    side.docker(&["rmi", "-f", "bench-large"])?;
    Ok(vec![(String::new(), ms)])
}

/// A context that is made once.
fn context(name: &str, file: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("wharf-bench-{name}"));
    if !dir.join("Dockerfile").exists() {
        fs::create_dir_all(&dir)?;
        fill(&dir).context("make a context")?;
        fs::write(dir.join("Dockerfile"), file)?;
    }
    Ok(dir)
}

fn build(side: &Side, flags: &[&str], dir: &Path) -> Result<()> {
    let dir = dir.to_str().context("a plain path")?;
    let args = [&["build"], flags, &[dir]].concat();
    let mut command = side.command(&docker_program(), &args);
    let output = command.env("DOCKER_BUILDKIT", "0").output()?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
