//! `pull`

use super::progress::To;
use super::{get, reference};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `pull`
///
/// # Errors
/// The registry or the daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = reference::parse(&matches.args[0])?;
    if matches.on("all-tags") {
        return Err(Failure::new(
            "pulling all tags of a repository is not supported yet",
        ));
    }
    let (quiet, platform) = (matches.on("quiet"), matches.text_or_empty("platform"));
    if !quiet && name.is_name_only() {
        print::out_line("Using default tag: latest")?;
    }
    let name = name.or_latest();
    get::pull(
        session,
        &name,
        platform,
        if quiet { To::Nowhere } else { To::Stdout },
    )?;
    print::out_line(&name.to_string())
}
