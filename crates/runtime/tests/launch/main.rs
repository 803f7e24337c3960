//! Launches real containers from a busybox root and asks them what they see. Needs root and `/bin/busybox`
//! (Debian's `busybox-static`). One thread only, as the code under test demands: a small harness instead of libtest.

mod bed;
mod cases;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    if std::env::args().any(|a| a == "--list") {
        cases::ALL
            .iter()
            .for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(why) = bed::cannot_run() {
        println!("SKIPPED: launch tests: {why}");
        // A skipped test must not pass unnoticed where it is expected to run.
        return if std::env::var_os("CI").is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let mut failed = Vec::new();
    for (name, case) in cases::ALL {
        // Timings are for people.
        if wanted.is_empty() && name.starts_with("speed") {
            continue;
        }
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let ok = catch_unwind(AssertUnwindSafe(case)).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if !ok {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
