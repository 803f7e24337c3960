//! `credential-helper`: our store of credentials for other clients, by the protocol of docker-credential-helpers.

use std::io::Read as _;

use crate::credentials;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `credential-helper`; also what a link called `docker-credential-wharf` does.
///
/// # Errors
/// There are no such credentials, or they cannot be kept. As the protocol wants it, the reason is on standard output.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let verb = matches.args[0].as_str();
    let mut input = String::new();
    if verb != "list" {
        std::io::stdin().read_to_string(&mut input)?;
    }
    match credentials::help(session, verb, &input) {
        Ok(text) if text.is_empty() => Ok(()),
        Ok(text) => print::out_line(&text),
        Err(failure) => {
            print::out_line(&failure.message)?;
            Err(Failure::exit(1))
        }
    }
}
