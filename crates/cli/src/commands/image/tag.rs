//! `tag`

use super::reference;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;

/// `tag`
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (source, target) = (&matches.args[0], &matches.args[1]);
    if target.contains('@') {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let (repository, tag) = reference::split(target);
    let request = Request::post(format!("/images/{source}/tag"))
        .query("repo", repository)
        .query("tag", if tag.is_empty() { "latest" } else { tag });
    Ok(session.client.done(request)?)
}
