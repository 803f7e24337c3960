//! `builder caches`, `builder export-cache`, `builder import-cache`: directories of `RUN --mount=type=cache`.

use std::fs::File;
use std::io::{self, Read};

use serde::Deserialize;

use crate::client::request::Request;
use crate::commands::listing::{Listing, Row};
use crate::commands::{Arity, Command, switch, text};
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::age;
use crate::text::size::{as_float, decimal};

/// The commands.
pub const LIST: Command = Command {
    paths: &["builder caches"],
    usage: "[OPTIONS]",
    about: "List the caches of RUN --mount=type=cache",
    arity: Arity::None,
    flags: &[&[
        text("format", "Format output using a custom template"),
        switch("quiet", "Only display IDs").short('q'),
    ]],
    stops_at_first_argument: false,
    run: list,
};

/// `builder export-cache`
pub const EXPORT: Command = Command {
    paths: &["builder export-cache"],
    usage: "[OPTIONS] ID",
    about: "Write a cache of RUN --mount=type=cache to a tar archive",
    arity: Arity::Exactly(1),
    flags: &[&[text("output", "Write to a file, instead of STDOUT").short('o')]],
    stops_at_first_argument: false,
    run: export,
};

/// `builder import-cache`
pub const IMPORT: Command = Command {
    paths: &["builder import-cache"],
    usage: "[OPTIONS] ID",
    about: "Make a cache of RUN --mount=type=cache from a tar archive",
    arity: Arity::Exactly(1),
    flags: &[&[text("input", "Read from a file, instead of STDIN").short('i')]],
    stops_at_first_argument: false,
    run: import,
};

const LISTING: Listing = Listing {
    type_name: "*formatter.cacheContext",
    headers: &[("ID", "ID"), ("Size", "SIZE"), ("LastUsed", "LAST USED")],
    table: "{{.ID}}\t{{.Size}}\t{{.LastUsed}}",
    quiet: "{{.ID}}",
    raw: None,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Cache {
    #[serde(rename = "ID")]
    id: String,
    size: i64,
    last_used: i64,
}

fn list(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let caches: Vec<Cache> = session.client.json(Request::get("/wharf/build/caches"))?;
    let now = jiff::Timestamp::now();
    let rows: Vec<Row> = caches
        .iter()
        .map(|cache| {
            let used = jiff::Timestamp::from_second(cache.last_used).unwrap_or_default();
            Row::new()
                .with("ID", cache.id.clone())
                .with("Size", decimal(as_float(cache.size)))
                .with("LastUsed", age::since(used, now))
        })
        .collect();
    let format = matches.text_or_empty("format");
    print::out(&LISTING.render(format, matches.on("quiet"), &rows)?)
}

fn export(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let output = matches.text_or_empty("output");
    if output.is_empty() && crate::stream::terminal::stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to write to a terminal. Use the -o flag or redirect",
        ));
    }
    let request = Request::get("/wharf/build/caches/archive").query("id", &matches.args[0]);
    let mut body = session.client.send(request)?.body;
    if output.is_empty() {
        io::copy(&mut body, &mut io::stdout().lock())?;
        return Ok(());
    }
    let failed = |error: io::Error| Failure::new(format!("open {output}: {}", errno_text(&error)));
    let mut file = File::create(output).map_err(failed)?;
    io::copy(&mut body, &mut file).map(drop).map_err(failed)
}

fn import(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let mut input: Box<dyn Read> = match matches.text_or_empty("input") {
        "" => Box::new(io::stdin()),
        path => Box::new(
            File::open(path)
                .map_err(|error| Failure::new(format!("open {path}: {}", errno_text(&error))))?,
        ),
    };
    let request = Request::new("PUT", "/wharf/build/caches/archive")
        .query("id", &matches.args[0])
        .stream(&mut input, "application/x-tar");
    Ok(session.client.done(request)?)
}
