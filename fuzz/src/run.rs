//! The loop.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::mutate::{Random, mutate};

/// No input may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that takes bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of its corpus.
    pub name: &'static str,
    /// Good inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes a mutated input plausible again (checksums), or an input of its own out of the bytes.
    pub shape: fn(Vec<u8>) -> Vec<u8>,
    /// Tries one input in a directory of its own; panics if a promise is broken.
    pub check: fn(&[u8], &Path),
}

/// Mutates for a while. Returns how many inputs were tried, or what went wrong and where the input is.
///
/// # Errors
/// A promise was broken.
pub fn fuzz(target: &Target, time: Duration, seed: u64, out: &Path) -> Result<u64, String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut corpus = known(target.name)?;
    corpus.extend((target.seeds)());
    for input in &corpus {
        attempt(target, input, scratch.path(), out)?;
    }
    let (end, mut random, mut tried) = (Instant::now() + time, Random::new(seed), 0);
    while Instant::now() < end {
        let input = (target.shape)(mutate(&corpus, &mut random));
        attempt(target, &input, scratch.path(), out)?;
        tried += 1;
    }
    Ok(tried)
}

fn attempt(target: &Target, input: &[u8], scratch: &Path, out: &Path) -> Result<(), String> {
    let begin = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input, scratch)));
    let slow = begin.elapsed() > PATIENCE;
    if outcome.is_ok() && !slow {
        return Ok(());
    }
    let file = out.join(target.name);
    fs::create_dir_all(out)
        .and_then(|()| fs::write(&file, input))
        .map_err(|error| error.to_string())?;
    let what = if slow { "took too long" } else { "panicked" };
    Err(format!("{} {what} with {}", target.name, file.display()))
}

/// Inputs that once were wrong.
fn known(name: &str) -> Result<Vec<Vec<u8>>, String> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(Vec::new());
    };
    entries
        .map(|entry| entry.and_then(|entry| fs::read(entry.path())))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}
