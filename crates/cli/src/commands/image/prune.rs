//! `image prune`

use wharf_api::filters::Filters;
use wharf_api::image::ImagePruneReport;

use super::rm;
use crate::client::request::Request;
use crate::commands::container::prune::reclaimed_text;
use crate::commands::filter;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `image prune`
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let all = matches.on("all");
    let what = if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !matches.on("force") && !print::confirm(&question)? {
        return Ok(());
    }
    let (deleted, reclaimed) = prune(session, all, filter::filters(matches))?;
    let mut out = String::new();
    if !deleted.is_empty() {
        out = format!("Deleted Images:\n{deleted}\n");
    }
    out.push_str(&format!(
        "Total reclaimed space: {}\n",
        reclaimed_text(reclaimed)
    ));
    print::out(&out)
}

/// Removes unused images; what was removed, a line each, and the bytes that it took.
///
/// # Errors
/// The daemon refuses.
pub fn prune(session: &Session, all: bool, mut filters: Filters) -> Result<(String, u64), Failure> {
    filters.add("dangling", (!all).to_string());
    let request = Request::post("/images/prune").query("filters", filters.to_query());
    let report: ImagePruneReport = session.client.json(request)?;
    let lines = rm::lines(report.images_deleted.as_deref().unwrap_or_default());
    // The same lines as those of `rmi`, in lower case.
    Ok((
        lines
            .replace("Untagged: ", "untagged: ")
            .replace("Deleted: ", "deleted: "),
        report.space_reclaimed,
    ))
}
