//! The OCI runtime by its command line, beside those that are installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use wharf_e2e::bundle::Bundle;
use wharf_e2e::engine::Kind;

use crate::measure::{Values, timed};
use crate::side::Side;

/// create, start and delete of `true`, ten times each and in turns; medians.
pub(crate) fn life(side: &mut Side) -> Result<Values> {
    if side.kind() == Kind::Reference {
        return Ok(Vec::new());
    }
    let mut bundle = Bundle::new(&["true"]);
    // crun 1.8 refuses later ones.
    bundle.config["ociVersion"] = "1.0.2".into();
    // Written once, and not between two measurements.
    drop(bundle.command(&["state"]));
    let mut runtimes = vec![("wharf", bundle.program())];
    for (name, paths) in [
        ("crun", ["/usr/bin/crun", "/usr/local/bin/crun"]),
        ("runc", ["/usr/sbin/runc", "/usr/bin/runc"]),
    ] {
        let found = paths.iter().map(PathBuf::from).find(|path| path.exists());
        runtimes.extend(found.map(|path| (name, path)));
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); runtimes.len()];
    for _ in 0..10 {
        for ((_, program), times) in runtimes.iter().zip(&mut times) {
            let (ms, result) = timed(|| one_life(program, &bundle));
            result?;
            times.push(ms);
        }
    }
    let median = |mut list: Vec<f64>| {
        list.sort_by(f64::total_cmp);
        list[list.len() / 2]
    };
    let names = runtimes.iter().map(|(name, _)| (*name).to_owned());
    Ok(names.zip(times.into_iter().map(median)).collect())
}

fn one_life(program: &Path, bundle: &Bundle) -> Result<()> {
    let state = bundle.dir().join("bench-state");
    let dir = bundle.dir().to_string_lossy().into_owned();
    let run = |words: &[&str]| -> Result<()> {
        let status = Command::new(program)
            .arg("--root")
            .arg(&state)
            .args(words)
            .arg("bench")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("run {}", program.display()))?;
        ensure!(
            status.success(),
            "{} {words:?}: {status}",
            program.display()
        );
        Ok(())
    };
    run(&["create", "--bundle", &dir])?;
    run(&["start"])?;
    run(&["delete", "--force"])
}
