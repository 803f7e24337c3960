//! Running all tests, and those that failed once more, alone.
//!
//! The end-to-end tests share two cores with each other and with what they start; a deadline of a minute can be missed there
//! without anything being wrong. A test that passes alone is named as unsteady, loudly, and does not fail the run; one that
//! fails again, or one of many, does.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::show;

/// More failures than this are no accident.
const FEW: usize = 4;

/// Runs the command that `cargo_test` gives for a list of arguments behind `--`. What the tests say goes to `out`.
pub(crate) fn run(
    mut cargo_test: impl FnMut(&[&str]) -> Command,
    mut out: impl Write,
) -> Result<()> {
    let Outcome {
        passed,
        failed,
        unfinished,
    } = shown(&mut cargo_test(&[]), &mut out)?;
    if passed {
        return Ok(());
    }
    if unfinished != 0 {
        bail!("{unfinished} test programs ended before all of their tests");
    }
    if failed.is_empty() || failed.len() > FEW {
        bail!("{} tests failed", failed.len());
    }
    eprintln!("+ once more, alone: {}", failed.join(", "));
    let mut arguments = vec!["--exact", "--test-threads=1"];
    arguments.extend(failed.iter().map(String::as_str));
    let again = shown(&mut cargo_test(&arguments), &mut out)?;
    if !again.passed {
        bail!("failed twice: {}", again.failed.join(", "));
    }
    eprintln!(
        "UNSTEADY, failed among the others and passed alone: {}",
        failed.join(", ")
    );
    Ok(())
}

struct Outcome {
    passed: bool,
    failed: Vec<String>,
    /// Programs that began and gave no result: they were killed, or aborted.
    unfinished: i32,
}

/// Runs it, what it says passed on as it comes.
fn shown(command: &mut Command, out: &mut impl Write) -> Result<Outcome> {
    let shown = show(command);
    eprintln!("+ {shown}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {shown}"))?;
    let output = child.stdout.take().context("its output is piped")?;
    let (mut failed, mut unfinished) = (Vec::new(), 0);
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    // Tests print whatever bytes they like.
    while lines.read_until(b'\n', &mut line)? > 0 {
        out.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        failed.extend(failure(&text));
        unfinished += begins(&text) - i32::from(text.starts_with("test result: "));
        line.clear();
    }
    let status = child.wait()?;
    Ok(Outcome {
        passed: status.success(),
        failed,
        unfinished,
    })
}

/// 1 for the line with which a test program begins: `running 7 tests`.
fn begins(line: &str) -> i32 {
    let words: Vec<&str> = line.split_whitespace().collect();
    i32::from(matches!(words[..], ["running", _, "test" | "tests"]))
}

/// The test that a line of libtest's says has failed.
fn failure(line: &str) -> Option<String> {
    // Some harnesses put the time behind it.
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... FAILED")?;
    let rest = rest.trim();
    (rest.is_empty() || rest.starts_with('(')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_from_libtests_lines() {
        for (line, expected) in [
            (
                "test leaks::sequential ... FAILED\n",
                Some("leaks::sequential"),
            ),
            ("test slow ... FAILED (20.5ms)\n", Some("slow")),
            ("test leaks::sequential ... ok\n", None),
            ("test result: FAILED. 1 passed; 1 failed\n", None),
            ("    leaks::sequential\n", None),
        ] {
            assert_eq!(failure(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn what_fails_is_run_again_alone_and_must_pass_then() {
        let script = |text: String| {
            let mut command = Command::new("sh");
            command.args(["-c", &text]);
            command
        };
        let ask = |again: &'static str| {
            let mut calls = Vec::new();
            let outcome = run(
                |arguments: &[&str]| {
                    calls.push(arguments.join(" "));
                    match arguments.is_empty() {
                        true => script("echo 'test a::b ... FAILED'; exit 1".into()),
                        false => script(again.into()),
                    }
                },
                std::io::sink(),
            );
            (outcome.map_err(|error| error.to_string()), calls)
        };
        let (outcome, calls) = ask("echo 'test a::b ... ok'");
        assert_eq!(
            (outcome, calls),
            (
                Ok(()),
                vec![String::new(), "--exact --test-threads=1 a::b".into()]
            )
        );
        let (outcome, _) = ask("echo 'test a::b ... FAILED'; exit 1");
        assert_eq!(outcome, Err("failed twice: a::b".into()));
        let many = |_: &[&str]| {
            script("for i in 1 2 3 4 5; do echo \"test t$i ... FAILED\"; done; exit 1".into())
        };
        assert_eq!(
            run(many, std::io::sink()).map_err(|e| e.to_string()),
            Err("5 tests failed".into())
        );
        assert_eq!(
            run(|_: &[&str]| script("exit 101".into()), std::io::sink()).map_err(|e| e.to_string()),
            Err("0 tests failed".into()),
            "what does not compile is not tried again"
        );
    }
}
