//! `images --tree`: each image with all its names. Images have one platform here, so the tree has one level.

use wharf_api::image::ImageSummary;

use crate::client::request::Request;
use crate::commands::filter;
use crate::commands::listing::short_id;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::size;
use crate::text::table::{LISTING, align};

/// `images --tree`
///
/// # Errors
/// The daemon refuses, or another flag asks for what a tree does not show.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    for (flag, name) in [
        ("quiet", "quiet"),
        ("no-trunc", "no-trunc"),
        ("digests", "show-digest"),
        ("format", "format"),
    ] {
        if matches.on(flag) || matches.given(flag) && flag == "format" {
            return Err(Failure::new(format!(
                "--{name} is not yet supported with --tree"
            )));
        }
    }
    print::error_line(
        "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.",
    );
    let mut filters = filter::filters(matches);
    if let Some(name) = matches.args.first() {
        filters.add("reference", name.clone());
    }
    let request = Request::get("/images/json")
        .query_if(matches.on("all"), "all", "1")
        .query_if(!filters.is_empty(), "filters", filters.to_query());
    let images: Vec<ImageSummary> = session.client.json(request)?;
    let mut text = String::from("IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA\n");
    for image in &images {
        let names: Vec<&str> = image.repo_tags.iter().map(String::as_str).collect();
        let names = if names.is_empty() {
            vec!["<untagged>"]
        } else {
            names
        };
        let used = if image.containers > 0 { "U" } else { "" };
        for name in names {
            text.push_str(&format!(
                "{name}\t{}\t{}\t0B\t{used}\n",
                short_id(&image.id),
                size::decimal_short(image.size),
            ));
        }
    }
    print::out(&format!("Info ->  U In Use\n\n{}", align(&text, LISTING)))
}
