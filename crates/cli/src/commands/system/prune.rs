//! `system prune`

use crate::commands::container::prune as containers;
use crate::commands::{filter, image, network, volume};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `system prune`
///
/// # Errors
/// The daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (all, volumes) = (matches.on("all"), matches.on("volumes"));
    let filters = filter::filters(matches);
    if volumes && filters.contains("until") {
        return Err(Failure::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !matches.on("force") && !print::confirm(&question(matches, all, volumes))? {
        return Ok(());
    }
    let query = filters.to_query();
    let mut reclaimed = 0;
    let (deleted, bytes) = containers::prune(session, &query)?;
    reclaimed += bytes;
    section("Deleted Containers", &deleted)?;
    section("Deleted Networks", &network::prune(session, &query)?)?;
    if volumes {
        let (deleted, bytes) = volume::prune(session, &filters)?;
        reclaimed += bytes;
        section("Deleted Volumes", &deleted)?;
    }
    let (deleted, bytes) = image::prune::prune(session, all, filters)?;
    reclaimed += bytes;
    if !deleted.is_empty() {
        print::out(&format!("Deleted Images:\n{deleted}\n"))?;
    }
    print::out_line(&format!(
        "Total reclaimed space: {}",
        containers::reclaimed_text(reclaimed)
    ))
}

fn section(title: &str, deleted: &[String]) -> Result<(), Failure> {
    if deleted.is_empty() {
        Ok(())
    } else {
        print::out(&format!("{title}:\n{}\n\n", deleted.join("\n")))
    }
}

fn question(matches: &Matches, all: bool, volumes: bool) -> String {
    let mut text = String::from(
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n",
    );
    if volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    });
    text.push_str(if all {
        "  - all build cache\n"
    } else {
        "  - unused build cache\n"
    });
    if !matches.list("filter").is_empty() {
        text.push_str(&format!(
            "\n  Items to be pruned will be filtered with:\n  - {}\n",
            matches.list("filter").join("\n  - ")
        ));
    }
    text + "\nAre you sure you want to continue?"
}
