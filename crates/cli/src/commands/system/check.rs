//! `system check`, an extension.

use serde::Deserialize;

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    layers: usize,
    images: usize,
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Problem {
    kind: String,
    object: String,
    text: String,
    repaired: bool,
}

/// `system check`: one line for each problem; exit code 1 if one remains.
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let repair = matches.on("repair");
    let request = Request::post("/wharf/system/check").query_if(repair, "repair", "1");
    let report: Report = session.client.json(request)?;
    let mut out = String::new();
    for problem in &report.problems {
        let state = if problem.repaired {
            "repaired"
        } else {
            "problem"
        };
        out.push_str(&format!(
            "{state}: {} {}: {}\n",
            problem.kind, problem.object, problem.text
        ));
    }
    let remaining = report
        .problems
        .iter()
        .filter(|problem| !problem.repaired)
        .count();
    out.push_str(&format!(
        "checked {} layers of {} images: {} problems, {remaining} remaining\n",
        report.layers,
        report.images,
        report.problems.len()
    ));
    print::out(&out)?;
    if remaining == 0 {
        Ok(())
    } else {
        Err(Failure::exit(1))
    }
}
