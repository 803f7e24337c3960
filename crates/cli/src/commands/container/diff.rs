//! `diff`

use wharf_api::container::FilesystemChange;

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `diff`: one line per changed path.
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = matches.args.first().map_or("", String::as_str);
    if name.is_empty() {
        return Err(Failure::new("Container name cannot be empty"));
    }
    let changes: Option<Vec<FilesystemChange>> = session
        .client
        .json(Request::get(format!("/containers/{name}/changes")))?;
    let mut out = String::new();
    for change in changes.into_iter().flatten() {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        out.push_str(&format!("{kind} {}\n", change.path));
    }
    print::out(&out)
}
