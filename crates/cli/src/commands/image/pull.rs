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
    let all = matches.on("all-tags");
    if all && !name.is_name_only() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let (quiet, platform) = (matches.on("quiet"), platform(matches)?);
    if !quiet && !all && name.is_name_only() {
        print::out_line("Using default tag: latest")?;
    }
    let name = if all { name } else { name.or_latest() };
    get::pull(
        session,
        &name,
        &platform,
        if quiet { To::Nowhere } else { To::Stdout },
    )?;
    print::out_line(&name.to_string())
}

/// `--platform`, or else `DOCKER_DEFAULT_PLATFORM`.
fn platform(matches: &Matches) -> Result<String, Failure> {
    let given = matches.text("platform").map(str::to_owned);
    let platform = given
        .or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok())
        .unwrap_or_default();
    if !platform.is_empty() {
        wharf_spec::platform::Platform::parse(&platform)
            .map_err(|error| Failure::new(error.to_string()))?;
    }
    Ok(platform)
}
