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
    let reference = reference::parse(target).map_err(|failure| {
        let shown = crate::flags::parse::quote(target);
        Failure::new(format!(
            "Error parsing reference: {shown} is not a valid repository/tag: {}",
            failure.message
        ))
    })?;
    if reference.digest().is_some() {
        return Err(Failure::new(
            "refusing to create a tag with a digest reference",
        ));
    }
    let reference = reference.or_latest();
    let request = Request::post(format!("/images/{source}/tag"))
        .query("repo", reference.familiar_name())
        .query("tag", reference.tag().unwrap_or_default());
    Ok(session.client.done(request)?)
}
