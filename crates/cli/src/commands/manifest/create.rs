//! `manifest create`

use super::local::Lists;
use super::name;
use super::remote::Remote;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `manifest create`
///
/// # Errors
/// The list exists and is not to be amended; an image is not in its registry.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let list = name(&matches.args[0]).map_err(|failure| {
        Failure::new(format!(
            "error parsing name for manifest list {}: {}",
            matches.args[0], failure.message
        ))
    })?;
    let lists = Lists::open(session)?;
    if lists.list(&list)?.is_some() && !matches.on("amend") {
        return Err(Failure::new(
            "refusing to amend an existing manifest list with no --amend flag",
        ));
    }
    let remote = Remote::new(matches.on("insecure"))?;
    for text in &matches.args[1..] {
        let image = name(text)?;
        let entry = match lists.get(&list, &image)? {
            Some(entry) => entry,
            None => {
                let (repository, manifest) = remote.manifest(session, &image)?;
                remote.entry(&image, &repository, &manifest)?
            }
        };
        lists.save(&list, &image, &entry)?;
    }
    print::out_line(&format!("Created manifest list {list}"))
}
