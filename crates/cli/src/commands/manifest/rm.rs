//! `manifest rm`

use super::local::{Lists, no_such};
use super::name;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;

/// `manifest rm`
///
/// # Errors
/// One of the lists does not exist; the others are removed.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let lists = Lists::open(session)?;
    let failures: Vec<String> = matches
        .args
        .iter()
        .filter_map(|text| remove(&lists, text).err())
        .map(|failure| failure.message)
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}

fn remove(lists: &Lists, text: &str) -> Result<(), Failure> {
    let list = name(text)?;
    if lists.list(&list)?.is_none() {
        return Err(no_such(&list));
    }
    lists.remove(&list)
}
