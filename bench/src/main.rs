//! `cargo xtask bench`: named cases timed against Wharf and, if asked, a reference daemon, interleaved A B A B.
//!
//! Every figure is wall clock as a client sees it. Ratios between the two sides count; the milliseconds depend on the machine.

#![forbid(unsafe_code)]

mod cases;
mod goals;
mod image;
mod measure;
mod registry;
mod report;
mod side;
mod table;
mod traffic;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;

use cases::Case;
use measure::Results;
use side::Side;

/// Times Wharf, and a reference daemon beside it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// A reference to compare with: `dockerd` starts one in a network namespace of its own, `unix://PATH` uses a running one
    #[arg(long, value_name = "DAEMON")]
    reference: Option<String>,
    /// Runs of each case instead of its own number
    #[arg(short = 'n', long)]
    runs: Option<usize>,
    /// Also write every measured value to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write a report to this file, in Markdown: the machine, the command, every value beside its goal
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Only name the cases
    #[arg(long)]
    list: bool,
    /// Cases, or the beginnings of their names; all if none
    cases: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let chosen = choose(&args.cases)?;
    if args.list {
        for case in chosen {
            println!("{:14} {}", case.name, case.about);
        }
        return Ok(());
    }
    let mut sides = vec![Side::wharf()];
    if let Some(reference) = &args.reference {
        sides.push(Side::reference(reference)?);
    }
    table::print_head(&sides);
    let mut all = Vec::new();
    for case in chosen {
        let results = run_case(case, args.runs.unwrap_or(case.runs), &mut sides);
        table::print_case(case, &sides, &results);
        all.push((case.name, results));
    }
    if let Some(file) = &args.json {
        std::fs::write(file, table::to_json(&sides, &all).to_string())?;
    }
    if let Some(file) = &args.report {
        std::fs::write(file, report::report(&sides, &all))?;
    }
    Ok(())
}

fn choose(wanted: &[String]) -> Result<Vec<&'static Case>> {
    let all = cases::all();
    if let Some(unknown) = wanted
        .iter()
        .find(|w| !all.iter().any(|c| c.name.starts_with(w.as_str())))
    {
        bail!("no case begins with {unknown:?}; --list names them");
    }
    let is_wanted = |case: &&Case| {
        wanted.is_empty() || wanted.iter().any(|w| case.name.starts_with(w.as_str()))
    };
    Ok(all.iter().filter(is_wanted).collect())
}

/// One run to warm up where a case has several, then the counted ones, the sides taking turns.
fn run_case(case: &Case, runs: usize, sides: &mut [Side]) -> Vec<Results> {
    let mut results: Vec<Results> = sides.iter().map(|_| Results::default()).collect();
    let warm_up = usize::from(runs > 1);
    for round in 0..runs + warm_up {
        for (side, result) in sides.iter_mut().zip(&mut results) {
            if result.error.is_some() {
                continue;
            }
            match (case.run)(side) {
                Ok(values) if round >= warm_up => result.add(values),
                Ok(_) => {}
                Err(error) => result.error = Some(format!("{error:#}")),
            }
        }
    }
    for side in sides {
        side.tidy();
    }
    results
}
