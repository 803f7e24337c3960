//! `container prune`

use wharf_api::container::ContainerPruneReport;

use crate::client::request::Request;
use crate::commands::filter;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::size;

/// `container prune`
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let question =
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !matches.on("force") && !print::confirm(question)? {
        return Ok(());
    }
    let (deleted, reclaimed) = prune(session, &filter::filters(matches).to_query())?;
    let mut out = String::new();
    if !deleted.is_empty() {
        out = format!("Deleted Containers:\n{}\n\n", deleted.join("\n"));
    }
    out.push_str(&format!(
        "Total reclaimed space: {}\n",
        reclaimed_text(reclaimed)
    ));
    print::out(&out)
}

/// Removes stopped containers; their IDs, and the bytes that they took.
///
/// # Errors
/// The daemon refuses.
pub fn prune(session: &Session, filters: &str) -> Result<(Vec<String>, u64), Failure> {
    let request =
        Request::post("/containers/prune").query_if(!filters.is_empty(), "filters", filters);
    let report: ContainerPruneReport = session.client.json(request)?;
    Ok((
        report.containers_deleted.unwrap_or_default(),
        report.space_reclaimed,
    ))
}

/// Reclaimed space as prune commands print it.
pub fn reclaimed_text(bytes: u64) -> String {
    size::decimal(size::as_float(i64::try_from(bytes).unwrap_or(i64::MAX)))
}
