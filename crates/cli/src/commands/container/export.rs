//! `export`

use crate::client::request::Request;
use crate::commands::image::save::{Target, copy};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;
use crate::stream::{terminal, write_all};

/// `export`
///
/// # Errors
/// The container does not exist, or the archive cannot be written.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let output = matches.text_or_empty("output");
    if output.is_empty() && terminal::stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let target = (!output.is_empty())
        .then(|| Target::create(output, "failed to export container"))
        .transpose()?;
    let name = matches.args.first().map_or("", String::as_str);
    let request = Request::get(format!("/containers/{name}/export"));
    let mut body = session.client.send(request)?.body;
    match target {
        None => copy(&mut body, |bytes| write_all(rustix::stdio::stdout(), bytes)),
        Some(mut target) => {
            target.fill(&mut body, "Exporting")?;
            target.finish()
        }
    }
}
