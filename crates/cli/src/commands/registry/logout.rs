//! `logout`

use crate::credentials::{self, HUB, hostname};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `logout`
///
/// # Errors
/// Standard output cannot be written; credentials that cannot be erased are warned about.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let server = matches.args.first().map_or("", String::as_str);
    let (shown, keys) = if server.is_empty() {
        (HUB.to_owned(), vec![HUB.to_owned()])
    } else {
        let host = hostname(server).to_owned();
        let keys = vec![
            server.to_owned(),
            host.clone(),
            format!("http://{host}"),
            format!("https://{host}"),
        ];
        (host, keys)
    };
    print::out_line(&format!("Removing login credentials for {shown}"))?;
    let failures: Vec<String> = keys
        .iter()
        .filter_map(|key| {
            let failure = credentials::erase(session, key).err()?;
            Some(format!("{key}: {}", failure.message))
        })
        .collect();
    if failures.len() == keys.len() {
        print::error_line("WARNING: could not erase credentials:");
        failures.iter().for_each(|line| print::error_line(line));
    }
    Ok(())
}
