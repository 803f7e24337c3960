//! `docker cp` of one large file, each way.

use std::path::PathBuf;

use anyhow::{Context, Result};
use wharf_e2e::engine::{Kind, wharf_program};

use crate::image;
use crate::measure::{Values, timed};
use crate::side::Side;

const BYTES: u64 = 500_000_000;

/// The stock CLI and, against our own daemon, ours.
pub(crate) fn cp(side: &mut Side) -> Result<Values> {
    let file = image::ensure_random(BYTES)?;
    let file = file.to_str().context("a plain path")?;
    let id = match &side.kept {
        Some(id) => id.clone(),
        None => {
            let mut api = side.connect();
            let id = api.create("none", &["sleep", "100000"])?;
            api.start(&id)?;
            side.kept = Some(id.clone());
            id
        }
    };
    let mut values = both_ways(side, None, file, &id)?;
    if side.kind() == Kind::Wharf {
        values.extend(both_ways(side, Some(wharf_program()), file, &id)?);
    }
    Ok(values)
}

fn both_ways(side: &Side, program: Option<PathBuf>, file: &str, id: &str) -> Result<Values> {
    let out = image::directory()?.join("copied");
    let out_text = out.to_str().context("a plain path")?;
    let cp = |from: &str, to: &str| {
        let args = ["cp", "-q", from, to];
        match &program {
            None => side.docker(&args),
            Some(program) => side.run(program, &args),
        }
    };
    let inside = format!("{id}:/copied");
    let (to, result) = timed(|| cp(file, &inside));
    result?;
    let (from, result) = timed(|| cp(&inside, out_text));
    result?;
    std::fs::remove_file(&out)?;
    side.docker(&["exec", id, "rm", "/copied"])?;
    let name = |way: &str| match program {
        None => way.to_owned(),
        Some(_) => format!("{way}, wharf's CLI"),
    };
    Ok(vec![(name("in"), to), (name("out"), from)])
}
