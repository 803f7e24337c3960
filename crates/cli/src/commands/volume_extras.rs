//! Commands on volumes that Docker does not have.

use std::fs::File;
use std::io::{self, Read};

use wharf_api::volume::Volume;

use super::image::load::upload_bar;
use super::image::save::{Target, copy};
use crate::client::request::Request;
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::stream::{terminal, write_all};

fn argument(matches: &Matches, n: usize) -> &str {
    matches.args.get(n).map_or("", String::as_str)
}

fn path(matches: &Matches, action: &str) -> String {
    format!("/wharf/volumes/{}/{action}", argument(matches, 0))
}

/// `volume rename`
///
/// # Errors
/// The daemon refuses.
pub fn rename(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let request = Request::post(path(matches, "rename")).query("to", argument(matches, 1));
    Ok(session.client.done(request)?)
}

/// `volume clone`: prints the new name.
///
/// # Errors
/// The daemon refuses.
pub fn clone(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let request = Request::post(path(matches, "clone")).query("to", argument(matches, 1));
    let volume: Volume = session.client.json(request)?;
    print::out_line(&volume.name)
}

/// `volume snapshot`: prints the new name.
///
/// # Errors
/// The daemon refuses.
pub fn snapshot(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let request = Request::post(path(matches, "snapshot")).query("to", argument(matches, 1));
    let volume: Volume = session.client.json(request)?;
    print::out_line(&volume.name)
}

/// `volume export`
///
/// # Errors
/// The daemon refuses, or the archive cannot be written.
pub fn export(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let output = matches.text_or_empty("output");
    if output.is_empty() && terminal::stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let target = (!output.is_empty())
        .then(|| Target::create(output, "failed to export volume"))
        .transpose()?;
    let request = Request::get(path(matches, "archive"));
    let mut body = session.client.send(request)?.body;
    match target {
        None => copy(&mut body, |bytes| write_all(rustix::stdio::stdout(), bytes)),
        Some(mut target) => {
            target.fill(&mut body, "Exporting")?;
            target.finish()
        }
    }
}

/// `volume import`: prints the volume's name.
///
/// # Errors
/// The archive cannot be read, or the daemon refuses.
pub fn import(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (archive, length): (Box<dyn Read>, u64) = match argument(matches, 1) {
        "" | "-" => (Box::new(io::stdin()), 0),
        name => {
            let failed =
                |error: io::Error| Failure::new(format!("open {name}: {}", errno_text(&error)));
            let file = File::open(name).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            (Box::new(file), length)
        }
    };
    let bar = upload_bar(length, false);
    let mut archive = bar.wrap_read(archive);
    let request =
        Request::new("PUT", path(matches, "archive")).stream(&mut archive, "application/x-tar");
    let volume = session.client.json::<Volume>(request);
    bar.finish_and_clear();
    let volume = volume?;
    print::out_line(&volume.name)
}
