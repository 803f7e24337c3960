//! `rmi`

use wharf_api::image::DeleteItem;

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `rmi`
///
/// # Errors
/// Those of every image that could not be removed; with `-f` one that does not exist is no failure.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let force = matches.on("force");
    let (mut errors, mut fatal) = (Vec::new(), false);
    for name in &matches.args {
        let request = Request::delete(format!("/images/{name}"))
            .query_if(force, "force", "1")
            .query_if(matches.on("no-prune"), "noprune", "1");
        match session.client.json::<Vec<DeleteItem>>(request) {
            Ok(items) => print::out(&lines(&items))?,
            Err(error) => {
                fatal |= error.status() != Some(404);
                errors.push(error.to_string());
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    if force && !fatal {
        print::error_line(&errors.join("\n"));
        return Ok(());
    }
    Err(Failure::new(errors.join("\n")))
}

/// What was deleted and untagged, a line each.
pub fn lines(items: &[DeleteItem]) -> String {
    items
        .iter()
        .map(|item| {
            if item.deleted.is_empty() {
                format!("Untagged: {}\n", item.untagged)
            } else {
                format!("Deleted: {}\n", item.deleted)
            }
        })
        .collect()
}
