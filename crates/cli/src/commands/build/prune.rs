//! `builder prune`

use serde::Deserialize;

use crate::client::request::Request;
use crate::commands::container::prune::reclaimed_text;
use crate::commands::{Arity, Command, filter, switch, text};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::request::resources;
use crate::session::Session;

/// The command.
pub const COMMAND: Command = Command {
    paths: &["builder prune"],
    usage: "[OPTIONS]",
    about: "Remove build cache",
    arity: Arity::None,
    flags: &[&[
        switch(
            "all",
            "Remove all unused build cache, not just dangling ones",
        )
        .short('a'),
        filter::LONG_FLAG,
        switch("force", "Do not prompt for confirmation").short('f'),
        text("keep-storage", "Amount of disk space to keep for cache")
            .value("bytes")
            .check(resources::check_bytes),
    ]],
    stops_at_first_argument: false,
    run,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Report {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// `builder prune`
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let all = matches.on("all");
    let what = if all {
        "all build cache"
    } else {
        "all dangling build cache"
    };
    let question = format!("WARNING! This will remove {what}. Are you sure you want to continue?");
    if !matches.on("force") && !print::confirm(&question)? {
        return Ok(());
    }
    let keep = matches
        .text("keep-storage")
        .map(crate::text::size::parse_binary)
        .transpose()
        .map_err(Failure::new)?
        .unwrap_or_default();
    let filters = filter::filters(matches);
    let request = Request::post("/build/prune")
        .query_if(all, "all", "1")
        .query("filters", filters.to_query())
        .query_if(keep > 0, "keep-storage", keep.to_string());
    let report: Report = session.client.json(request)?;
    let mut out = String::new();
    let deleted = report.caches_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        out = format!("Deleted build cache objects:\n{}\n\n", deleted.join("\n"));
    }
    out.push_str(&format!(
        "Total reclaimed space: {}\n",
        reclaimed_text(report.space_reclaimed)
    ));
    print::out(&out)
}
