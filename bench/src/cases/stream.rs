//! Bytes out of a container: to an attached client, into the log, out of the log.

use std::io::Read;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use wharf_e2e::cli::docker_program;
use wharf_e2e::images::BUSYBOX;

use crate::measure::{Values, timed};
use crate::side::Side;

const GIB: u64 = 1 << 30;
const LINES: u32 = 1_000_000;

/// The stock CLI's standard output, read through a pipe.
pub(crate) fn attach(side: &mut Side) -> Result<Values> {
    let copy = [
        "run",
        "--rm",
        "--network",
        "none",
        "--log-driver",
        "none",
        BUSYBOX,
        "dd",
        "if=/dev/zero",
        "bs=1M",
        "count=1024",
    ];
    let (ms, bytes) = timed(|| -> Result<u64> {
        let mut command = side.command(&docker_program(), &copy);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut output = child.stdout.take().context("asked for")?;
        let mut buf = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match output.read(&mut buf)? {
                0 => break,
                n => total += n as u64,
            }
        }
        ensure!(child.wait()?.success(), "the CLI failed");
        Ok(total)
    });
    ensure!(bytes? == GIB, "not every byte arrived");
    Ok(vec![(String::new(), ms)])
}

fn write_lines(side: &Side, tail: &str) -> Result<(f64, String)> {
    let mut api = side.connect();
    let id = api.create(
        "none",
        &[
            "sh",
            "-c",
            &format!("yes {} | head -n {LINES}{tail}", "x".repeat(63)),
        ],
    )?;
    let (ms, result) = timed(|| {
        api.start(&id)?;
        api.wait(&id)
    });
    result?;
    Ok((ms, id))
}

/// From start to exit.
pub(crate) fn log_write(side: &mut Side) -> Result<Values> {
    let mut values = Vec::new();
    for (name, tail) in [("", ""), ("devnull", " >/dev/null")] {
        let (ms, id) = write_lines(side, tail)?;
        side.connect().remove(&id)?;
        values.push((name.to_owned(), ms));
    }
    Ok(values)
}

/// The whole log, and its last ten lines. Rotation is off, so that both daemons hold all lines.
pub(crate) fn log_read(side: &mut Side) -> Result<Values> {
    let id = match &side.kept {
        Some(id) => id.clone(),
        None => {
            let id = write_lines(side, "")?.1;
            check_complete(side, &id)?;
            side.kept = Some(id.clone());
            id
        }
    };
    let (all, result) = timed(|| side.docker(&["logs", &id]));
    result?;
    let (tail, result) = timed(|| side.docker(&["logs", "--tail", "10", &id]));
    result?;
    Ok(vec![(String::new(), all), ("tail".to_owned(), tail)])
}

fn check_complete(side: &Side, id: &str) -> Result<()> {
    let output = side
        .command(&docker_program(), &["logs", id])
        .stdin(Stdio::null())
        .output()?;
    let lines = output.stdout.iter().filter(|b| **b == b'\n').count();
    ensure!(
        lines == LINES as usize,
        "the log has {lines} lines, not {LINES}"
    );
    Ok(())
}
