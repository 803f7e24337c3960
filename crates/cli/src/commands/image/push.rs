//! `push`

use wharf_spec::platform::Platform;

use super::progress::{self, To};
use super::reference;
use crate::client::request::Request;
use crate::credentials;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// Docker's, line by line.
const PLATFORM_NOTE: &str = "\n Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.\n         Other components, like attestations, will not be included.\n         To push the complete multi-platform image, remove the --platform flag.\n         \n";

/// `push`
///
/// # Errors
/// The registry or the daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (all, quiet) = (matches.on("all-tags"), matches.on("quiet"));
    let platform = platform_json(matches.text_or_empty("platform"))?;
    if !platform.is_empty() {
        print::out(PLATFORM_NOTE)?;
    }
    let mut name = reference::parse(&matches.args[0])?;
    if all && !name.is_name_only() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if !all && name.is_name_only() {
        if !quiet {
            print::out_line("Using default tag: latest")?;
        }
        name = name.or_latest();
    }
    if name.digest().is_some() {
        return Err(Failure::new("cannot push a digest reference"));
    }
    let request = Request::post(format!("/images/{}/push", name.familiar_name()))
        .query("tag", name.tag().unwrap_or(""))
        .query_if(!platform.is_empty(), "platform", &platform)
        .header(
            "X-Registry-Auth",
            credentials::for_image(session, &name).header(),
        );
    let mut response = session.client.send(request)?;
    progress::show(
        &mut response.body,
        if quiet { To::Nowhere } else { To::Stdout },
    )?;
    session.client.keep(response.body);
    if quiet {
        print::out_line(&name.to_string())?;
    }
    Ok(())
}

/// The platform as the API wants it here; empty for none.
fn platform_json(text: &str) -> Result<String, Failure> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let platform = Platform::parse(text).map_err(|error| {
        print::error(&format!("Invalid platform {text}"));
        Failure::new(error.to_string())
    })?;
    serde_json::to_string(&platform).map_err(|error| Failure::new(error.to_string()))
}
