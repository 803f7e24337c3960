//! `load`

use std::fs::File;
use std::io::{Read, stdin};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::{self, To};
use crate::client::request::Request;
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::session::Session;
use crate::stream::terminal;

/// `load`
///
/// # Errors
/// Nothing to read from; the archive is refused.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let path = matches.text_or_empty("input");
    let quiet = matches.on("quiet") || !terminal::stdout_is_terminal();
    let platform = matches.text_or_empty("platform");
    let (mut input, length) = open(path)?;
    let bar = upload_bar(length, quiet);
    let mut input = bar.wrap_read(&mut input);
    let request = Request::post("/images/load")
        .query("quiet", if quiet { "1" } else { "0" })
        .query_if(!platform.is_empty(), "platform", platform)
        .stream(&mut input, "application/x-tar");
    let response = session.client.send(request);
    bar.finish_and_clear();
    progress::show(&mut response?.body, To::Stdout)
}

fn open(path: &str) -> Result<(Box<dyn Read>, u64), Failure> {
    if path.is_empty() {
        if terminal::stdin_is_terminal() {
            return Err(Failure::new(
                "requested load from stdin, but stdin is empty",
            ));
        }
        return Ok((Box::new(stdin().lock()), 0));
    }
    let error =
        |error: std::io::Error| Failure::new(format!("open {path}: {}", errno_text(&error)));
    let file = File::open(path).map_err(error)?;
    let length = file.metadata().map_err(error)?.len();
    Ok((Box::new(file), length))
}

/// Bytes sent, on a terminal.
pub fn upload_bar(length: u64, quiet: bool) -> ProgressBar {
    if quiet || !terminal::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar =
        ProgressBar::with_draw_target((length > 0).then_some(length), ProgressDrawTarget::stderr());
    let template = if length > 0 {
        "Sending {bar:30.cyan} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}"
    } else {
        "Sending {decimal_bytes} {decimal_bytes_per_sec}"
    };
    bar.set_style(
        ProgressStyle::with_template(template).expect("the template is a constant that parses"),
    );
    bar
}
