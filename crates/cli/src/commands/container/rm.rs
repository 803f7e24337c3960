//! `rm`

use crate::client::request::Request;
use crate::commands::each::each;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;

/// `rm`
///
/// # Errors
/// Those of every container that could not be removed.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let force = matches.on("force");
    let mut errors = Vec::new();
    let mut names = Vec::new();
    for name in &matches.args {
        match name.trim_matches('/') {
            "" => errors.push("container name cannot be empty"),
            trimmed => names.push(trimmed.to_owned()),
        }
    }
    let done = each(&names, |name| {
        let request = Request::delete(format!("/containers/{name}"))
            .query_if(force, "force", "1")
            .query_if(matches.on("link"), "link", "1")
            .query_if(matches.on("volumes"), "v", "1");
        session.client.done(request)
    });
    match done {
        Err(failure) if force && is_only_missing(&failure.message) => {
            // What was to be gone is gone, so this is no failure; it is told about all the same.
            crate::print::error_line(&failure.message);
            Ok(())
        }
        Err(mut failure) => {
            for error in errors {
                failure.message = format!("{error}\n{}", failure.message);
            }
            Err(failure)
        }
        Ok(()) if !errors.is_empty() => Err(Failure::new(errors.join("\n"))),
        Ok(()) => Ok(()),
    }
}

fn is_only_missing(message: &str) -> bool {
    !message.is_empty()
        && message
            .lines()
            .all(|line| line.contains("No such container"))
}
