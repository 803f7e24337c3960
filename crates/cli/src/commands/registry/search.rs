//! `search`

use serde::Deserialize;

use crate::client::request::Request;
use crate::commands::filter;
use crate::commands::listing::{Listing, Row, ellipsis};
use crate::credentials::{self, HUB};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

const LISTING: Listing = Listing {
    type_name: "*registry.searchContext",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
    ],
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "{{.Name}}",
    raw: None,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hit {
    name: String,
    description: String,
    star_count: i64,
    is_official: bool,
}

/// `search`
///
/// # Errors
/// The registry or the daemon refuses.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let term = &matches.args[0];
    let filters = filter::filters(matches);
    if filters.contains("is-automated") {
        print::error_line(
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not yield any results in future.",
        );
    }
    let limit = matches
        .text("limit")
        .filter(|limit| *limit != "0")
        .unwrap_or("");
    let auth = credentials::get(session, server_of(term)).unwrap_or_default();
    let request = Request::get("/images/search")
        .query("term", term)
        .query_if(!limit.is_empty(), "limit", limit)
        .query_if(!filters.is_empty(), "filters", filters.to_query())
        .header("X-Registry-Auth", auth.header());
    let hits: Vec<Hit> = session.client.json(request)?;
    let whole = matches.on("no-trunc");
    let rows: Vec<Row> = hits.iter().map(|hit| row(hit, whole)).collect();
    print::out(&LISTING.render(matches.text_or_empty("format"), false, &rows)?)
}

fn server_of(term: &str) -> &str {
    match term.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "docker.io" | "index.docker.io" => HUB,
            other => other,
        },
        _ => HUB,
    }
}

fn row(hit: &Hit, whole: bool) -> Row {
    let description = hit.description.replace(['\n', '\r'], " ");
    let description = if whole {
        description
    } else {
        ellipsis(&description, 45)
    };
    Row::new()
        .with("Description", description)
        .with("IsOfficial", if hit.is_official { "[OK]" } else { "" })
        .with("Name", hit.name.clone())
        .with("StarCount", hit.star_count.to_string())
}
