//! `history`

use jiff::Timestamp;
use wharf_api::image::HistoryItem;

use crate::client::request::Request;
use crate::commands::listing::{Listing, Row, ellipsis, short_id};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::{age, size};

const HISTORY: Listing = Listing {
    type_name: "*image.historyContext",
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    raw: None,
};

/// `history`
///
/// # Errors
/// The image does not exist, or the format does not fit.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = &matches.args[0];
    let platform = matches.text_or_empty("platform");
    let request = Request::get(format!("/images/{name}/history")).query_if(
        !platform.is_empty(),
        "platform",
        platform,
    );
    let items: Vec<HistoryItem> = session.client.json(request)?;
    let human = matches.on_or("human", true);
    let listing = if human {
        HISTORY
    } else {
        Listing {
            table: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            ..HISTORY
        }
    };
    let (truncate, now) = (!matches.on("no-trunc"), Timestamp::now());
    let rows: Vec<Row> = items
        .iter()
        .map(|item| row(item, human, truncate, now))
        .collect();
    print::out(&listing.render(matches.text_or_empty("format"), matches.on("quiet"), &rows)?)
}

fn row(item: &HistoryItem, human: bool, truncate: bool, now: Timestamp) -> Row {
    let created_by = item.created_by.replace('\t', " ");
    let since = if item.created <= 0 {
        "N/A".into()
    } else {
        age::since_unix(item.created, now)
    };
    Row::new()
        .with("Comment", item.comment.clone())
        .with("CreatedAt", created_at(item.created))
        .with(
            "CreatedBy",
            if truncate {
                ellipsis(&created_by, 45)
            } else {
                created_by
            },
        )
        .with("CreatedSince", since)
        .with(
            "ID",
            if truncate {
                short_id(&item.id)
            } else {
                item.id.clone()
            },
        )
        .with(
            "Size",
            if human {
                size::decimal_short(item.size)
            } else {
                item.size.to_string()
            },
        )
}

/// RFC 3339 in local time.
fn created_at(seconds: i64) -> String {
    let Ok(at) = Timestamp::from_second(seconds) else {
        return String::new();
    };
    let text = at
        .to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string();
    text.strip_suffix("+00:00")
        .map_or(text.clone(), |utc| format!("{utc}Z"))
}
